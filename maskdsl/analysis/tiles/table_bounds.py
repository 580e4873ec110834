"""Bounds of table inputs: what `table[i, j]` can be while its indices range over boxes.

A table keeps its minima and maxima over aligned cells of 1, 2, 4, ... entries on every axis, in all combinations
(two to the number of axes times the table itself). A box is covered by at most two cells an axis, of which the
smallest that can do it are taken: exact for a single entry.
"""

from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np

from maskdsl.analysis.tiles.intervals import Array, Interval, point, spoil


@dataclass(frozen=True, eq=False)
class BoundedTable:
    """An input's values for one batch entry, with their bounds over cells."""

    values: Array
    bounds: Interval
    """All levels of all cells, flat."""
    is_open: bool
    """Whether what is outside is NaN."""
    first: Array
    """int64 [levels of axis 0, levels of axis 1, ...]: where a level's cells begin in `bounds`."""

    @staticmethod
    def of(values: Array, is_open: bool = False) -> "BoundedTable":
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
        flat = Interval(*(np.concatenate([part.ravel() for part in parts.values()]) for parts in (lows, highs)))
        return BoundedTable(values, flat, is_open, first)

    def read(self, *indices: Interval) -> Interval:
        """Indices out of bounds are moved to the border, as every backend does for pairs that don't attend."""
        found = self.moved(*indices)
        if not self.is_open:
            return found
        lengths = zip(indices, self.values.shape, strict=True)
        outside = reduce(np.logical_or, ((index.low < 0) | (index.high >= length) for index, length in lengths))
        return point(np.where(outside, np.nan, found.low)) if found.is_point else spoil(found, outside)

    def moved(self, *indices: Interval) -> Interval:
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
        positions = [first + self.position(levels, ends) for ends in product(*((i.low, i.high) for i in clipped))]
        low = reduce(np.minimum, (self.bounds.low[position] for position in positions))
        return Interval(low, reduce(np.maximum, (self.bounds.high[position] for position in positions)))

    def position(self, levels: tuple[Array, ...], entry: tuple[Array, ...]) -> Array:
        """Row-major place, among the cells of its level, of the one that holds an entry."""
        position = np.int64(0)
        for level, index, length in zip(levels, entry, self.values.shape, strict=True):
            position = position * (((length - 1) >> level) + 1) + (index >> level)
        return np.asarray(position)


def _level_of(extent: Array) -> Array:
    """The smallest level at which two cells in a row always cover an entry and those up to `extent` further."""
    return np.asarray(np.frexp(np.maximum(extent - 1, 0).astype(np.float64))[1], dtype=np.int64)
