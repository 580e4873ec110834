"""The record of what kernels use covers every example, and holds the budgets of all of them."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ahead import kernel_masks
from aot import DIMS, is_recorded, key_of

import maskdsl
from maskdsl.analysis.cost.tile_table import KernelName
from maskdsl.emit.plan import KernelPlan, make_plan

ROOT = Path(__file__).parents[2]
WORDS = ROOT / "benchmarks" / "words.attn"
KNOWN_SPILLS = {("drawn", "sm80", "decode_kernel"): 24}
"""Bytes that kernels of `words.attn` spill: outside of its loop, as `ptxas` lets three programs share a processor."""
EXAMPLES = ROOT / "examples"
SHARED = {"sm80": 163 * 1024, "sm90": 227 * 1024, "sm100": 227 * 1024, "gfx942": 64 * 1024}
MATRIX = {"sm80": "mma.sync", "sm90": "wgmma.mma_async", "sm100": "tcgen05.mma", "gfx942": "v_mfma"}
BUDGETS = {
    ("language/causal: causal_dense", "sm90", 128, KernelName.FORWARD): [510, 760],
    ("language/causal: causal_dense", "sm90", 128, KernelName.QUERY_GRADIENT): [290, 396],
    ("language/sliding_window: sliding_window", "sm90", 128, KernelName.FORWARD): [358, 522],
    ("language/longformer: longformer", "sm90", 128, KernelName.FORWARD): [370, 770],
}
"""Instructions of the loops over full and over partial tiles: of 128 x 128 in the first, of 128 x 64 in the others."""
RECORD: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "aot.json").read_text())
RESULTS: dict[str, Any] = RECORD["results"]


class Line(NamedTuple):
    """The figures of one kernel."""

    pattern: str
    target: str
    dim: int
    kernel: KernelName
    used: dict[str, Any]


def lines() -> Iterator[Line]:
    for pattern, targets in RESULTS.items():
        for target, dims in targets.items():
            for dim, kernels in dims.items():
                for kernel, used in kernels.items():
                    yield Line(pattern, target, int(dim), KernelName(kernel), used)


def test_record_of_every_example() -> None:
    """But those that run kernels of several masks, of which `words.attn` has one of each kind, and one."""
    files = sorted(EXAMPLES.rglob("*.attn"))
    names = {key_of(file, name) for file in files for name in maskdsl.load(file) if is_recorded(file, name)}
    expected = {
        (name, target, dim, kernel)
        for name in names
        for target in SHARED
        for dim in DIMS[target]
        for kernel in KernelName
    }
    assert {line[:4] for line in lines()} == expected


@pytest.mark.parametrize("target", SHARED)
def test_shared_memory_is_within_what_targets_have(target: str) -> None:
    assert all(0 < line.used["shared"] <= SHARED[target] for line in lines() if line.target == target)


def test_record_of_every_pattern_of_words() -> None:
    """And each of the masks whose kernels it runs, within the budgets."""
    masks = {name: kernel_masks(pattern.bind(heads=4).ir) for name, pattern in maskdsl.load(WORDS).items()}
    names = {f"{name} {what}".strip() for name, each in masks.items() for what in each}
    assert {*RECORD["words"]} == names
    for name, targets in RECORD["words"].items():
        assert {*targets} == {*SHARED}
        for target, (kernels,) in ((target, dims.values()) for target, dims in targets.items()):
            assert {*KernelName} - {*kernels} == ({KernelName.FORWARD} if "masses" in name else set())
            for kernel, used in kernels.items():
                assert 0 < used["shared"] <= SHARED[target]
                assert used["spills"] <= KNOWN_SPILLS.get((name, target, kernel), 0)


@pytest.mark.parametrize("target", SHARED)
def test_kernels_that_select_spill_nothing(target: str) -> None:
    used = {
        (name, kernel): figures
        for name, targets in RECORD["selection"].items()
        for kernels in targets[target].values()
        for kernel, figures in kernels.items()
    }
    assert len(used) >= 20
    assert {key for key, each in used.items() if each["spills"] or each["shared"] > SHARED[target]} == set()


@pytest.mark.parametrize("target", SHARED)
def test_no_spills(target: str) -> None:
    assert [line for line in lines() if line.target == target and line.used["spills"]] == []


@pytest.mark.parametrize("target", SHARED)
def test_loops_multiply_with_the_instructions_of_their_generation(target: str) -> None:
    """Tiles of 16 by 16, which dK and dV of uplift's scores need, have fewer rows than Hopper's instructions take."""
    kinds = {line[:4]: line.used["matrix_kinds"] for line in lines() if line.target == target}
    assert all(line.used["matrix_instructions"] > 0 for line in lines() if line.target == target)
    other = {line[0::3] for line, found in kinds.items() if found != [MATRIX[target]]}
    assert other == ({("vision/uplift: star", KernelName.KEY_GRADIENT)} if target == "sm90" else set())


@cache
def plan_of(pattern: str) -> KernelPlan:
    file, name = pattern.split(": ")
    return make_plan(maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=4).ir)


@pytest.mark.parametrize("target", ["sm80", "sm90", pytest.param("sm100", marks=pytest.mark.long)])
def test_full_tiles_are_free_of_conditions(target: str) -> None:
    """No more compares and selects than attention of all to all has for its softmax. Values of pairs are for all.

    A flat loop over lists of tiles has one more, once a tile: whether its run ends.
    """
    own = [line for line in lines() if line.target == target]
    dense = [line.used for line in own if line.pattern == "language/dense: dense"]
    for line in own:
        plan = plan_of(line.pattern)
        if not plan.mask.pair_values:
            lists = plan.row_limits is None and line.kernel is not KernelName.KEY_GRADIENT
            for what in ("full_compares", "full_selects"):
                most = max(used[what] for used in dense)
                assert line.used[what] <= most + lists
                assert most < 10


def test_matrix_products_overlap_on_hopper() -> None:
    """`ptxas` lets none wait for the one before it, where the record says so."""
    serialized = {line[:4] for line in lines() if line.used.get("serialized")}
    assert serialized == set()
    assert sum("serialized" in line.used for line in lines()) >= 40


def test_descriptors_only_where_loops_are_shorter() -> None:
    """Over full tiles and over partial ones, without a spill; and calls take them for most forward kernels of 128."""
    described = {line[:4]: (line.used, line.used["by_threads"]) for line in lines() if "by_threads" in line.used}
    for used, by_threads in described.values():
        assert len(used["instructions"]) == len(by_threads["instructions"])
        assert all(map(int.__le__, used["instructions"], by_threads["instructions"]))
        assert sum(used["instructions"]) < sum(by_threads["instructions"])
        assert used["spills"] <= by_threads["spills"]
    wide = [line for line in lines() if line[1:4] == ("sm90", 128, KernelName.FORWARD)]
    assert sum(line[:4] in described for line in wide) > len(wide) / 2


def test_loops_keep_their_budgets() -> None:
    for pattern, target, dim, kernel in BUDGETS:
        instructions = RESULTS[pattern][target][str(dim)][kernel]["instructions"]
        budget = BUDGETS[pattern, target, dim, kernel]
        assert all(map(int.__le__, instructions, budget)), (pattern, instructions)
