"""Bounds of reads of boolean tables over a box of indices, by prefix sums (summed-area tables).

The prefix sums of a table along some of its axes hold at each index the number of true entries before it on all of
these axes, and are one longer there than the table. The entries of a prefix sum at the corners of a box give the number
of true entries in the box, in constant time: all are true, or any is.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from itertools import product
from math import prod

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Read, Side, apply
from maskdsl.ir.facts.bounds import Bounds
from maskdsl.ir.facts.ranges import INT32, Range
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

_MOST_AXES = 3
"""The most axes of a box: it has two to this power corners, each of which is one read."""


@dataclass(frozen=True)
class Counts:
    """The prefix sums of a boolean table along `axes`; axes in `laid_out` are in the memory order of a side."""

    table: Input
    axes: tuple[int, ...]
    laid_out: tuple[tuple[int, Side], ...] = ()

    @property
    def input(self) -> Input:
        """The prefix sums as an integer input, with a name that no pattern can declare."""
        dimensions = list(self.table.dimensions)
        for axis in self.axes:
            size = dimensions[axis].size
            assert size is not None
            dimensions[axis] = Dimension(DimensionKind.FIXED, size + 1, dimensions[axis].text)
        words = [self.table.name, "counts", *self.axes, *(f"{side} {axis}" for axis, side in self.laid_out)]
        name = " ".join(map(str, words))
        return replace(self.table, name=name, type=Type.INT, dimensions=tuple(dimensions))


class Boxes:
    """Bounds of reads of a mask's boolean tables. `used` collects the prefix sums that they read, by input name.

    `positions` gives bounds of memory positions, for each side whose tokens have one memory order for all heads and
    batch entries. Axes of tables that such tokens index are put in memory order too.
    """

    def __init__(
        self, mask: MaskIR, ranges: Callable[[Expression], Range], positions: Mapping[Side, Bounds] | None = None
    ) -> None:
        self.mask, self.ranges, self.positions = mask, ranges, positions or {}
        self.used: dict[str, Counts] = {}

    def bounds(self, read: Read, indices: tuple[Bounds, ...]) -> Bounds | None:
        """Bounds of a read with indices in these bounds; None if prefix sums cannot or need not give them."""
        table = self.mask.input(read.input)
        assert table is not None
        axes = tuple(axis for axis, index in enumerate(indices) if not index.is_point)
        sizes = [table.dimensions[axis].size for axis in axes]
        known = [size for size in sizes if size is not None]
        fit = len(known) == len(sizes) and prod(known) in INT32
        if table.type is not Type.BOOL or not fit or not 0 < len(axes) <= _MOST_AXES:
            return None
        laid_out = {
            axis: side for axis in axes for side in self.positions if read.indices[axis] == Coordinate(side, "i")
        }
        counts = Counts(table, axes, tuple(laid_out.items()))
        self.used[counts.input.name] = counts
        within = {axis: self.positions[laid_out[axis]] if axis in laid_out else indices[axis] for axis in axes}
        box = {axis: self.clipped(within[axis], size) for axis, size in zip(axes, known, strict=True)}
        count = _true_entries(counts, indices, box)
        size = reduce(_multiplied, (_extent(each) for each in box.values()))
        return Bounds(apply(Op.EQUAL, count, size), apply(Op.LESS, Constant(0), count))

    def clipped(self, index: Bounds, size: int) -> Bounds:
        """The bounds of an index, clamped to the table as the index itself is."""

        def moved(end: Expression) -> Expression:
            low, high = self.ranges(end)
            end = apply(Op.MAXIMUM, end, Constant(0)) if low < 0 else end
            return apply(Op.MINIMUM, end, Constant(size - 1)) if high >= size else end

        return Bounds(moved(index.low), moved(index.high))


def _true_entries(counts: Counts, indices: tuple[Bounds, ...], box: dict[int, Bounds]) -> Expression:
    """The number of true entries in the box, by inclusion and exclusion over its corners."""
    count: Expression | None = None
    for ends in product((True, False), repeat=len(box)):
        corner_indices = [index.low for index in indices]
        for (axis, index), is_high in zip(box.items(), ends, strict=True):
            corner_indices[axis] = apply(Op.ADD, index.high, Constant(1)) if is_high else index.low
        corner = Read(counts.input.name, tuple(corner_indices), Type.INT)
        op = Op.SUBTRACT if ends.count(False) % 2 else Op.ADD
        count = corner if count is None else apply(op, count, corner)
    assert count is not None
    return count


def _extent(index: Bounds) -> Expression:
    """The number of indices between the bounds."""
    return apply(Op.ADD, apply(Op.SUBTRACT, index.high, index.low), Constant(1))


def _multiplied(a: Expression, b: Expression) -> Expression:
    return apply(Op.MULTIPLY, a, b)
