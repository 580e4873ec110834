"""The rows of a call with a table of choices: queries of all heads that chose a block of keys, gathered from a segment.

Which pairs attend is not evaluated: rows follow from the table. Where about all queries of a tile chose its block, no
queries are gathered: they take the whole tile, with those left out that did not choose it.
"""

from math import lcm
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.records import dataclass
from maskdsl.runtime.backends.native.choice_tiles import ChoiceTiles
from maskdsl.runtime.backends.native.panel_lists import PanelLists, new_runs
from maskdsl.runtime.backends.native.structures import LARGEST_ROW, ROW, SEGMENT

Array = NDArray[Any]

_GATHERED = 1.0
"""What it costs to gather a query for a block, in panels that it takes."""
_MEMBERS = 2048
"""Queries of all heads of a segment, about: their sums stay in the processor's cache."""
_EVERY_LANE = 0xFFFF


class ChosenLists(NamedTuple):
    """The rows of a call, segment by segment."""

    lists: PanelLists
    """Its classes are units, and `class_rows` says where the segments of each begin; rows have members."""
    segments: Array
    """`SEGMENT` [segments]"""
    members: Array
    """int32: the queries of rows, one row after the other."""


@dataclass(frozen=True)
class _TableHeads:
    """The query heads of a call. Those that share a column of tables are alike."""

    batch: int
    key_heads: int
    of_unit: int
    """Different tables of a key head."""
    alike: int
    """Query heads of each."""

    @property
    def tables(self) -> int:
        """The tables of a batch entry."""
        return self.key_heads * self.of_unit


def takes_whole(chosen: Array, queries: Array, panels: int) -> Array:
    """bool: where a tile as a whole costs no more than to gather those of its queries that chose it."""
    return np.asarray((chosen > 0) & (chosen * (panels + _GATHERED) >= queries * panels))


