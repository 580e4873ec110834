"""Dropout by hand, for tests of every backend: the hash of docs/language.md, and attention that drops pairs by it."""

import numpy as np
import torch
from torch import Tensor

import maskdsl

RATE, SEED, LENGTH = 0.3, 2**40 + 77, 21
_LOW = np.uint64(0xFFFFFFFF)
PATTERN = """
pattern p(n = 21) {{
    space t[n]
    input worth: float[batch, t]
    attend causal and q != 3
    weight k.worth * q.worth
    {}
}}
"""
WAYS = {"softmax": "sink 0.5", "laid out": "order by -i", "none": "normalize none", "by key": "normalize softmax by k"}


def words(*numbers: object) -> np.ndarray:
    """`random(...)` of arrays of integers."""
    state = np.uint64(0)
    for number in numbers:
        state = (state ^ (np.asarray(number).astype(np.int64).astype(np.uint64) & _LOW)) + np.uint64(0x1E3779B9)
        state = state & _LOW
        for shift, factor in ((16, 0x7FEB352D), (15, 0x045D9F3B), (16, 1)):
            state = ((state ^ (state >> np.uint64(shift))) * np.uint64(factor)) & _LOW
    return state >> np.uint64(1)


def kept(batch: int, heads: int, length: int) -> Tensor:
    """bool [batch, heads, queries, keys]: which pairs are not dropped."""
    entry, head, i = np.arange(batch)[:, None, None, None], np.arange(heads)[:, None, None], np.arange(length)
    return torch.tensor(words(SEED, entry, head, i[:, None], i[None]) >= RATE * 2**31)


def expected(way: str, q: Tensor, k: Tensor, v: Tensor, worth: Tensor) -> Tensor:
    s = q @ k.repeat_interleave(2, dim=1).mT * q.shape[-1] ** -0.5
    attends = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril() & (torch.arange(LENGTH) != 3)[:, None]
    if way == "none":
        p = s.masked_fill(~attends, 0)
    elif way == "by key":
        p = s.masked_fill(~attends, -torch.inf).softmax(dim=-2)
    else:
        sink = [torch.full_like(s[..., :1], 0.5)] if way == "softmax" else []
        ends = torch.cat([s.masked_fill(~attends, -torch.inf), *sink], dim=-1)
        p = ends.softmax(dim=-1).nan_to_num()[..., :LENGTH]
    p = p * kept(len(q), q.shape[1], LENGTH) / (1 - RATE) * worth[:, None, :, None] * worth[:, None, None]
    return p @ v.repeat_interleave(2, dim=1)


def check(way: str, backend: str) -> None:
    """All queries with all gradients, the last ones alone, and packed sequences."""
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 4, LENGTH, 8), (2, 2, LENGTH, 8), (2, 2, LENGTH, 8), (2, LENGTH))
    leaves = [torch.randn(x, generator=random, dtype=torch.float64).requires_grad_() for x in shapes]
    wanted, (*tensors, worth) = expected(way, *leaves), leaves
    attention = maskdsl.parse(PATTERN.format(WAYS[way]))["p"].bind(heads=4).compile(backend)
    how = {"dropout_p": RATE, "seed": SEED, "worth": worth}
    found = attention(*tensors, **how)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    toward = torch.randn(found.shape, generator=random, dtype=torch.float64)
    pairs = zip(*(torch.autograd.grad(x, leaves, toward) for x in (found, wanted)), strict=True)
    for grad, wanted_grad in pairs:
        torch.testing.assert_close(grad, wanted_grad, rtol=0, atol=1e-11)
    if way != "by key":
        with torch.no_grad():
            last = attention(tensors[0][:, :, 18:], *tensors[1:], query_start=18, **how)
        torch.testing.assert_close(last, wanted[:, :, 18:], rtol=0, atol=1e-12)
    packed = [x.transpose(1, 2).flatten(0, 1) for x in tensors]
    out = attention.varlen(*packed, torch.tensor([0, LENGTH, 2 * LENGTH]), **how)
    torch.testing.assert_close(out.unflatten(0, (2, LENGTH)).transpose(1, 2), wanted, rtol=0, atol=1e-12)
