"""Attention on four processes against one, in float64: outputs, log-sum-exps, gradients, and bytes that move."""

import pytest
import torch
import torch.distributed as dist

import maskdsl
from maskdsl import ShardScheme
from tests.distributed.cases import PATTERNS, Cases, Difference, counted, inputs_of
from tests.distributed.processes import on_processes

SCHEMES: list[ShardScheme | None] = [
    None,
    ShardScheme("zigzag"),
    ShardScheme("contiguous", travelling=True),
    ShardScheme("least loaded", 64, 2),
    ShardScheme("zigzag", groups=4, travelling=True),
]


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
