"""Masks of papers, as people write them for FlexAttention: recognised, with no number of theirs that is data.

`test_attention_gym.py` runs those of attention-gym at several sizes, where that is installed.
"""

import warnings

import numpy as np
import pytest
import torch

import maskdsl


def imported(function, n, keys=None, heads=1, one_by_one=False):
    """The import of a mask function, equal on all pairs, without a warning. So is its text."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = maskdsl.from_mask_mod(function, n, keys, heads=heads)
    queries, others = torch.arange(n), torch.arange(keys or n)
    again = maskdsl.parse(found.text)["imported"].bind(heads=found.mask.heads)
    for head in range(heads):
        if one_by_one:
            pairs = torch.tensor([[bool(function(0, head, q, k)) for k in others] for q in queries])
        else:
            pairs = function(0, head, queries[:, None], others)
        for mask in (found.mask, again):
            here = mask.dense(head if mask.heads > 1 else 0, **found.inputs)
            np.testing.assert_array_equal(here, pairs.numpy())
    return found


def block_diffusion(n, block):
    """Noised tokens see their own block, and earlier blocks of the clean ones, which are causal by blocks."""

    def attends(b, h, q, k):
        is_clean, other_clean = q >= n, k >= n
        here, there = q % n // block, k % n // block
        own = (here == there) & (is_clean == other_clean)
        return own | (other_clean & (there < here))

    return attends


@pytest.mark.parametrize(("n", "block"), [(20, 4), (22, 1), (23, 5)])
def test_block_diffusion(n, block):
    found = imported(block_diffusion(n, block), 2 * n)
    assert "tokens noised ++ clean" in found.text and not found.inputs
    longer = maskdsl.parse(found.text)["imported"].bind(n=3 * n)
    q, k = torch.arange(6 * n)[:, None], torch.arange(6 * n)
    np.testing.assert_array_equal(longer.dense(), block_diffusion(3 * n, block)(0, 0, q, k).numpy())


@pytest.mark.parametrize("at", [(3, 31), (0, 20), (5, 6, 7, 39)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_global_tokens_anywhere(at, is_causal):
    g = torch.zeros(40, dtype=torch.bool)
    g[list(at)] = True

    def attends(b, h, q, k):
        return (((q - k).abs() <= 4) | g[q] | g[k]) & ((q >= k) | (not is_causal))

    found = imported(attends, 40)
    band = "backward(5)" if is_causal else "window(9)"
    assert found.pattern == (f"causal and (q.g or k.g or {band})" if is_causal else f"q.g or k.g or {band}")
    assert found.inputs["g"].tolist() == g.tolist()


def tiled(index, height, width, tile):
    """Row and column of the token of this number, where tiles lie one after the other."""
    number, inside = index // tile**2, index % tile**2
    return number // (width // tile) * tile + inside // tile, number % (width // tile) * tile + inside % tile


def morton(index):
    return sum((index >> 2 * j + 1 & 1) << j for j in range(5)), sum((index >> 2 * j & 1) << j for j in range(5))


@pytest.mark.parametrize(
    ("order", "shape"), [(lambda i: tiled(i, 8, 12, 4), (8, 12)), (morton, (8, 8))], ids=["tiles", "morton"]
)
def test_neighbourhoods_of_tokens_in_another_order(order, shape):
    def attends(b, h, q, k):
        near = True
        for a, c, length in zip(order(q), order(k), shape, strict=True):
            near &= (c - torch.as_tensor(a).clamp(2, length - 3)).abs() <= 2
        return near

    found = imported(attends, shape[0] * shape[1])
    assert found.pattern == "neighborhood(5, axis = y) and neighborhood(5, axis = x)"
    assert "coord y = " in found.text and not found.inputs


def test_tiles_of_an_image_are_named_by_its_axes():
    def attends(b, h, q, k):
        image = (q < 96) & (k < 96)
        y, x = (q // 4 // 6 - k // 4 // 6).abs(), (q // 4 % 6 - k // 4 % 6).abs()
        return ~image | ((y <= 1) & (x <= 1))

    found = imported(attends, 96 + 5)
    assert "space grid[y = h, x = w, inside = size]" in found.text and "tokens grid ++ text" in found.text
    assert found.pattern.endswith("window(3, axis = y) and window(3, axis = x)")


MEDIA = {
    "an interval of queries each": ([[0, 20], [5, 12], [10, 30]], "k.first <= q and q < k.end"),
    "media in turn": ([[0, 9], [9, 21], [21, 30]], "q.query_media == k.key_media"),
    "all earlier media": ([[0, 30], [9, 30], [21, 30]], "k < q.end"),
}


@pytest.mark.parametrize("media", MEDIA)
def test_cross_attention_to_media(media):
    intervals, pattern = MEDIA[media]
    table = torch.tensor(intervals)

    def attends(b, h, q, k):
        interval = table[k // 4]
        return (q >= interval[0]) & (q < interval[1])

    found = imported(attends, 30, 12, one_by_one=True)
    assert found.pattern == pattern and all(values.ndim == 1 for values in found.inputs.values())


def ancestors(*parents):
    """Which node is an ancestor of which, or itself."""
    table = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents[1:], 1):
        table[node] |= table[parent]
    return table


def test_trees_of_drafts():
    tree = ancestors(-1, 0, 0, 1, 1, 2, 5)

    def attends(b, h, q, k):
        return (k < 9) | tree[q, (k - 9).clamp(min=0)]

    found = imported(attends, 7, 16)
    assert found.pattern == "(draft -> context) or (draft -> draft where ancestor[q.draft, k.draft])"
    assert found.inputs["ancestor"].tolist() == tree.tolist()

    def in_one_sequence(b, h, q, k):
        is_draft = (q >= 9) & (k >= 9)
        return (q >= k) & (~is_draft | tree[(q - 9).clamp(min=0), (k - 9).clamp(min=0)])

    found = imported(in_one_sequence, 16)
    assert found.pattern == "(all -> context where causal) or (draft -> draft where ancestor[q.draft, k.draft])"


def test_drafts_in_blocks():
    def attends(b, h, q, k):
        return (k < 10) | ((k - 10 <= q) & ((k - 10) // 4 == q // 4))

    found = imported(attends, 20, 30)
    assert found.pattern.endswith("draft -> draft where causal(axis = draft) and blocks(4, axis = draft))")


def numbers(lengths):
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))


PACKINGS = [(16, 14), (15, 15), (9, 12, 6, 13), (10, 16, 4), (8, 22)]
"""Lengths of documents, some of which look like blocks of one size."""


@pytest.mark.parametrize("lengths", PACKINGS)
@pytest.mark.parametrize("is_causal", [True, False])
def test_a_packing_is_data(lengths, is_causal):
    document = numbers(lengths)
    found = imported(lambda b, h, q, k: (document[q] == document[k]) & ((q >= k) | (not is_causal)), sum(lengths))
    assert found.pattern == ("causal and " if is_causal else "") + "same(document)"
    assert found.inputs["document"].tolist() == document.tolist()


@pytest.mark.parametrize(("lengths", "of"), [((10, 7, 9), (0, 0, 0)), ((6, 5, 7, 8, 4), (0, 0, 2, 2, 2))])
def test_shared_prefixes(lengths, of):
    document, prefix = numbers(lengths), torch.tensor(of)

    def attends(b, h, q, k):
        here, there = document[q], document[k]
        return ((here == there) & (q >= k)) | ((here != there) & (prefix[here] == there))

    found = imported(attends, sum(lengths))
    assert found.pattern == "causal and same(document) or k.document == q.prefix"


def test_a_prefix_and_one_answer_are_documents():
    """That all of a document but its own tokens is before it does not show in these pairs."""
    document, prefix = numbers((10, 6, 4, 10)), torch.tensor([0, 0, 2, 2])

    def attends(b, h, q, k):
        here, there = document[q], document[k]
        return ((here == there) & (q >= k)) | ((here != there) & (prefix[here] == there))

    found = imported(attends, 30)
    assert found.pattern == "causal and same(document)" and found.inputs["document"].tolist() == [0] * 16 + [1] * 14


def test_a_prefix_of_each_document_is_an_interval():
    document = numbers((12, 9, 14))
    start = torch.tensor([0, 12, 21])

    def attends(b, h, q, k):
        return (document[q] == document[k]) & ((q >= k) | (k - start[document[k]] < 3))

    assert imported(attends, 35).pattern == "q.first <= k and k < q.end"


def test_groups_that_are_spread():
    group = torch.arange(36) * 7 % 5
    found = imported(lambda b, h, q, k: group[q] == group[k], 36)
    assert found.pattern == "dilated(5)"
    group = torch.tensor(np.random.default_rng(0).integers(0, 4, 36))
    found = imported(lambda b, h, q, k: group[q] == group[k], 36)
    assert found.pattern == "same(document)"


def test_a_table_of_tiles():
    chosen = torch.tensor(np.random.default_rng(1).random((2, 6, 6)) < 0.5)
    found = imported(lambda b, h, q, k: chosen[h, q // 8, k // 8], 48, heads=2)
    assert found.pattern == "tiles[head, q // 8, k // 8]"
    assert found.inputs["tiles"].tolist() == chosen.tolist()


NUMBERS = {
    "a distance": lambda b, h, q, k: q - k,
    "a score": lambda b, h, q, k: torch.where(q >= k, 0.0, -torch.inf),
    "zero or one": lambda b, h, q, k: (q >= k).long(),
    "of Python": lambda b, h, q, k: int(q) - int(k),
}


@pytest.mark.parametrize("function", NUMBERS)
def test_a_function_that_returns_numbers(function):
    with pytest.raises(maskdsl.AttnError, match="E640"):
        maskdsl.from_mask_mod(NUMBERS[function], 8)


def test_lengths_by_position():
    assert maskdsl.from_mask_mod(lambda b, h, q, k: q >= k, 30).pattern == "causal"
    assert maskdsl.from_mask_mod(lambda b, h, q, k: q >= k, 20, 30).mask.key_length == 30


def test_functions_of_one_pair():
    """As FlexAttention calls them: entries of a small table are no tensors of all pairs."""
    table = torch.tensor([[0, 9], [4, 20]])

    def attends(b, h, q, k):
        low, high = table[k // 10]
        return (low <= q) & (q < high)

    assert imported(attends, 16, 20, one_by_one=True).pattern == "q.first <= k and k < q.end"
