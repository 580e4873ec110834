"""The exact block sparsity of a mask, compressed: rows of tiles as sorted runs. Made by `analysis/tiles/mask_tiles.py`.

A tile is a block of queries against a block of keys, in laid-out order. Memory follows the number of runs, never
blocks x blocks; `classes` alone is dense, for looking and testing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.arguments import INDEX, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.arguments import OutsideMap

Array = NDArray[Any]

EMPTY, PARTIAL, FULL = 0, 1, 2
"""The classes of a tile: none, some or all of its pairs attend."""


@dataclass(frozen=True, eq=False)
class Runs:
    """For every row the sorted, disjoint and maximal runs [start, end) of its columns. All arrays are int32."""

    row_start: Array
    """Row r has the runs `row_start[r]` to `row_start[r + 1]` (exclusive)."""
    start: Array
    end: Array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("row_start", "start", "end")
        )

    @staticmethod
    def of_segments(rows: int, row: Array, start: Array, end: Array) -> "Runs":
        """From segments in any order; no two of one row may overlap, those that touch are merged."""
        return Runs.of_sorted(rows, *merge_segments(row, start, end))

    @staticmethod
    def of_sorted(rows: int, row: Array, start: Array, end: Array) -> "Runs":
        row_start = np.zeros(rows + 1, dtype=np.int32)
        np.cumsum(np.bincount(row, minlength=rows), out=row_start[1:])
        return Runs(row_start, start.astype(np.int32), end.astype(np.int32))

    @staticmethod
    def of_dense(selected: Array) -> "Runs":
        """The runs of True in a bool array [rows, columns]."""
        row, column = np.nonzero(selected)
        return Runs.of_segments(len(selected), row, column, column + 1)

    @property
    def rows(self) -> int:
        return len(self.row_start) - 1

    @cached_property
    def row(self) -> Array:
        """The row of each run."""
        return np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(self.row_start))

    @cached_property
    def counts(self) -> Array:
        """int64 [rows]: columns in each row."""
        return np.diff(np.concatenate([[0], np.cumsum(self.end.astype(np.int64) - self.start)])[self.row_start])

    @cached_property
    def count(self) -> int:
        return int(self.counts.sum())

    def expand(self) -> tuple[Array, Array]:
        """Row and column of every single tile, sorted (int32). As long as there are tiles."""
        return np.repeat(self.row, self.end - self.start), ranges(self.start, self.end)

    def batches(self, size: int) -> Iterator[tuple[Array, Array]]:
        """Row and column of the tiles, `size` at a time."""
        before = np.concatenate([[0], np.cumsum(self.end.astype(np.int64) - self.start)])
        for begin in range(0, self.count, size):
            number = np.arange(begin, min(begin + size, self.count))
            run = np.searchsorted(before, number, side="right") - 1
            yield self.row[run], self.start[run] + (number - before[run])

    def dense(self, columns: int) -> Array:
        """A bool array [rows, columns]."""
        steps = np.zeros((self.rows, columns + 1), dtype=np.int8)
        steps[self.row, self.start] += 1
        steps[self.row, self.end] -= 1
        return np.asarray(np.cumsum(steps, axis=1)[:, :-1], dtype=bool)

    def transpose(self, columns: int) -> "Runs":
        """The same tiles by column. The work follows the number of runs on either side.

        A column's run begins where a row has it and the row above has not, and ends where the next row has not.
        Rows stand one behind the other on one line, with a gap between them; `below` is all of it one row further.
        """
        width = columns + 1
        here = self.row.astype(np.int64) * width + self.start, self.row.astype(np.int64) * width + self.end
        below = here[0] + width, here[1] + width
        begin, end = (ranges(*part) for part in (difference(here, below), difference(below, here)))
        begin_column, begin_row = _column_by_column(begin, width, self.rows)
        _, end_row = _column_by_column(end, width, self.rows)
        return Runs.of_sorted(columns, begin_column, begin_row, end_row)


def merge_segments(row: Array, start: Array, end: Array) -> tuple[Array, Array, Array]:
    """Sorts the segments of rows and joins those that touch."""
    order = np.argsort((row.astype(np.int64) << 32) | start.astype(np.int64))
    row, start, end = row[order], start[order], end[order]
    first = np.ones(len(row), dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (start[1:] != end[:-1])
    return row[first], start[first], end[np.roll(first, -1)]


def ranges(start: Array, end: Array) -> Array:
    """All numbers of each range [start, end), one range behind the other."""
    length = end - start
    offset = np.cumsum(length) - length
    numbers = np.repeat(start - offset.astype(start.dtype), length)
    numbers += np.arange(len(numbers), dtype=start.dtype)
    return numbers


def difference(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """The ranges of `a` without those of `b`; the ranges of either are disjoint."""
    position = np.concatenate([*a, *b])
    order = np.argsort(position)
    lengths = [len(part) for part in (*a, *b)]
    steps = [np.repeat(np.array(sides, dtype=np.int8), lengths) for sides in ([1, -1, 0, 0], [0, 0, 1, -1])]
    inside_a, inside_b = (np.cumsum(step[order], dtype=np.int8)[:-1] for step in steps)
    begin, end = position[order][:-1], position[order][1:]
    kept = (inside_a > 0) & (inside_b == 0) & (begin < end)
    return begin[kept], end[kept]


def _column_by_column(position: Array, width: int, rows: int) -> tuple[Array, Array]:
    """Column and row of places on the line of rows, sorted."""
    row, column = np.divmod(position, width)
    return np.divmod(np.sort(column * (rows + 1) + row), rows + 1)


@dataclass(frozen=True)
class TileMap:
    """The tiles of one head class by row of query blocks; tiles in neither list are empty."""

    full: Runs
    partial: Runs

    def transpose(self, columns: int) -> "TileMap":
        """By row of key blocks, of which there are `columns`."""
        return TileMap(self.full.transpose(columns), self.partial.transpose(columns))

    def classes(self, columns: int) -> Array:
        return np.where(self.full.dense(columns), FULL, self.partial.dense(columns) * PARTIAL).astype(np.int8)


@dataclass(frozen=True, eq=False, repr=False)
class BlockMap(Displayed):
    """The exact class of every tile, for every head and batch entry. Those that agree share a head class."""

    block: tuple[int, int]
    """Queries and keys of a tile. The last block of either side may be ragged; only real tokens count."""
    query_length: int
    key_length: int
    head_classes: tuple[TileMap, ...]
    class_of_head: Array
    """Index into `head_classes`, int32 [batch, heads]; one batch entry stands for all where they don't differ."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BlockMap)
            and (self.block, self.query_length, self.key_length) == (other.block, other.query_length, other.key_length)
            and self.head_classes == other.head_classes
            and np.array_equal(self.class_of_head, other.class_of_head)
        )

    @property
    def query_blocks(self) -> int:
        return -(-self.query_length // self.block[0])

    @property
    def key_blocks(self) -> int:
        return -(-self.key_length // self.block[1])

    @takes(head=INDEX, batch=INDEX)
    def tile_map(self, head: int = 0, batch: int = 0) -> TileMap:
        """The tiles of a head of a batch entry. Raises `AttnError` where there is none."""
        entries, heads = self.class_of_head.shape
        wrong = [("head", head, heads)] * (head >= heads) + [("batch entry", batch, entries)] * (batch >= entries > 1)
        if wrong:
            raise AttnError(*(OutsideMap(what=what, number=number, last=count - 1) for what, number, count in wrong))
        return self.head_classes[int(self.class_of_head[batch if len(self.class_of_head) > 1 else 0, head])]

    @takes(head=INDEX, batch=INDEX)
    def classes(self, head: int = 0, batch: int = 0) -> Array:
        """int8 [query blocks, key blocks]: EMPTY, PARTIAL or FULL. Dense, so for small maps."""
        return self.tile_map(head, batch).classes(self.key_blocks)

    @takes(head=INDEX, batch=INDEX)
    def full_count(self, head: int = 0, batch: int = 0) -> int:
        return self.tile_map(head, batch).full.count

    @takes(head=INDEX, batch=INDEX)
    def partial_count(self, head: int = 0, batch: int = 0) -> int:
        return self.tile_map(head, batch).partial.count

    def _shown_(self) -> tuple[object, ...]:
        return (self,)

    def __repr__(self) -> str:
        tokens, block = f"{self.query_length} x {self.key_length}", " x ".join(map(str, self.block))
        counts = f"{self.full_count()} full, {self.partial_count()} partial"
        return f"BlockMap({tokens} tokens, tiles of {block}, head 0: {counts})"
