"""Every pattern of the examples: no scheme of others is cheaper than the plan, on any number of ranks."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.api.given_inputs import decided
from maskdsl.distributed.gathered_tokens import gathered_tokens
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from tests.distributed.other_schemes import BLOCK, every_scheme, head_groups, price

HEADS, DIM = 8, 64
EVERY = [(path, name) for path in maskdsl.examples().values() for name in maskdsl.load(path)]


def _tokens(length: int) -> np.ndarray:
    return np.diff(np.append(np.arange(0, length, BLOCK), length))


def _check(path: Path, name: str, ranks: int) -> None:
    mask = maskdsl.load(path)[name].bind(heads=HEADS)
    given = synthetic_inputs(mask.ir, 0)
    plan = mask.shard(ranks, head_dim=DIM, **given)
    ir = most(mask.ir) if selects(mask.ir) else mask.ir
    is_ordered = any(each is not None for each in plan.orders)
    found = tiles(ir if is_ordered else ir.declared, (BLOCK, BLOCK), decided(ir, given))
    entries = [
        np.stack([found.classes(head, entry) > 0 for head in range(HEADS)]) for entry in range(len(found.class_of_head))
    ]
    if len(entries) > 1 or ir.queries != ir.keys:
        # Their codes hold one mask for all batch entries, of one sequence: there is nothing to compare with.
        pytest.skip("other schemes cut one text whose tokens are queries and keys")
    selects_by = astuple(gathered_tokens(mask.ir))
    tokens = (_tokens(found.query_length),) * 2
    for scheme, part, groups in every_scheme(entries[0], ranks, head_groups(ranks, 8, HEADS, HEADS)):
        score, _ = price(entries[0], part, part, groups, tokens, ranks, 8, HEADS, DIM, selects_by=selects_by)
        assert plan.score <= score * (1 + 1e-12), (scheme, groups)


def _each(some: list[tuple[Path, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("path", "name"), some, ids=[f"{path.stem}-{name}" for path, name in some])


@_each([*EVERY[::14], *(each for each in EVERY if each[1] == "differential")])
def test_plans_are_never_above_others(path: Path, name: str) -> None:
    _check(path, name, 8)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [8, 64, 512])
@_each(EVERY)
def test_every_plan_is_never_above_others(path: Path, name: str, ranks: int) -> None:
    _check(path, name, ranks)
