"""The exact block sparsity of a mask, compressed: rows of tiles as sorted runs. Made by `analysis/tiles/mask_tiles.py`.

A tile is a block of queries against a block of keys, in memory order. Memory follows the number of runs, never
blocks x blocks; only `classes` is dense, for looking and testing.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.arguments import INDEX, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.arguments import OutsideMap
from maskdsl.base.records import dataclass

Array = NDArray[Any]

EMPTY, PARTIAL, FULL = 0, 1, 2
"""The classes of a tile: none, some or all of its pairs attend."""


@dataclass(frozen=True, eq=False)
class Runs:
    """For every row, the sorted, disjoint and maximal runs [start, end) of its columns. All arrays are int32."""

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
        """The runs of segments in any order. Segments of a row must not overlap; adjacent ones are merged."""
        return Runs.of_sorted(rows, *merge_segments(row, start, end))

    @staticmethod
    def of_sorted(rows: int, row: Array, start: Array, end: Array) -> "Runs":
        """The runs of maximal segments that are sorted by row and start."""
        row_start = np.zeros(rows + 1, dtype=np.int32)
        np.cumsum(np.bincount(row, minlength=rows), out=row_start[1:])
        return Runs(row_start, start.astype(np.int32), end.astype(np.int32))

    @staticmethod
    def of_dense(selected: Array) -> "Runs":
        """The runs of true entries of a bool array [rows, columns]."""
        row, column = np.nonzero(selected)
        return Runs.of_segments(len(selected), row, column, column + 1)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.row_start) - 1

    @cached_property
    def has_one_each(self) -> bool:
        """Whether every row has one run."""
        return len(self.start) == self.rows and bool((np.diff(self.row_start) == 1).all())

    @cached_property
    def row(self) -> Array:
        """int32 [runs]: the row of each run."""
        every = np.arange(self.rows, dtype=np.int32)
        return every if self.has_one_each else np.repeat(every, np.diff(self.row_start))

    @cached_property
    def counts(self) -> Array:
        """int64 [rows]: the number of columns in the runs of each row."""
        return np.diff(np.concatenate([[0], np.cumsum(self.end.astype(np.int64) - self.start)])[self.row_start])

    @cached_property
    def count(self) -> int:
        """The number of tiles."""
        return int(self.counts.sum())

    def expand(self) -> tuple[Array, Array]:
        """Row and column of every tile, sorted, int32 [tiles]."""
        return np.repeat(self.row, self.end - self.start), ranges(self.start, self.end)

    def batches(self, size: int) -> Iterator[tuple[Array, Array]]:
        """Yields row and column of the tiles, `size` tiles at a time."""
        before = np.concatenate([[0], np.cumsum(self.end.astype(np.int64) - self.start)])
        for begin in range(0, self.count, size):
            number = np.arange(begin, min(begin + size, self.count))
            run = np.searchsorted(before, number, side="right") - 1
            yield self.row[run], self.start[run] + (number - before[run])

    def dense(self, columns: int) -> Array:
        """bool [rows, columns]: which tiles are in the runs."""
        steps = np.zeros((self.rows, columns + 1), dtype=np.int8)
        steps[self.row, self.start] += 1
        steps[self.row, self.end] -= 1
        return np.asarray(np.cumsum(steps, axis=1)[:, :-1], dtype=bool)

    def transpose(self, columns: int) -> "Runs":
        """The same tiles by column. The work follows the number of runs of both.

        A run of a column begins at a row that has the column if the row above has not, and ends likewise. Rows are
        concatenated to one line with a gap after each; `below` is that line moved one row down.
        """
        width = columns + 1
        here = self.row.astype(np.int64) * width + self.start, self.row.astype(np.int64) * width + self.end
        below = here[0] + width, here[1] + width
        begin, end = (ranges(*edges) for edges in (difference(here, below), difference(below, here)))
        begin_column, begin_row = _column_by_column(begin, width, self.rows)
        _, end_row = _column_by_column(end, width, self.rows)
        return Runs.of_sorted(columns, begin_column, begin_row, end_row)


def merge_segments(row: Array, start: Array, end: Array) -> tuple[Array, Array, Array]:
    """Sorts segments by row and start, and merges adjacent ones."""
    order = np.argsort((row.astype(np.int64) << 32) | start.astype(np.int64), kind="stable")  # of sorted pieces
    row, start, end = row[order], start[order], end[order]
    first = np.ones(len(row), dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (start[1:] != end[:-1])
    return row[first], start[first], end[np.roll(first, -1)]


def ranges(start: Array, end: Array) -> Array:
    """The concatenated integers of all ranges [start, end)."""
    length = end - start
    offset = np.cumsum(length) - length
    numbers = np.repeat(start - offset.astype(start.dtype), length)
    numbers += np.arange(len(numbers), dtype=start.dtype)
    return numbers


def difference(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """The set difference of ranges `a` minus `b`, sorted; the ranges of each are disjoint."""
    ends = np.concatenate([*a, *b])
    order = np.argsort(ends)
    lengths = [len(each) for each in (*a, *b)]
    steps = [np.repeat(np.array(sides, dtype=np.int8), lengths) for sides in ([1, -1, 0, 0], [0, 0, 1, -1])]
    inside_a, inside_b = (np.cumsum(step[order], dtype=np.int8)[:-1] for step in steps)
    begin, end = ends[order][:-1], ends[order][1:]
    kept = (inside_a > 0) & (inside_b == 0) & (begin < end)
    return begin[kept], end[kept]


def _column_by_column(offset: Array, width: int, rows: int) -> tuple[Array, Array]:
    """Column and row of offsets on the line of concatenated rows, sorted by column."""
    row, column = np.divmod(offset, width)
    return np.divmod(np.sort(column * (rows + 1) + row), rows + 1)


@dataclass(frozen=True)
class TileMap:
    """The tiles of one head class, by row of query blocks. Tiles in neither list are empty."""

    full: Runs
    partial: Runs

    def transpose(self, columns: int) -> "TileMap":
        """The same tiles by row of key blocks; `columns` is the number of key blocks."""
        return TileMap(self.full.transpose(columns), self.partial.transpose(columns))

    def classes(self, columns: int) -> Array:
        """int8 [query blocks, columns]: EMPTY, PARTIAL or FULL."""
        return np.where(self.full.dense(columns), FULL, self.partial.dense(columns) * PARTIAL).astype(np.int8)


@dataclass(frozen=True, eq=False, repr=False)
class BlockMap(Displayed):
    """The exact class of every tile, for every head and batch entry. Heads with the same tiles share a head class."""

    block: tuple[int, int]
    """Queries and keys of a tile. The last block of either side may be shorter."""
    query_length: int
    key_length: int
    head_classes: tuple[TileMap, ...]
    class_of_head: Array
    """int32 [batch, heads]: index into `head_classes`; one row if batch entries do not differ."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BlockMap)
            and (self.block, self.query_length, self.key_length) == (other.block, other.query_length, other.key_length)
            and self.head_classes == other.head_classes
            and np.array_equal(self.class_of_head, other.class_of_head)
        )

    @property
    def query_blocks(self) -> int:
        """The number of blocks of queries."""
        return -(-self.query_length // self.block[0])

    @property
    def key_blocks(self) -> int:
        """The number of blocks of keys."""
        return -(-self.key_length // self.block[1])

    @takes(head=INDEX, batch=INDEX)
    def tile_map(self, head: int = 0, batch: int = 0) -> TileMap:
        """The tiles of one head and batch entry. Raises `OutsideMap` if the map has no such head or batch entry."""
        entries, heads = self.class_of_head.shape
        wrong = [("head", head, heads)] * (head >= heads) + [("batch entry", batch, entries)] * (batch >= entries > 1)
        if wrong:
            raise AttnError(*(OutsideMap(what=what, number=number, last=count - 1) for what, number, count in wrong))
        return self.head_classes[int(self.class_of_head[batch if len(self.class_of_head) > 1 else 0, head])]

    @takes(head=INDEX, batch=INDEX)
    def classes(self, head: int = 0, batch: int = 0) -> Array:
        """int8 [query blocks, key blocks]: EMPTY, PARTIAL or FULL. Dense, so for small maps. Raises as `tile_map`."""
        return self.tile_map(head, batch).classes(self.key_blocks)

    @takes(head=INDEX, batch=INDEX)
    def full_count(self, head: int = 0, batch: int = 0) -> int:
        """The number of full tiles of one head. Raises as `tile_map`."""
        return self.tile_map(head, batch).full.count

    @takes(head=INDEX, batch=INDEX)
    def partial_count(self, head: int = 0, batch: int = 0) -> int:
        """The number of partial tiles of one head. Raises as `tile_map`."""
        return self.tile_map(head, batch).partial.count

    def _shown_(self) -> tuple[object, ...]:
        return (self,)

    def __repr__(self) -> str:
        tokens, block = f"{self.query_length} x {self.key_length}", " x ".join(map(str, self.block))
        counts = f"{self.full_count()} full, {self.partial_count()} partial"
        return f"BlockMap({tokens} tokens, tiles of {block}, head 0: {counts})"
