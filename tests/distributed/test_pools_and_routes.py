"""Pools, routes, products of vectors and other normalizations on four processes against one, in float64."""

import re
from collections.abc import Mapping

import pytest
import torch
import torch.distributed as dist

import maskdsl
from maskdsl.distributed.homes import ShardScheme
from maskdsl.ir.ops import Type
from tests.distributed.cases import SCHEMES, counted
from tests.distributed.processes import on_processes

PATTERNS = """
pattern past_blocks(n = 420) {
    space tokens[n]
    space blocks = mean(tokens, 32)
    queries tokens
    keys tokens ++ blocks
    input bias: float[heads, keys]
    attend tokens -> tokens where causal and backward(40)
    attend all -> blocks where k.last <= q.tokens
    score s + k.bias
}
pattern levels(h = 20, w = 24) {
    space image[h = h, w = w]
    space fine = mean(image, (3, 4))
    space coarse = max(fine, (2, 2))
    queries image
    keys coarse ++ image ++ fine
    coord curve = hilbert(h, w)
    order image by curve
    attend image -> image where abs(q.h - k.h) < 3 and abs(q.w - k.w) < 3
    attend image -> fine
    attend image -> coarse
}
pattern clusters(n = 300) {
    space tokens[n]
    input cluster: int[batch, tokens]
    space groups = mean(tokens by cluster, 50)
    queries tokens
    keys tokens ++ groups
    attend tokens -> tokens where window(30)
    attend tokens -> groups
}
pattern summary(n = 400) {
    space tokens[n]
    space past = min(tokens, 7)
    queries past
    keys tokens
    attend k.tokens // 7 <= q.past
}
pattern both(n = 300) {
    space tokens[n]
    space past = mean(tokens, 16)
    tokens tokens ++ past
    attend tokens -> tokens where window(30)
    attend tokens -> past
    attend past -> tokens
}
pattern across(n = 300, m = 410) {
    space text[n]
    space image[m]
    space coarse = mean(image, 4)
    queries text
    keys coarse
    attend abs(q * 4 - k * 12) < 200 # allow: W001
}
pattern distances(n = 260, m = 20) {
    space tokens[n]
    input vectors: float[2 * m + 1, dim]
    attend causal and backward(60)
    score s + dot(q, vectors[clamp(q - k, -m, m) + m])
}
pattern differences(n = 200) {
    space tokens[n]
    coord block = i // 20
    attend window(50)
    score s + 0.1 * dot(mean(q by block), k)
}
pattern by_key(n = 150) {
    space tokens[n]
    input bias: float[heads, tokens]
    attend causal
    score s + q.bias
    normalize softmax by k
}
pattern drawn(n = 300) {
    space tokens[n]
    coord chunk = i // 20
    route some = draw(2, 3) where k.chunk != q.chunk
    attend same(chunk)
    attend some
}
pattern past_chunks(n = 320) {
    space tokens[n]
    coord chunk = i // 32
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and same(chunk)
    attend past
}
pattern chunk_pairs(n = 320) {
    space tokens[n]
    coord chunk = i // 20
    route past = topk(2, dot(mean(q by chunk), mean(k by chunk))) where k.chunk < q.chunk
    attend causal and same(chunk)
    attend past
}
"""
NAMES = re.findall("pattern (.*)[(]", PATTERNS)
Cases = Mapping[str, list[ShardScheme | None]]
_Difference = tuple[str, list[float], list[float], int, int]
"""A scheme, the largest differences of results and of gradients, and bytes received and planned."""


def _inputs(mask: maskdsl.Mask) -> dict[str, torch.Tensor]:
    sizes = {"batch": 2, "heads": 4, "dim": 16, "tokens": mask.given_query_length, "keys": mask.key_length}
    given = {}
    for each in mask.inputs:
        shape = [sizes.get(side.text, side.size) for side in each.dimensions]
        if each.type is Type.INT:
            given[each.name] = torch.randint(0, 50, shape)
        else:
            given[each.name] = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    return given


def _differences(name: str, schemes: list[ShardScheme | None]) -> list[_Difference]:
    """For each scheme: what differs from one process at most, and bytes received and planned."""
    torch.manual_seed(0)
    mask = maskdsl.parse(PATTERNS)[name].bind(heads=4, key_heads=2)
    attention, keys = mask.compile("tiled"), mask.given_key_length
    q = torch.randn(2, 4, mask.given_query_length, 16, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 2, keys, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = _inputs(mask)
    options = {"return_lse": True} if mask.ir.has_sums else {}

    def results(of: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return of if isinstance(of, tuple) else (of,)

    expected = results(attention(q, k, v, **options, **inputs))
    leaves = [q, k, v, *(x for x in inputs.values() if x.requires_grad)]
    incoming = [torch.randn_like(each) for each in expected]
    grads = torch.autograd.grad(expected, leaves, incoming)
    differences: list[_Difference] = []
    for scheme in schemes:
        arrays = {each: x.detach().numpy() for each, x in inputs.items()}
        plan = mask.shard(4, per_node=2, head_dim=16, dtype="float64", block=32, scheme=scheme, **arrays)
        cp = plan.on(dist.group.WORLD)
        local = [cp.scatter(x, 2, keys=x is not q) for x in (q, k, v)]
        with counted() as received:
            cp.attend(attention, *local, **inputs)
        here = results(cp.attend(attention, *local, **options, **inputs))
        whole = tuple(cp.gather(x, 2, outputs=True) for x in here)
        again = torch.autograd.grad(whole, leaves, incoming)
        differs = [
            [float((one - other).detach().nan_to_num(0.0).abs().max()) for one, other in zip(*pair, strict=True)]
            for pair in ((expected, whole), (grads, again))
        ]
        entries = 2 // len(plan.best.works[0].class_of_head)
        differences.append((str(plan.scheme), *differs, received[0], int(plan.received[cp.rank]) * entries))
    return differences


def _each(cases: Cases) -> dict[str, list[_Difference]]:
    return {name: _differences(name, schemes) for name, schemes in cases.items()}


SOME = {
    "levels": SCHEMES[2:3],
    "clusters": SCHEMES[3:4],
    "summary": SCHEMES[4:5],
    "differences": SCHEMES[1:2],
    "by_key": SCHEMES[1:2],
    "past_chunks": SCHEMES[1::4],
}


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(SOME, id="some"),
        pytest.param(dict.fromkeys(NAMES, SCHEMES), id="all", marks=pytest.mark.long),
    ],
)
def test_four_processes_compute_what_one_does(cases: Cases) -> None:
    for results in on_processes(4, _each, cases):
        for name, of_schemes in results.items():
            for scheme, results, grads, received, planned in of_schemes:
                assert max(results) < 1e-12, (name, scheme, results)
                assert max(grads) < 1e-10, (name, scheme, grads)
                assert received == planned, (name, scheme)