def chosen_lists(tiles: ChoiceTiles, table: Array, heads: int, key_heads: int) -> ChosenLists:
    """The lists of a call with a table, bool [batch, heads or those that share one, rows, columns]."""
    grid, columns = tiles.grid, tiles.decided.shape[1]
    batch, tables = len(table), lcm(table.shape[1], key_heads)
    table = table.repeat(tables // table.shape[1], axis=1)
    of = _TableHeads(batch, key_heads, tables // key_heads, heads // tables)
    rows, size = len(tiles.decided), grid.tallest
    step = max(1, min(_MEMBERS // (of.of_unit * of.alike * size), rows))
    count = -(-rows // step)
    chosen = np.zeros((batch, tables, count * step * size, columns), np.bool_)
    chosen[:, :, : grid.queries] = table[:, :, tiles.table_row, :columns]
    decided = np.zeros((count * step, columns), np.bool_)
    decided[:rows] = tiles.decided
    by_row = chosen.reshape(batch * tables, count * step, size, columns)
    counts = by_row.sum(axis=2, dtype=np.int64)
    queries = np.clip(grid.queries - np.arange(count * step) * size, 0, size)[:, None]
    whole = takes_whole(counts, queries, grid.of_block) & decided
    runs, words, run_start = side_by_side(tiles, by_row, whole, counts == queries)
    first = np.arange(count) * step * size
    segments = np.zeros((batch * key_heads, count), SEGMENT)
    segments["first"], segments["count"] = first, np.minimum(step * size, grid.queries - first)
    made = _whole_rows(of, segments["count"][0], run_start, step, size)
    gathered = by_row & (decided & ~whole)[:, :, None]
    more = _gathered_rows(of, gathered, segments["count"][0], len(runs), len(made[2]))
    number, row, members = (np.concatenate(each) for each in zip(made, more, strict=True))
    row = row[np.argsort(number, kind="stable")]
    segments["rows"] = np.bincount(number, minlength=segments.size).reshape(segments.shape)
    segments["row"] = (np.cumsum(segments["rows"]) - segments["rows"].ravel()).reshape(segments.shape)
    units = np.arange(batch * key_heads, dtype=np.int32).reshape(batch, key_heads)
    classes = np.ascontiguousarray(np.repeat(units, heads // key_heads, axis=1))
    class_rows = np.arange(batch * key_heads + 1, dtype=np.int64) * count
    all_runs = np.concatenate([runs, new_runs(np.arange(columns) * grid.of_block, grid.of_block)])
    return ChosenLists(PanelLists(classes, class_rows, row, all_runs, words, packs=True), segments.ravel(), members)


def side_by_side(tiles: ChoiceTiles, chosen: Array, whole: Array, everyone: Array) -> tuple[Array, Array, Array]:
    """The runs of rows of queries side by side, their masks, and where the runs of each table's rows begin and end.

    `chosen` is bool [tables, rows, queries, columns]; `whole` and `everyone`, bool [tables, rows, columns], say which
    tiles are taken as a whole, and which of them by all queries.
    """
    tables, rows = chosen.shape[:2]
    mixed = tiles.mixed
    adds = chosen[:, mixed.row, :, mixed.column].transpose(1, 0, 2)
    of_mixed = np.where(adds, mixed.chosen, mixed.fixed).reshape(-1, tiles.words.shape[1])
    table, row, column = np.nonzero(whole)
    is_masked = ~everyone[table, row, column]
    of_whole = chosen[table[is_masked], row[is_masked], :, column[is_masked]] * np.uint16(_EVERY_LANE)
    taken = new_runs(column * tiles.grid.of_block, tiles.grid.of_block)
    first = len(tiles.words) + len(of_mixed)
    taken["mask"][is_masked] = -2 - first - np.arange(len(of_whole))
    number = np.arange(tables)[:, None] * rows
    partial = new_runs(np.tile(mixed.panel, tables), 1)
    partial["mask"] = len(tiles.words) + np.arange(len(of_mixed))
    of_row = np.concatenate([(number + tiles.row).ravel(), (number + mixed.row).ravel(), table * rows + row])
    order = np.argsort(of_row, kind="stable")
    runs = np.concatenate([np.tile(tiles.runs, tables), partial, taken])[order]
    start = np.searchsorted(of_row[order], np.arange(tables * rows + 1)).reshape(-1)
    return runs, np.concatenate([tiles.words, of_mixed, of_whole.astype(np.uint16)]), start


def _whole_rows(of: _TableHeads, counts: Array, run_start: Array, step: int, size: int) -> tuple[Array, Array, Array]:
    """The rows of queries side by side, of `step` rows a segment: the segment of each, themselves, and their members.

    `counts` are the queries of segments, `run_start` is of the rows of all tables.
    """
    units, heads = of.batch * of.key_heads, of.of_unit * of.alike
    by_table = (units, of.of_unit, len(counts) * step)
    starts, runs = run_start[:-1].reshape(by_table), np.diff(run_start).reshape(by_table)
    row = np.arange(len(counts) * step)
    segment, before = row // step, row % step * size
    members = np.arange(heads)[:, None, None] * counts[segment][:, None] + before[:, None] + np.arange(size)
    made = np.zeros((units, heads, len(row)), ROW)
    made["first"] = np.arange(heads * len(row)).reshape(heads, -1) * size
    made["count"] = np.clip(counts[segment] - before, 0, size)
    made["run"], made["runs"] = (np.repeat(each, of.alike, axis=1) for each in (starts, runs))
    number = np.arange(units)[:, None, None] * len(counts) + np.broadcast_to(segment, made.shape)
    kept = (made["runs"] > 0) & (made["count"] > 0)
    return number[kept], made[kept], members.ravel().astype(np.int32)


def _gathered_rows(
    of: _TableHeads, chosen: Array, counts: Array, first_run: int, first_member: int
) -> tuple[Array, Array, Array]:
    """The rows of queries that gather: the segment of each, themselves, and their members. Each column has a run."""
    columns, segments = chosen.shape[-1], len(counts)
    units = of.batch * of.key_heads
    by_segment = chosen.reshape(units, of.of_unit, segments, -1, columns).transpose(0, 2, 4, 1, 3)
    longest = by_segment.shape[-1]
    cell, within = np.divmod(np.flatnonzero(by_segment), of.of_unit * longest)
    table, query = np.divmod(within, longest)
    head = table[:, None] * of.alike + np.arange(of.alike)
    members = head * counts[cell // columns % segments][:, None] + query[:, None]
    in_cell = np.bincount(cell, minlength=units * segments * columns) * of.alike
    in_rows = -(-in_cell // LARGEST_ROW)
    of_cell = np.repeat(np.arange(len(in_cell)), in_rows)
    number = np.arange(len(of_cell)) - np.repeat(np.cumsum(in_rows) - in_rows, in_rows)
    begin, end = (in_cell[of_cell] * (number + one) // in_rows[of_cell] for one in (0, 1))
    made = np.zeros(len(of_cell), ROW)
    made["first"] = first_member + (np.cumsum(in_cell) - in_cell)[of_cell] + begin
    made["count"], made["run"], made["runs"] = end - begin, first_run + of_cell % columns, 1
    return of_cell // columns, made, members.ravel().astype(np.int32)
