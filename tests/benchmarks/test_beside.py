"""Our kernels beside FlexAttention's: the page is what is recorded, and loops keep their budgets of instructions."""

import json
from importlib.metadata import version
from itertools import product
from typing import Any

import pytest
from ahead import KERNELS, compile_ahead
from beside import DIMS, NAMES, PAGE, RESULTS, SIZE, figures, numbers, our_kernel, usual_loops
from beside_page import LOOPS, page, total
from gpu.patterns import named

from maskdsl.analysis.cost.tile_table import KernelName, TileChoice

RECORD: dict[str, Any] = json.loads(RESULTS.read_text())
RESULTS_OF: dict[str, Any] = RECORD["results"]
GROWTH = 1.03
"""How much longer than recorded a loop may be; other versions of Triton are not held to it."""
BUDGETS = [
    ("causal", "sm90", 128, TileChoice(128, 64, 8, 3, descriptors=True), 385, 460),
    ("causal", "sm90", 72, TileChoice(128, 64, 8, 3), 400, 490),
    ("soft cap", "sm90", 64, None, 450, 620),
    ("T5 table", "sm90", 64, None, 540, 590),
]
"""The most instructions of a full and a partial tile, forward, with the tile given or with the one that calls take."""
IN_THE_GATE = [
    ("window 1,024", "sm90", 128, KernelName.FORWARD),
    ("packed documents", "sm90", 128, KernelName.QUERY_GRADIENT),
    ("causal", "sm90", 128, KernelName.KEY_GRADIENT),
]
EVERY = [
    (name, target, dim, KernelName(kernel))
    for name, (target, dims), kernel in product(NAMES, DIMS.items(), KERNELS)
    for dim in dims
]
is_recorded_version = pytest.mark.skipif(
    version("triton") != RECORD["triton"], reason="the record is of another version of Triton"
)


def rows() -> list[tuple[tuple[str, str, str, str], dict[str, Any]]]:
    return [
        ((name, target, dim, kernel), row)
        for name, targets in RESULTS_OF.items()
        for target, dims in targets.items()
        for dim, kernels in dims.items()
        for kernel, row in kernels.items()
    ]


def test_the_page_is_what_was_recorded() -> None:
    assert PAGE.read_text() == page(RECORD)


def test_the_page_shows_both_sides_of_a_loop() -> None:
    row = RESULTS_OF["causal"]["sm90"]["128"][KernelName.FORWARD]
    ours, flex = (sum(row[side]["full"].values()) for side in ("ours", "flex"))
    assert ours < flex and f"| causal | {ours} / {flex} ({ours / flex:.2f}) |" in PAGE.read_text()


@pytest.mark.long
def test_every_pattern_is_recorded() -> None:
    assert [*RESULTS_OF] == [*NAMES]
    assert {key for key, _ in rows()} == {(name, target, str(dim), kernel) for name, target, dim, kernel in EVERY}


def test_products_of_ours_overlap_and_nothing_spills() -> None:
    """On Hopper `ptxas` serializes none."""
    assert not [key for key, row in rows() if row["ours"].get("warnings")]
    assert all("warnings" in row["ours"] for key, row in rows() if key[1] == "sm90")
    assert not [key for key, row in rows() if row["ours"]["spills"] or not row["ours"]["fits"]]


def test_loops_are_of_tiles() -> None:
    """Partial tiles take as many products as full ones, and no fewer instructions; so does FlexAttention."""
    for _, row in rows():
        for side in (row[each] for each in ("ours", "flex", "flex_own") if row.get(each)):
            full, partial = (side[loop] for loop in LOOPS)
            assert 0 < full["products"] == partial["products"]
            assert sum(full.values()) <= sum(partial.values())


def test_tiles_are_the_same_on_both_sides() -> None:
    both = [row for _, row in rows() if row["flex"]]
    assert len(both) > 0.9 * len(rows())
    assert all(row["tile"] == row["flex"]["tile"] for row in both)


@is_recorded_version
@pytest.mark.parametrize(("name", "target", "dim", "choice", "full", "partial"), BUDGETS)
def test_forward_loops_keep_their_budgets(
    name: str, target: str, dim: int, choice: TileChoice | None, full: int, partial: int
) -> None:
    compiled = compile_ahead(named(name).mask(SIZE).ir, target, dim, choice=choice)
    used = figures(compiled, target, usual_loops(compiled))
    assert not used["spills"] and not used["warnings"]
    assert total(used, "full") <= full and total(used, "partial") <= partial


@is_recorded_version
@pytest.mark.parametrize(
    "case", [*IN_THE_GATE, *(pytest.param(each, marks=pytest.mark.long) for each in EVERY if each not in IN_THE_GATE)]
)
def test_loops_are_no_longer_than_recorded(case: tuple[str, str, int, KernelName]) -> None:
    """And their tile is the one recorded, so that counts are of as many pairs."""
    name, target, dim, kernel = case
    row = RESULTS_OF[name][target][str(dim)][kernel]
    tile, compiled = our_kernel(*case)
    assert numbers(tile) == row["tile"]
    used = figures(compiled, target, usual_loops(compiled))
    assert used["spills"] <= row["ours"]["spills"]
    for loop in LOOPS:
        assert total(used, loop) <= GROWTH * total(row["ours"], loop)
