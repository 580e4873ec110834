"""Attention on one process and on four: what differs, and which bytes move.

`python -m tests.distributed.one_and_many SEED PROGRAMS [--record FILE]` compares every example and random programs.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from maskdsl.distributed import overlap
from tests.distributed.cases import counted
from tests.distributed.processes import on_processes
from tests.distributed.sharded_cases import RANKS, ShardedCase, drawn_programs, every_example
from tests.support.records import commit

SAME, SAME_GRADIENTS = 1e-12, 1e-10
"""Relative to the largest number, or to 1 where all are smaller."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case, on the process where most differs."""

    scheme: str
    results: float
    """How far output and log-sum-exps are at most, relative to the largest number; infinite where one is finite."""
    gradients: float
    """The same of the gradients of q, k, v and of all inputs."""
    received: tuple[int, ...]
    """The bytes that each rank received."""
    planned: tuple[int, ...]

    @property
    def is_right(self) -> bool:
        """Whether several processes compute what one does, and move what the plan says."""
        is_same = self.results <= SAME and self.gradients <= SAME_GRADIENTS
        return is_same and self.received == self.planned


def outcomes(cases: Sequence[ShardedCase]) -> dict[str, Outcome]:
    """By the names of cases."""
    of_ranks = on_processes(RANKS, _all_compared, cases)
    return {case.name: _joined(each) for case, *each in zip(cases, *of_ranks, strict=True)}


def _joined(of_ranks: Sequence[Outcome]) -> Outcome:
    first = of_ranks[0]
    assert all(each.scheme == first.scheme for each in of_ranks)
    return Outcome(
        first.scheme,
        max(each.results for each in of_ranks),
        max(each.gradients for each in of_ranks),
        tuple(bytes_ for each in of_ranks for bytes_ in each.received),
        tuple(bytes_ for each in of_ranks for bytes_ in each.planned),
    )


def _all_compared(cases: Sequence[ShardedCase]) -> list[Outcome]:
    results = []
    for case in cases:
        try:
            results.append(_compared(case))
        except Exception as error:
            raise RuntimeError(f"{case}") from error
    return results


def _compared(case: ShardedCase) -> Outcome:
    """One case, on each process."""
    attention = case.mask.compile("tiled")
    leaves = {name: torch.tensor(x, requires_grad=True) for name, x in zip("qkv", case.tensors, strict=True)}
    inputs = {each.name: torch.tensor(case.inputs[each.name]) for each in case.mask.inputs}
    leaves |= {name: x.requires_grad_() for name, x in inputs.items() if x.is_floating_point()}
    q, k, v = (leaves[name] for name in "qkv")
    everything = {"return_lse": attention.has_lse, **case.options, **inputs}
    expected = _listed(attention(q, k, v, **everything))
    incoming = _incoming(expected)
    grads = torch.autograd.grad(expected, list(leaves.values()), incoming, materialize_grads=True)
    plan = case.plan()
    cp = plan.on(dist.group.WORLD)
    local = [cp.scatter(x, 2, keys=x is not q) for x in (q, k, v)]
    with patch.object(overlap, "_MEMORY_RATE", np.inf) if case.in_stages else nullcontext(), counted() as received:
        plain = cp.attend(attention, *local, **case.options, **inputs)
    results = _listed(cp.attend(attention, *local, **everything))
    assert torch.equal(plain.nan_to_num(), results[0].nan_to_num()), "the log-sum-exp changes the output"
    dims = [2, *(lse.dim() - 1 for lse in results[1:])]
    whole = [cp.gather(x, dim, outputs=True) for x, dim in zip(results, dims, strict=True)]
    again = torch.autograd.grad(whole, list(leaves.values()), incoming, materialize_grads=True)
    entries = case.batch // len(plan.best.works[0].class_of_head)
    return Outcome(
        str(plan.scheme),
        max(map(_difference, expected, whole)),
        max(map(_difference, grads, again)),
        (received[0],),
        (int(plan.received[cp.rank]) * entries,),
    )


def _listed(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [*found]


def _incoming(expected: Sequence[Tensor]) -> list[Tensor]:
    """Random gradients; NaN where a query attends nothing, as nothing flows from there."""
    random = np.random.default_rng(7)
    found = [torch.tensor(random.normal(size=x.shape)) for x in expected]
    for lse in expected[1:]:
        silent = torch.isneginf(lse.detach())
        found[1] = torch.where(silent, torch.nan, found[1])
        if lse.dim() == 3:
            found[0] = torch.where(silent[..., None], torch.nan, found[0])
    return found


def _difference(expected: Tensor, given: Tensor) -> float:
    expected, given = expected.detach(), given.detach()
    if not expected.numel():
        return 0.0
    same = (expected == given) | (expected.isnan() & given.isnan())
    largest = expected.where(expected.isfinite(), 0.0).abs().max().clamp(min=1.0)
    differs = torch.where(same, 0.0, (expected - given).abs() / largest)
    return float(differs.nan_to_num(nan=torch.inf).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("programs", type=int)
    parser.add_argument("--record", type=Path, help="a file for what became of each case")
    asked = parser.parse_args()
    cases = [*every_example(asked.seed), *islice(drawn_programs(asked.seed), asked.programs)]
    found = outcomes(cases)
    wrong = {name: each for name, each in found.items() if not each.is_right}
    for name, each in wrong.items():
        print(name, each)
    lines = {name: f"{each.scheme}: {each.results:.1e}, {each.gradients:.1e}" for name, each in found.items()}
    print(f"{len(found)} computed, {len(wrong)} wrong")
    if asked.record is not None:
        asked.record.write_text(json.dumps({"commit": commit(), "seed": asked.seed, "cases": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
