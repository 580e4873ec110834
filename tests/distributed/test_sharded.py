"""Attention on four processes against one, in float64: outputs, log-sum-exps, gradients, and bytes that move."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import maskdsl
from maskdsl import ShardScheme
from maskdsl.distributed import overlap
from maskdsl.sharding import moved_rows, sharded_call
from tests.distributed.cases import PATTERNS, SCHEMES, Cases, Difference, counted, inputs_of
from tests.distributed.processes import on_processes

OfRank = tuple[dict[str, dict[str, list[Difference]]], list[str]]
"""What differs, by the name of cases and of patterns, and the events of a call."""


def _differences(name: str, schemes: list[ShardScheme | None], dropout_p: float) -> list[Difference]:
    """For each scheme: what differs from one process at most, and bytes received and planned."""
    torch.manual_seed(0)
    mask = maskdsl.parse(PATTERNS)[name].bind(heads=4, key_heads=2)
    attention = mask.compile("tiled")
    q = torch.randn(2, 4, mask.query_length, 16, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 2, mask.key_length, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = inputs_of(mask, 4)
    options = {"dropout_p": dropout_p, "seed": 5} if dropout_p else {}
    everything = {"return_lse": True, **options} if mask.ir.has_sums else options
    expected = _all(attention(q, k, v, **everything, **inputs))
    leaves = [q, k, v, *(x for x in inputs.values() if x.requires_grad)]
    incoming = [torch.randn_like(each) for each in expected]
    grads = torch.autograd.grad(expected, leaves, incoming)
    differences: list[Difference] = []
    for scheme in schemes:
        arrays = {each: x.detach().numpy() for each, x in inputs.items()}
        plan = mask.shard(4, per_node=2, head_dim=16, dtype="float64", block=32, scheme=scheme, **arrays)
        cp = plan.on(dist.group.WORLD)
        local = [cp.scatter(x, 2, keys=x is not q) for x in (q, k, v)]
        with counted() as received:
            plain = cp.attend(attention, *local, **options, **inputs)
        results = _all(cp.attend(attention, *local, **everything, **inputs))
        assert torch.equal(plain, results[0])
        whole = [cp.gather(x, x.dim() - 1 - (x is results[0])) for x in results]
        again, once_more = (torch.autograd.grad(whole, leaves, incoming, retain_graph=True) for _ in range(2))
        assert all(map(torch.equal, again, once_more))
        differs = [_most(*each) for each in ((expected, whole), (grads, again))]
        entries = 2 // len(plan.best.works[0].class_of_head)
        differences.append((str(plan.scheme), *differs, received[0], int(plan.received[cp.rank]) * entries))
    return differences


def _all(results: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def _most(expected: Sequence[Tensor], given: Sequence[Tensor]) -> float:
    """What differs most."""
    pairs = zip(expected, given, strict=True)
    return max(float((one - other).detach().nan_to_num(0.0).abs().max()) for one, other in pairs)


def _each(cases: Cases, dropout_p: float, in_stages: bool) -> dict[str, list[Difference]]:
    """`in_stages`: in two stages on each rank that holds and fetches keys, and else as the plan says."""
    with patch.object(overlap, "_MEMORY_RATE", np.inf) if in_stages else contextlib.nullcontext():
        return {name: _differences(name, schemes, dropout_p) for name, schemes in cases.items()}


MANY = ["documents", "with_globals", "by_head", "plane", "with_sinks", "two", "routed", "unnormalized", "across"]
ALL: Cases = dict.fromkeys(MANY, SCHEMES)
SOME: Cases = {name: SCHEMES[number % 3 :: 3] for number, name in enumerate(MANY)}
"""For a short run, with both patterns whose results have sinks and factors among those with rows that travel."""
SOME |= {"with_sinks": SCHEMES[5:], "two": SCHEMES[2:3], "across": SCHEMES[1:2]}


SHORT: dict[str, tuple[Cases, float, bool]] = {
    "in stages": (SOME, 0.0, True),
    "dropout": ({"documents": SCHEMES[2:3], "two": SCHEMES[5:]}, 0.3, True),
    "one stage": ({"documents": SCHEMES[3:4], "two": SCHEMES[:1]}, 0.0, False),
}


def _short() -> OfRank:
    return {name: _each(*each) for name, each in SHORT.items()}, _events()


@pytest.fixture(scope="module")
def of_ranks() -> list[OfRank]:
    """What each of four processes says, which start once."""
    return on_processes(4, _short)


def _events() -> list[str]:
    """What happens in a call of two stages and in its backward pass, in order."""
    events = list[str]()

    def noting(name: str, function: Callable[..., Any]) -> Any:
        def noted(*arguments: Any) -> Any:
            events.append(name)
            result = function(*arguments)
            if name == "attend":
                result[0].register_hook(lambda _: events.append("attend backward"))
            return result

        return noted

    mask = maskdsl.parse(PATTERNS)["with_globals"].bind(heads=2)
    cp = mask.shard(4, scheme=ShardScheme("contiguous")).on(dist.group.WORLD)
    local = [torch.randn(1, 2, len(cp.positions), 16, requires_grad=True) for _ in range(3)]
    with (
        patch.object(overlap, "_MEMORY_RATE", np.inf),
        patch.object(moved_rows, "_started", noting("start", moved_rows._started)),
        patch.object(moved_rows, "_waited", noting("wait", moved_rows._waited)),
        patch.object(sharded_call, "attend_chosen", noting("attend", sharded_call.attend_chosen)),
    ):
        out = cp.attend(mask.compile(), *local)
        events.append("backward")
        out.sum().backward()
    return events


def _check(of_rank: dict[str, list[Difference]]) -> None:
    for name, of_schemes in of_rank.items():
        for scheme, results, gradients, received, planned in of_schemes:
            assert results < 1e-12, (name, scheme, results)
            assert gradients < 1e-10, (name, scheme, gradients)
            assert name == "routed" or received == planned, (name, scheme)


@pytest.mark.parametrize("cases", SHORT)
def test_four_processes_compute_what_one_does(of_ranks: list[OfRank], cases: str) -> None:
    for differences, _ in of_ranks:
        _check(differences[cases])


def test_keys_travel_while_attention_is_computed(
    of_ranks: list[OfRank],
) -> None:
    expected = "start, attend, wait, attend, backward, attend backward, start, attend backward, wait"
    for _, events in of_ranks:
        assert events == expected.split(", ")


@pytest.mark.long
@pytest.mark.parametrize(("dropout_p", "in_stages"), [(0.0, False), (0.0, True), (0.3, True)])
def test_every_scheme_computes_what_one_process_does(dropout_p: float, in_stages: bool) -> None:
    for of_rank in on_processes(4, _each, ALL, dropout_p, in_stages):
        _check(of_rank)
