"""What kernels of GPUs read of a block map: programs, and their lists of runs with a step, against classes of tiles."""

from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL
from maskdsl.runtime.backends import programs as programs_module
from maskdsl.runtime.backends.programs import Calls, column_programs, heavy_first, row_programs

COMBS = maskdsl.load(Path(__file__).parent / "combs.attn")
CALLS = Calls(batch=2, heads=4, key_heads=2, processors=7, splits=False)


def listed(rows: np.ndarray, list_of_runs: np.ndarray, number: int, columns: int) -> np.ndarray:
    """How often a row has each column; rows say how many columns that are."""
    counts = np.zeros(columns, dtype=int)
    first, end, tiles = rows[number].tolist()
    for start, behind, step in list_of_runs[first:end].tolist():
        counts[start:behind:step] += 1
    assert counts.sum() == tiles
    assert end < len(list_of_runs), "nothing to read ahead"
    return counts


@pytest.mark.parametrize("by", ["row", "column"])
@pytest.mark.parametrize("block", [(16, 32), (32, 16), (24, 40)])
@pytest.mark.parametrize("name", COMBS)
def test_lists_hold_every_tile_once(name: str, block: tuple[int, int], by: str) -> None:
    """Of each head. By rows a last key block that is shorter than the others is partial."""
    tiles = COMBS[name].bind(heads=4).tiles(block=block)
    made = (row_programs if by == "row" else column_programs)(tiles, CALLS)
    heads, members = (4, 1) if by == "row" else (2, 2)
    rows = tiles.query_blocks if by == "row" else tiles.key_blocks
    programs = [tuple(each) for each in made.programs.tolist()]
    assert sorted(programs) == [*np.ndindex(2, heads, rows)], "each row once"
    for number, (_, head, row) in enumerate(programs):
        for member in range(members):
            classes = tiles.classes(head * members + member)
            if by == "row" and tiles.key_length % block[1]:
                classes[:, -1] = np.where(classes[:, -1] == EMPTY, EMPTY, PARTIAL)
            found = classes[row] if by == "row" else classes[:, row]
            at = number * members + member
            assert np.array_equal(listed(made.full_rows, made.full_runs, at, len(found)), found == FULL)
            assert np.array_equal(listed(made.partial_rows, made.partial_runs, at, len(found)), found == PARTIAL)


@pytest.mark.parametrize("programs", [row_programs, column_programs])
def test_combs_have_a_step(programs) -> None:  # type: ignore[no-untyped-def]
    """Of full and of partial tiles, in each of the sizes of tiles that the interpreter takes."""
    for block in ((16, 32), (32, 16)):
        made = [programs(pattern.bind(heads=4).tiles(block=block), CALLS) for pattern in COMBS.values()]
        assert max(int(each.full_runs[:, 2].max()) for each in made) > 1
        assert max(int(each.partial_runs[:, 2].max()) for each in made) > 1


@pytest.mark.parametrize("by", ["row", "column"])
@pytest.mark.parametrize("name", COMBS)
def test_pieces_hold_every_tile_once(name: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together those of a row have its tiles; each has a slot, and slots of a row follow each other."""
    monkeypatch.setattr(programs_module, "piece_counts", lambda work, _: 1 + np.arange(len(work)) % 3)
    tiles = COMBS[name].bind(heads=4).tiles(block=(16, 8))
    programs_of, members = (row_programs, 1) if by == "row" else (column_programs, 2)
    made = programs_of(tiles, CALLS._replace(splits=True))
    whole = programs_of(tiles, CALLS)
    assert made.slots is not None and made.merges is not None and made.pieces > len(made.merges) > 0
    columns = tiles.key_blocks if by == "row" else tiles.query_blocks
    found = {}
    for kind in ("full", "partial"):
        for lists in (made, whole):
            rows, runs = getattr(lists, f"{kind}_rows"), getattr(lists, f"{kind}_runs")
            counts: dict[tuple[int, ...], np.ndarray] = {}
            for number, program in enumerate(lists.programs.tolist()):
                for member in range(members):
                    each = listed(rows, runs, number * members + member, columns)
                    counts[*program, member] = counts.get((*program, member), 0) + each
            found[kind, lists is made] = counts
        assert found[kind, True].keys() == found[kind, False].keys()
        assert all(np.array_equal(each, found[kind, False][key]) for key, each in found[kind, True].items())
    slots = {tuple(slot): tuple(row) for row, slot in zip(made.programs.tolist(), made.slots.tolist(), strict=True)}
    expected = {
        (slot - first, slot): tuple(row) for *row, first, end in made.merges.tolist() for slot in range(first, end)
    }
    assert {slot: row for slot, row in slots.items() if slot[1] >= 0} == expected
    assert sorted(slot for _, slot in expected) == [*range(made.pieces)]


def test_heavy_programs_come_first() -> None:
    """Light ones, and those of like work, keep their order."""
    assert heavy_first(np.array([3, 90, 5, 4, 91, 200, 4]), 2).tolist() == [5, 1, 4, 0, 2, 3, 6]
