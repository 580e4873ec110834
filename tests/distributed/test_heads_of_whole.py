"""Heads of a whole on a 2-D mesh, tensor parallel x context parallel, against one process in float64."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import maskdsl
from maskdsl import AttnError, ShardScheme
from tests.distributed.cases import PATTERNS, Cases, Difference, counted, inputs_of
from tests.distributed.processes import on_processes

MODULE = maskdsl.parse(
    PATTERNS
    + """
pattern many(n = 480) {
    space tokens[n]
    input slope: float[heads]
    input shift: float[heads, tokens]
    coord mine = i // (8 * (head + 1))
    attend causal if head < heads // 2 else causal and backward(32 * head)
    attend q < 2 if head == 3 else k < 1
    score s - slope[head] * float(q - k) + k.shift + 0.1 * float(k.mine)
    sink slope[head] - 1.0
    weight 1.0 + 0.1 * float(head)
}
stack layers(n = 480) = many(n) + with_sinks(n)
"""
)
ULYSSES = ShardScheme("contiguous", groups=2)
SCHEMES: list[ShardScheme | None] = [None, ShardScheme("zigzag"), ULYSSES, ShardScheme("contiguous", travelling=True)]


def _differences(name: str, schemes: list[ShardScheme | None], dropout_p: float) -> list[Difference]:
    """For each scheme: what differs from one process at most, and bytes received and planned."""
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("tp", "cp"))
    tp = mesh["tp"].get_local_rank()
    pattern = MODULE[name]
    mask = pattern.bind(heads=4, key_heads=2)
    mine = pattern.bind(heads=4, key_heads=2, first_head=2 * tp, local_heads=2)
    attention = mine.compile("tiled")
    q = torch.randn(2, 4, mask.query_length, 16, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 2, mask.key_length, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = inputs_of(mask, 4)
    options = {"dropout_p": dropout_p, "seed": 5} if dropout_p else {}
    out, lse = mask.compile("tiled")(q, k, v, return_lse=True, **options, **inputs)
    leaves = [q, k, v, *(x for x in inputs.values() if x.requires_grad)]
    incoming = [torch.randn_like(out), torch.randn_like(lse)]
    grads = torch.autograd.grad([out, lse], leaves, incoming)
    results: list[Difference] = []
    for scheme in schemes:
        arrays = {each: x.detach().numpy() for each, x in inputs.items()}
        plan = mine.shard(2, per_node=2, head_dim=16, dtype="float64", block=32, scheme=scheme, **arrays)
        cp = plan.on(mesh["cp"])
        local = [cp.scatter(x.chunk(2, 1)[tp], 2, keys=x is not q) for x in (q, k, v)]
        with counted() as received:
            cp.attend(attention, *local, **options, **inputs)
        found = cp.attend(attention, *local, return_lse=True, **options, **inputs)
        here = [cp.gather(found[0], 2), cp.gather(found[1], found[1].dim() - 1)]
        expected = [out.chunk(2, 1)[tp], lse.chunk(2, -2)[tp]]
        again = torch.autograd.grad(here, leaves, [incoming[0].chunk(2, 1)[tp], incoming[1].chunk(2, -2)[tp]])
        for each in again:
            dist.all_reduce(each, group=mesh["tp"].get_group())
        pairs = zip((*expected, *grads), (*here, *again), strict=True)
        differs = [float((one - other).detach().nan_to_num(0.0).abs().max()) for one, other in pairs]
        entries = 2 // len(plan.best.works[0].class_of_head)
        differs = [max(differs[:2]), max(differs[2:])]
        results.append((str(plan.scheme), *differs, received[0], int(plan.received[cp.rank]) * entries))
    return results


def _each(cases: Cases, dropout_p: float) -> dict[str, list[Difference]]:
    return {name: _differences(name, schemes, dropout_p) for name, schemes in cases.items()}


NAMES = ["many", "documents", "with_globals", "by_head", "plane", "with_sinks", "two", "routed", "across"]
ALL: Cases = dict.fromkeys(NAMES, SCHEMES)
SOME: Cases = {"many": [None, ULYSSES], "routed": [ShardScheme("zigzag")]}


@pytest.mark.parametrize(
    ("cases", "dropout_p"),
    [
        pytest.param(SOME, 0.3, id="some"),
        pytest.param(ALL, 0.0, id="all", marks=pytest.mark.long),
        pytest.param(ALL, 0.3, id="all dropout", marks=pytest.mark.long),
    ],
)
def test_heads_of_a_whole_compute_what_one_process_does(cases: Cases, dropout_p: float) -> None:
    for of_rank in on_processes(4, _each, cases, dropout_p):
        for name, of_schemes in of_rank.items():
            for scheme, results, gradients, received, planned in of_schemes:
                assert results < 1e-12, (name, scheme, results)
                assert gradients < 1e-10, (name, scheme, gradients)
                assert name == "routed" or received == planned, (name, scheme)


@pytest.mark.parametrize("name", ["many", "layers"])
@pytest.mark.parametrize("scheme", [None, ULYSSES])
def test_processes_with_other_heads_hold_the_same_tokens(name: str, scheme: ShardScheme | None) -> None:
    entity = MODULE.stacks[name] if name == "layers" else MODULE[name]
    whole = entity.bind(heads=4, key_heads=2)
    some = [entity.bind(heads=4, key_heads=2, first_head=first, local_heads=2) for first in (0, 2)]
    inputs = {"shift": torch.zeros(4, 480).numpy()}
    plans = [each.shard(2, block=32, scheme=scheme, **inputs) for each in some]
    every = whole.shard(2, block=32, scheme=plans[0].scheme, **inputs)
    for rank in range(2):
        assert all((each.positions(rank) == every.positions(rank)).all() for each in plans)
    assert sum(each.work.sum() for each in plans) == every.work.sum()
    assert plans[0].work.sum() > 1.2 * plans[1].work.sum()


def test_groups_of_heads_are_of_those_here() -> None:
    some = MODULE["by_head"].bind(heads=4, key_heads=2, first_head=2, local_heads=2)
    with pytest.raises(
        AttnError, match="`contiguous x 4 head groups` does not fit 4 processes, 2 heads and 1 key heads"
    ):
        some.shard(4, scheme=ShardScheme("contiguous", groups=4))


@pytest.mark.parametrize("some", [{}, {"first_head": 2, "local_heads": 2}])
def test_layers_without_a_stack_are_planned_as_those_of_one(some: dict[str, int]) -> None:
    stack = MODULE.stack("layers").bind(heads=4, key_heads=2, **some)
    inputs = {"shift": torch.zeros(4, 480).numpy()}
    expected = stack.shard(2, block=32, **inputs)
    found = maskdsl.shard_layers(list(stack.layers), 2, block=32, **inputs)
    assert (found.scheme, found.time) == (expected.scheme, expected.time)
    assert (found.received == expected.received).all()
    others = MODULE["by_head"].bind(heads=4, key_heads=2, **some), MODULE["by_head"].bind(n=480, heads=2)
    for each in others:
        with pytest.raises(AttnError, match="`by_head` has others than `many`"):
            maskdsl.shard_layers([*stack.layers, each], 2, **inputs)
