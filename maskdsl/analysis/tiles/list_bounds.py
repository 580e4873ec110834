"""Bounds of the numbers of entries in a sparse input: whether entries are stored in none, some or all pairs of a box.

Where the row reads one side of a pair and the column the other, the pairs of tokens that have an entry are counted for
the nodes of both trees, in time of the list's length: the bounds are then exact, in any order of tokens. Elsewhere a
box may have an entry if its rows have any.
"""

from dataclasses import field

import numpy as np

from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.analysis.tiles.trees import Nodes
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Read
from maskdsl.ir.facts.intervals import Array, Interval, point
from maskdsl.ir.values.entries import EntryList


@dataclass(frozen=True, eq=False)
class BoundedList:
    """The entries of a sparse input, with the pairs of nodes that they touch."""

    entries: EntryList
    counted: dict[object, "_PairCounts"] = field(default_factory=dict)

    @staticmethod
    def of(held: Array) -> "BoundedList":
        """The lists in a sparse input's tensor."""
        return BoundedList(EntryList.of(held))

    def read(self, *indices: Interval) -> Interval:
        """The interval of the numbers of entries, -1 for none. Without indices before the row, rows count through."""
        *front, row, column = indices
        entries, last = self.entries, len(self.entries.columns) - 1
        if all(index.is_point for index in indices):
            return point(
                entries.numbers(entries.row(*(each.low for each in front), row.low) if front else row.low, column.low)
            )
        if front:
            return Interval(np.asarray(-1), np.asarray(last))
        if isinstance(row, Nodes) and isinstance(column, Nodes) and row.tree is not column.tree:
            count, pairs = self._counts(row, column).of(row.nodes, column.nodes)
            some, every = count > 0, count == pairs
            return Interval(np.where(every, 0, -1), np.where(some, last, -1), some & ~every)
        first, end = (np.clip(bound, 0, entries.rows - 1) for bound in (row.low, row.high))
        some = (entries.starts[end + 1] > entries.starts[first]) & (row.high >= 0) & (row.low < entries.rows)
        return Interval(np.full(some.shape, -1), np.where(some, last, -1))

    def _counts(self, row: Nodes, column: Nodes) -> "_PairCounts":
        """The counts for all nodes of these levels; those above tiles from those of tiles."""
        key = [(id(each.tree), each.column, each.level) for each in (row, column)]
        if (*key,) not in self.counted:
            above = [max(each.level, 0) for each in (row, column)]
            if any(above):
                tiles = self._counts(*(each.at(min(each.level, 0)) for each in (row, column)))
                self.counted[*key] = tiles.coarser(*above)
            else:
                self.counted[*key] = _PairCounts.joined(self.entries, row, column)
        return self.counted[*key]


Bounded = BoundedTable | BoundedList
"""The bounds of an input that is read by index."""


def bounded(read: Read, values: Array) -> Bounded:
    """The bounds of the input that is read, of these values."""
    return BoundedList.of(values) if read.sparse else BoundedTable.of(values, read.open)


@dataclass(frozen=True, eq=False)
class _PairCounts:
    """The pairs of tokens that have an entry, for the pairs of nodes with any. Repeated tokens count again."""

    sizes: tuple[Array, Array]
    """int64 [nodes]: the tokens of each node, of the side of rows and of that of columns; repetitions count."""
    codes: Array
    """int64, sorted: the row's node and the column's node in one number."""
    counts: Array

    @staticmethod
    def joined(entries: EntryList, row: Nodes, column: Nodes) -> "_PairCounts":
        """Counts pairs of the nodes that hold the row of an entry, and those that hold its column."""
        codes = entries.distinct
        rows, columns = (each.tree.column(each.column, each.level) for each in (row, column))
        entry, row_node, row_count = _nodes_with(rows, codes >> 31)
        other, column_node, column_count = _nodes_with(columns, (codes & (2**31 - 1))[entry])
        sizes = np.full(len(rows), rows.shape[1]), np.full(len(columns), columns.shape[1])
        return _PairCounts.summed(sizes, row_node[other] * len(columns) + column_node, row_count[other] * column_count)

    @staticmethod
    def summed(sizes: tuple[Array, Array], codes: Array, counts: Array) -> "_PairCounts":
        """Adds up the counts of equal codes."""
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        return _PairCounts(sizes, codes[first], np.add.reduceat(counts[order], first) if len(first) else counts)

    def coarser(self, row_levels: int, column_levels: int) -> "_PairCounts":
        """The counts for nodes of two children each, so many levels above."""
        levels = row_levels, column_levels
        row, column = (
            np.add.reduceat(size, np.arange(0, len(size), 1 << level))
            for size, level in zip(self.sizes, levels, strict=True)
        )
        rows, columns = np.divmod(self.codes, len(self.sizes[1]))
        codes = (rows >> row_levels) * len(column) + (columns >> column_levels)
        return _PairCounts.summed((row, column), codes, self.counts)

    def of(self, rows: Array, columns: Array) -> tuple[Array, Array]:
        """For each pair of nodes, the pairs of tokens that have an entry, and all pairs of tokens."""
        codes, pairs = rows * len(self.sizes[1]) + columns, self.sizes[0][rows] * self.sizes[1][columns]
        if not len(self.codes):
            return np.zeros_like(pairs), pairs
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[at] == codes, self.counts[at], 0), pairs


def _nodes_with(values: Array, wanted: Array) -> tuple[Array, Array, Array]:
    """The nodes with tokens of these values, of all `values` [nodes, tokens].

    Gives the index of the wanted value, the node, and the number of its tokens that have the value, side by side.
    """
    nodes = len(values)
    codes = (values * nodes + np.arange(nodes)[:, None]).reshape(-1)
    first = np.flatnonzero(np.diff(codes, prepend=codes[:1] - 1))  # adjacent tokens mostly have the same value
    codes, which = np.unique(codes[first], return_inverse=True)
    counts = np.bincount(which, np.diff(first, append=values.size), len(codes)).astype(np.int64)
    held, node = np.divmod(codes, nodes)
    first, last = np.searchsorted(held, wanted), np.searchsorted(held, wanted, side="right")
    count = last - first
    index = np.repeat(np.arange(len(wanted)), count)
    at = np.arange(len(index)) + np.repeat(first - (np.cumsum(count) - count), count)
    return index, node[at], counts[at]
