"""Decoding over a cache that four processes share, in float64, against one process that holds all of it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import maskdsl
from maskdsl import AttnError, Mask, ShardScheme
from tests.distributed.processes import on_processes

PATTERNS = """
pattern streaming(n = 512) {
    space tokens[n]
    attend causal and (backward(100) or k < 4)
}
pattern by_head(n = 512) {
    space tokens[n]
    input slope: float[heads]
    input scale: float[heads, tokens]
    attend causal and backward(40 * (head + 1))
    score s - slope[head] * float(q - k) + k.scale
    sink slope[head]
    weight 1.0 + q.scale
}
pattern two(n = 511) {
    space tokens[n]
    branch near { attend causal and backward(30) }
    branch far {
        attend causal and k % 7 == 0
        sink 0.5
        weight 0.5 + float(q % 3)
    }
}
pattern unnormalized(n = 512) {
    space tokens[n]
    attend causal and backward(90)
    score sigmoid(s)
    normalize none
}
pattern plane(h = 20, w = 24) {
    space image[h = h, w = w]
    coord curve = hilbert(h, w)
    order by curve
    attend causal and abs(q.h - k.h) < 9
}
pattern across(n = 100, m = 300) {
    space text[n]
    space image[m]
    queries text
    keys image
    attend text -> image
}
pattern pooled(n = 256) {
    space tokens[n]
    space blocks = mean(tokens, 32)
    queries tokens
    keys tokens ++ blocks
    attend tokens -> tokens where window(20)
    attend tokens -> blocks
}
pattern routed(n = 256) {
    space tokens[n]
    coord chunk = i // 32
    route past = topk(3, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (same(chunk) or past)
}
"""
CASES = {
    "streaming": ("bhnd", ShardScheme("zigzag"), 32),
    "by_head": ("bnhd", ShardScheme("dealt", 32, 2), 16),
    "two": ("bhnd", ShardScheme("contiguous"), 1),
    "unnormalized": ("bhnd", ShardScheme("dealt", 32), 32),
    "plane": ("bnhd", None, 1),
    "across": ("bhnd", ShardScheme("contiguous"), 1),
}
"""The layout, the scheme, and what the size of pages is a multiple of."""
STEPS = [(1, 130), (1, [300, 37]), (3, 64), (4, [5, 480])]
"""The queries of a step, and the keys so far."""


def _steps(name: str) -> list[float]:
    """What each step differs by at most; caches are filled token by token, and by a prompt that was scattered."""
    torch.manual_seed(0)
    layout, scheme, page = CASES[name]
    mask = maskdsl.parse(PATTERNS)[name].bind(heads=4, key_heads=2)
    attention = mask.compile("tiled" if name == "by_head" else "auto", layout=layout)
    dim = 1 + (layout == "bhnd")
    q, k, v = (torch.randn(2, heads, length, 16, dtype=torch.float64) for heads, length in _shapes(mask))
    if layout == "bnhd":
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    sizes = {"heads": 4, "tokens": mask.query_length}
    inputs = {
        each.name: torch.randn([sizes[side.text] for side in each.dimensions], dtype=torch.float64)
        for each in mask.inputs
    }
    cp = mask.shard(4, block=32, scheme=scheme).on(dist.group.WORLD)
    caches = [cp.scatter(x, dim, keys=True) for x in (k, v)]
    for cache, x in zip(caches, (k, v), strict=True):
        for start in (torch.tensor([7, 40]), 60):
            cache_before = cache.clone()
            cp.store(x.narrow(dim, 0, 3), cache, start, dim)
            assert torch.equal(cp.gather(cache, dim, keys=True), _stored(x, x.narrow(dim, 0, 3), start, dim))
            cache.copy_(cache_before)
    assert cp._cache.page_size % page == 0
    return list(_differences(cp, attention, (q, k, v), caches, inputs, mask))


def _shapes(mask: Mask) -> list[tuple[int, int]]:
    return [(4, mask.query_length), (2, mask.key_length), (2, mask.key_length)]


def _stored(x: Tensor, tokens: Tensor, start: int | Tensor, dim: int) -> Tensor:
    """x with some tokens in place of those from `start` on."""
    x = x.clone()
    for entry, first in enumerate(torch.as_tensor(start).expand(len(x)).tolist()):
        x[entry].narrow(dim - 1, first, tokens.shape[dim]).copy_(tokens[entry])
    return x


def _differences(
    cp: Any, attention: Any, tensors: tuple[Tensor, ...], caches: list[Tensor], inputs: dict[str, Tensor], mask: Mask
) -> Iterator[float]:
    dim = 1 + (attention.layout == "bhnd")
    for queries, lengths in STEPS:
        ends = torch.as_tensor(lengths).clamp(max=mask.key_length)
        given = {} if mask.query_length == mask.key_length else {"query_start": 3}
        start = given.get("query_start", ends - queries)
        q = tensors[0].narrow(dim, 0, queries)
        at = {"query_start": start, "key_lengths": ends.expand(2)}
        has_sums = mask.ir.has_sums
        expected = attention(q, *tensors[1:], return_lse=has_sums, **at, **inputs)
        results = cp.decode(attention, q, *caches, key_lengths=ends, return_lse=has_sums, **given, **inputs)
        for one, other in zip(
            *((each,) if isinstance(each, Tensor) else each for each in (expected, results)), strict=True
        ):
            assert other.shape == one.shape
            yield float((one - other).nan_to_num(0.0).abs().max())


def _each() -> dict[str, list[float]]:
    return {name: _steps(name) for name in CASES}


def test_a_step_computes_what_one_process_does() -> None:
    for of_rank in on_processes(4, _each):
        for name, differences in of_rank.items():
            assert max(differences) < 1e-12, (name, differences)


def test_what_cannot_be_decoded(group: dist.ProcessGroup) -> None:
    module = maskdsl.parse(PATTERNS)
    mask = module["streaming"].bind(heads=2)
    cp, attention = mask.shard(1).on(group), mask.compile()
    q, cache = torch.randn(1, 2, 1, 16), torch.zeros(1, 2, 512, 16)
    with pytest.raises(AttnError, match="511 tokens, but the plan has 512"):
        cp.decode(attention, q, cache[:, :, 1:], cache, key_lengths=3)
    with pytest.raises(AttnError, match="key_lengths"):
        cp.decode(attention, q, cache, cache, key_lengths=513)
    with pytest.raises(AttnError, match="1 queries from position -1 on"):
        cp.decode(attention, q, cache, cache, key_lengths=0)
    with pytest.raises(AttnError, match="has no gradients, and `q` requires one"):
        cp.decode(attention, q.requires_grad_(), cache, cache, key_lengths=3)
    with pytest.raises(AttnError, match="1 tokens begin at 512 to 512, but the plan has 512 keys"):
        cp.store(torch.zeros(1, 2, 1, 16), cache, 512, 2)
    routed = module["routed"].bind(heads=2)
    with pytest.raises(AttnError, match="a step selects among keys of several processes"):
        routed.shard(1).on(group).decode(
            routed.compile(), q.detach(), cache[:, :, :256], cache[:, :, :256], key_lengths=3
        )
