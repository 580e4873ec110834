"""Tiles are kept for calls with equal inputs, and for no others: what one call leaves behind serves the next one."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import maskdsl

LENGTH = 40
GROUPS = """
pattern kept(n) {
    space tokens[n]
    input group: int[tokens]
    attend q.group == k.group or k.group < 0
}
"""
ENTRIES = "pattern kept(n) { space tokens[n] attend (q // 128 + batch) % 4 == k // 128 }"
SEVERAL = """
pattern kept(n) {
    space tokens[n]
    input group: int[batch, tokens]
    attend same(group)
}
"""


def attention_of(text: str, length: int = LENGTH) -> maskdsl.Attention:
    return maskdsl.parse(text)["kept"].bind(n=length, heads=1).compile("tiled")


def check(attention: maskdsl.Attention, attends: np.ndarray, **inputs: Tensor) -> None:
    """The output is torch's own: `attends` is bool [batch, queries, keys]."""
    q, k, v = torch.randn(3, len(attends), 1, attends.shape[1], 8, dtype=torch.float64)
    expected = scaled_dot_product_attention(q, k, v, attn_mask=torch.as_tensor(attends)[:, None]).nan_to_num()
    torch.testing.assert_close(attention(q, k, v, **inputs), expected)


def same(group: np.ndarray) -> np.ndarray:
    return group[..., :, None] == group[..., None, :]


def test_batches_of_other_sizes() -> None:
    """Whose tiles are others in each entry."""
    attention = attention_of(ENTRIES, 512)
    block = np.arange(512) // 128
    for batch in (1, 3, 2):
        check(attention, (block[:, None] + np.arange(batch)[:, None, None]) % 4 == block)


def test_values() -> None:
    attention = attention_of(GROUPS)
    group = torch.arange(LENGTH) // 7
    for size in (7, 11, 3):
        group.copy_(torch.arange(LENGTH) // size)  # also a tensor that was there before
        check(attention, same(group.numpy())[None], group=group)


@pytest.mark.parametrize("first", ["int8", "uint8"])
def test_types(first: str) -> None:
    """-1 and 255 are the same byte."""
    attention = attention_of(GROUPS)
    group = torch.arange(LENGTH, dtype=torch.int8) // 7
    group[::5] = -1
    other = group.view(torch.uint8)
    for each in (group, other) if first == "int8" else (other, group):
        values = each.numpy().astype(int)
        check(attention, (same(values) | (values < 0))[None], group=each)


def test_entries_of_a_batch_in_another_order() -> None:
    attention = attention_of(SEVERAL)
    group = torch.stack([torch.arange(LENGTH) // size for size in (3, 17)])
    for each in (group, group.flip(0), group[:1]):
        check(attention, same(each.numpy()), group=each)
