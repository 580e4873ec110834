"""Attention on four processes against one, in float64: outputs, log-sum-exps, gradients, and bytes that move."""

import contextlib
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

import maskdsl
from maskdsl.distributed.homes import ShardScheme
from maskdsl.sharding import moved_rows
from tests.distributed.processes import on_processes

PATTERNS = """
pattern documents(n = 811) {
    space tokens[n]
    input document: int[batch, tokens]
    input bias: float[heads, tokens]
    attend same(document) and causal
    attend q < 3
    score s + k.bias + 0.1 * (q - k) * (head + 1)
}
pattern with_globals(n = 1100) {
    space tokens[n]
    attend window(60) or q < 3 or q == 700 or k < 3
}
pattern by_head(n = 640) {
    space tokens[n]
    attend backward(60 * (head + 1))
}
pattern plane(h = 24, w = 30) {
    space image[h = h, w = w]
    coord curve = hilbert(h, w)
    order by curve
    attend neighborhood((7, 7))
}
pattern with_sinks(n = 500) {
    space tokens[n]
    input sinks: float[heads]
    attend causal and window(100)
    sink sinks[head]
}
pattern two(n = 500) {
    space tokens[n]
    input gate: float[batch, tokens]
    branch near {
        attend window(20)
        weight q.gate
    }
    branch far {
        attend causal and (q - k) % 7 == 0
        weight 1.0 - q.gate
    }
}
pattern routed(n = 512) {
    space tokens[n]
    coord chunk = i // 32
    route past = topk(3, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and same(chunk)
    attend past
}
pattern across(n = 300, m = 410) {
    space text[n]
    space image[m]
    queries text
    keys image
    attend abs(q * 4 - k * 3) < 200 # allow: W001
}
"""
Difference = tuple[str, list[float], int, int]
Cases = dict[str, list[ShardScheme | None]]
SCHEMES: list[ShardScheme | None] = [
    None,
    ShardScheme("zigzag"),
    ShardScheme("contiguous", travelling=True),
    ShardScheme("least loaded", 64, 2),
    ShardScheme("zigzag", groups=4, travelling=True),
]


def inputs_of(mask: maskdsl.Mask, heads: int) -> dict[str, torch.Tensor]:
    given = {}
    for each in mask.inputs:
        sizes = {"batch": 2, "heads": heads, "tokens": mask.query_length}
        shape = [sizes[dimension.text] for dimension in each.dimensions]
        if each.name == "document":
            given[each.name] = torch.randint(0, 3, shape).sort(-1).values
        else:
            given[each.name] = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    return given


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """The bytes that this rank receives from others, forward."""
    received, exchanged = [0], moved_rows._exchanged

    def counting(x: torch.Tensor, sent: list[int], counts: list[int], group: dist.ProcessGroup) -> torch.Tensor:
        row = x[0].numel() * x.element_size() if len(x) else x.new_empty(x.shape[1:]).numel() * x.element_size()
        received[0] += row * (sum(counts) - counts[dist.get_rank(group)])
        return exchanged(x, sent, counts, group)

    with patch.object(moved_rows, "_exchanged", counting):
        yield received


def _differences(
    name: str, schemes: list[ShardScheme | None], dropout_p: float
) -> list[tuple[str, list[float], int, int]]:
    """For each scheme: what differs from one process at most, and bytes received and planned."""
    torch.manual_seed(0)
    mask = maskdsl.parse(PATTERNS)[name].bind(heads=4, key_heads=2)
    attention = mask.compile("tiled")
    q = torch.randn(2, 4, mask.query_length, 16, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 2, mask.key_length, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = inputs_of(mask, 4)
    options = {"dropout_p": dropout_p, "seed": 5} if dropout_p else {}
    expected = attention(q, k, v, return_lse=True, **options, **inputs)
    leaves = [q, k, v, *(x for x in inputs.values() if x.requires_grad)]
    incoming = [torch.randn_like(each) for each in expected]
    grads = torch.autograd.grad(expected, leaves, incoming)
    results: list[Difference] = []
    for scheme in schemes:
        arrays = {each: x.detach().numpy() for each, x in inputs.items()}
        plan = mask.shard(4, per_node=2, head_dim=16, dtype="float64", block=32, scheme=scheme, **arrays)
        cp = plan.on(dist.group.WORLD)
        local = [cp.scatter(x, 2, keys=x is not q) for x in (q, k, v)]
        with counted() as received:
            plain = cp.attend(attention, *local, **options, **inputs)
        out, lse = cp.attend(attention, *local, return_lse=True, **options, **inputs)
        assert torch.equal(plain, out)
        whole = cp.gather(out, 2), cp.gather(lse, lse.dim() - 1)
        again = torch.autograd.grad(whole, leaves, incoming)
        pairs = zip((*expected, *grads), (*whole, *again), strict=True)
        differs = [float((one - other).detach().nan_to_num(0.0).abs().max()) for one, other in pairs]
        entries = 2 // len(plan.best.works[0].class_of_head)
        results.append((str(plan.scheme), differs, received[0], int(plan.received[cp.rank]) * entries))
    return results


def _each(cases: Cases, dropout_p: float) -> dict[str, list[Difference]]:
    return {name: _differences(name, schemes, dropout_p) for name, schemes in cases.items()}


MANY = ["documents", "with_globals", "by_head", "plane", "with_sinks", "two", "routed", "across"]
ALL: Cases = dict.fromkeys(MANY, SCHEMES)
SOME: Cases = {name: SCHEMES[number % 2 :: 2] for number, name in enumerate(MANY)}
"""For the dropping of pairs, and in a short run."""


@pytest.mark.parametrize(
    ("cases", "dropout_p"),
    [
        pytest.param(SOME, 0.0, id="some"),
        pytest.param({name: SOME[name][:1] for name in ("documents", "two")}, 0.3, id="dropout"),
        pytest.param(ALL, 0.0, id="all", marks=pytest.mark.long),
        pytest.param(ALL, 0.3, id="all dropout", marks=pytest.mark.long),
    ],
)
def test_four_processes_compute_what_one_does(cases: Cases, dropout_p: float) -> None:
    for results in on_processes(4, _each, cases, dropout_p):
        for name, of_schemes in results.items():
            for scheme, (out, lse, *grads), received, planned in of_schemes:
                assert max(out, lse) < 1e-12, (name, scheme, out, lse)
                assert max(grads) < 1e-10, (name, scheme, grads)
                assert name == "routed" or received == planned, (name, scheme)
