"""Bounds of table reads: the values of `table[i, j]` while its indices range over a box.

A table stores minima and maxima over aligned cells of 1, 2, 4, ... entries along each axis, in all combinations: two to
the number of axes times the size of the table. A box is covered by at most two cells per axis, the smallest that
suffice. Exact for a single entry.
"""

from functools import reduce
from itertools import product

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.facts.intervals import Array, Interval, point, spoil


@dataclass(frozen=True, eq=False)
class BoundedTable:
    """An input's values for one batch entry, with their bounds over cells."""

    values: Array
    bounds: Interval
    """The bounds of all cells of all levels, flat."""
    is_open: bool
    """Whether reads outside the table are NaN."""
    first: Array
    """int64 [levels of axis 0, levels of axis 1, ...]: offset of each level's cells in `bounds`."""

    @staticmethod
    def of(values: Array, is_open: bool = False) -> "BoundedTable":
        """The table of an array, with the bounds of all cells."""
        depths = tuple(max(length - 2, 0).bit_length() + 1 for length in values.shape)
        lows, highs = {}, {}
        for level in product(*map(range, depths)):
            axis = next((axis for axis, depth in enumerate(level) if depth > 0), None)
            if axis is None:
                lows[level] = highs[level] = values
            else:
                below = (*level[:axis], level[axis] - 1, *level[axis + 1 :])
                starts = np.arange(0, lows[below].shape[axis], 2)
                lows[level] = np.minimum.reduceat(lows[below], starts, axis=axis)
                highs[level] = np.maximum.reduceat(highs[below], starts, axis=axis)
        first = np.cumsum([0] + [cells.size for cells in lows.values()])[:-1].reshape(depths)
        flat = Interval(*(np.concatenate([cells.ravel() for cells in levels.values()]) for levels in (lows, highs)))
        return BoundedTable(values, flat, is_open, first)

    def read(self, *indices: Interval) -> Interval:
        """The interval of reads. Indices out of bounds are clamped, as all backends do for pairs that do not attend."""
        result = self.clamped(*indices)
        if not self.is_open:
            return result
        lengths = zip(indices, self.values.shape, strict=True)
        outside = reduce(np.logical_or, ((index.low < 0) | (index.high >= length) for index, length in lengths))
        return point(np.where(outside, np.nan, result.low)) if result.is_point else spoil(result, outside)

    def clamped(self, *indices: Interval) -> Interval:
        """The interval of reads with clamped indices."""
        clipped = [
            point(np.clip(index.low, 0, length - 1))
            if index.is_point
            else Interval(np.clip(index.low, 0, length - 1), np.clip(index.high, 0, length - 1))
            for index, length in zip(indices, self.values.shape, strict=True)
        ]
        if all(index.is_point for index in clipped):
            return point(self.values[tuple(index.low for index in clipped)])
        levels = tuple(_level_of(index.high - index.low) for index in clipped)
        first = self.first[levels]
        cells = [first + self.cell(levels, ends) for ends in product(*((i.low, i.high) for i in clipped))]
        low = reduce(np.minimum, (self.bounds.low[cell] for cell in cells))
        return Interval(low, reduce(np.maximum, (self.bounds.high[cell] for cell in cells)))

    def cell(self, levels: tuple[Array, ...], entry: tuple[Array, ...]) -> Array:
        """The row-major number, among the cells of its level, of the cell that holds an entry."""
        cell = np.int64(0)
        for level, index, length in zip(levels, entry, self.values.shape, strict=True):
            cell = cell * (((length - 1) >> level) + 1) + (index >> level)
        return np.asarray(cell)


def _level_of(extent: Array) -> Array:
    """The smallest level at which two adjacent cells always cover `extent` + 1 consecutive entries."""
    return np.asarray(np.frexp(np.maximum(extent - 1, 0).astype(np.float64))[1], dtype=np.int64)
