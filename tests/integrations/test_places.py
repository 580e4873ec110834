"""Where tokens stand among the slots of a batch, and which masks are padding, by hand; no library of models."""

import pytest
import torch

import maskdsl
from maskdsl.integrations.padding import present_keys, without_padding
from maskdsl.integrations.positions import positions_of


def test_tokens_are_numbered_without_padding() -> None:
    present = torch.tensor([[False, False, True, True, True], [True, True, False, True, True]])
    positions = positions_of(2, 5, 5, 0, 0, present, "cpu")
    assert positions.slots[:, :5].tolist() == [[2, 3, 4, -1, -1], [0, 1, 3, 4, -1]]
    assert (positions.slots[:, 5:] == -1).all()
    assert positions.order.tolist() == [[2, 3, 4, 0, 1], [0, 1, 3, 4, 2]]
    assert positions.start.tolist() == [0, 0]


def test_what_a_cache_has_dropped() -> None:
    """Seven slots up to now, of which the first three are no longer there; the last two are queries."""
    present = torch.tensor([[True] * 7, [False] + [True] * 6])
    positions = positions_of(2, 2, 4, 5, 3, present, "cpu")
    assert positions.slots[:, :7].tolist() == [[-1, -1, -1, 0, 1, 2, 3], [-1, -1, 0, 1, 2, 3, -1]]
    assert positions.start.tolist() == [5, 4]
    assert positions.pages(4)[:, :7].tolist() == [[-1, -1, -1, 0, 1, 2, 3], [-1, -1, 4, 5, 6, 7, -1]]


def test_a_mask_is_padding_or_not() -> None:
    keys = torch.tensor([[True, True, False], [True, False, False]])
    whole = keys[:, None, None].expand(2, 2, 4, 3)
    added = torch.zeros(whole.shape).masked_fill(~whole, torch.finfo(torch.float32).min)
    for mask in (keys[:, None, None], whole, added):
        assert present_keys("p", mask, 2, 3, False).tolist() == keys.tolist()
    unread = whole.clone()
    unread[0, :, 3] = False  # a query that is padding itself
    assert present_keys("p", unread, 2, 3, False).tolist() == keys.tolist()
    out = without_padding(torch.ones(2, 2, 4, 5), unread)
    assert not out[0, :, 3].any() and bool(out[0, :, :3].all()) and bool(out[1].all())
    of_one_head, of_one_query, biased = whole.clone(), whole.clone(), added.clone()
    of_one_head[0, 1, :, 0] = False
    of_one_query[0, :, 2, 0] = False
    biased[0, 0, 0, 0] = -3.0
    for mask in (of_one_head, of_one_query, biased):
        with pytest.raises(maskdsl.AttnError, match="a mask of its own"):
            present_keys("p", mask, 2, 3, False)
        assert present_keys("p", mask, 2, 3, True).all()
