"""What kernels of GPUs read of a block map: programs, and their lists of runs with a step, against classes of tiles."""

from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL
from maskdsl.analysis.tiles.mask_tiles import tiles_with_pairs
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
    assert made.entries == 2, "the list serves both"
    assert sorted(programs) == [*np.ndindex(1, heads, rows)], "each row once"
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
    monkeypatch.setattr(programs_module, "piece_counts", lambda work, *_: 1 + np.arange(len(work)) % 3)
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
    order, heavy = heavy_first(np.array([3, 90, 5, 4, 91, 200, 4]), 2)
    assert order.tolist() == [5, 1, 4, 0, 2, 3, 6] and heavy == 3


@pytest.mark.parametrize("entries", [1, 2, 3, 5])
def test_entries_that_share_programs_are_split_as_each_on_its_side(entries: int) -> None:
    """Pieces and heavy programs are those of a list of all entries."""
    work = np.array([3, 90, 5, 4, 91, 400, 4, 2, 33] * 3 + [2000])
    counts = programs_module.piece_counts(work, 7, entries)
    assert np.array_equal(np.tile(counts, entries), programs_module.piece_counts(np.tile(work, entries), 7))
    assert (counts > 1).any() == (entries < 5)
    order, heavy = heavy_first(work, 7, entries)
    all_order, all_heavy = heavy_first(np.tile(work, entries), 7)
    assert entries * heavy == all_heavy > 0
    assert np.array_equal(np.repeat(work[order[:heavy]], entries), np.tile(work, entries)[all_order[:all_heavy]])


def test_batch_sizes_share_lists() -> None:
    """One for each power of two of entries, of one entry."""
    tiles = next(iter(COMBS.values())).bind(heads=4).tiles(block=(16, 8))
    lists = [CALLS._replace(batch=batch).of_list(tiles).batch for batch in (1, 2, 3, 4, 7, 8)]
    assert lists == [1, 2, 2, 4, 4, 8]
    one, other = (row_programs(tiles, CALLS._replace(batch=batch)) for batch in (2, 64))
    assert len(one.programs) == len(other.programs) == 4 * tiles.query_blocks
    assert (one.entries, other.entries) == (2, 64) and (one.programs[:, 0] == 0).all()


def test_entries_that_differ_have_programs_each() -> None:
    text = "pattern p() { space t[67] attend abs(q - k) < 9 or q < 3 and batch == 1 }"
    tiles, _ = tiles_with_pairs(maskdsl.parse(text)["p"].bind(heads=4).ir, (16, 8), {}, 3)
    calls = CALLS._replace(batch=3)
    assert len(tiles.class_of_head) == 3 and calls.of_list(tiles) == calls
    made = row_programs(tiles, calls)
    assert made.entries == 1 and sorted(set(made.programs[:, 0].tolist())) == [0, 1, 2]
