"""Boolean tables over boxes of indices: whether all entries of a box are true, and whether any is, by counting them.

Counts of a table along some of its axes hold, at every place, how many entries before it on all of these axes are true;
they are one longer there than the table. How many entries of a box are true follows from the counts at its corners,
however large it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from math import prod

from maskdsl.ir.expressions import Constant, Coordinate, Expression, Read, Side, apply
from maskdsl.ir.facts.bounds import Bounds
from maskdsl.ir.facts.ranges import INT32, Range
from maskdsl.ir.mask import Dimension, DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Op, Type

_MOST_AXES = 3
"""Of a box: it has two to this power corners."""


@dataclass(frozen=True)
class Counts:
    """Of true entries of `table` along `axes`, of which some are `laid_out` as the tokens of a side are."""

    table: Input
    axes: tuple[int, ...]
    laid_out: tuple[tuple[int, Side], ...] = ()

    @property
    def input(self) -> Input:
        """The counts as an input, with a name that no pattern could have."""
        dimensions = list(self.table.dimensions)
        for axis in self.axes:
            size = dimensions[axis].size
            assert size is not None
            dimensions[axis] = Dimension(DimensionKind.FIXED, size + 1, dimensions[axis].text)
        parts = [self.table.name, "counts", *self.axes, *(f"{side} {axis}" for axis, side in self.laid_out)]
        name = " ".join(map(str, parts))
        return replace(self.table, name=name, type=Type.INT, dimensions=tuple(dimensions))


class Boxes:
    """Bounds of reads of a mask's boolean tables. `used` are the counts that these read, by the name of their input.

    `positions` are the bounds of places of the sides whose tokens are laid out anew, equally for all heads and batch
    entries: a table with an entry for each token is laid out with them.
    """

    def __init__(
        self, mask: MaskIR, ranges: Callable[[Expression], Range], positions: Mapping[Side, Bounds] | None = None
    ) -> None:
        self.mask, self.ranges, self.positions = mask, ranges, positions or {}
        self.used: dict[str, Counts] = {}

    def bounds(self, read: Read, indices: tuple[Bounds, ...]) -> Bounds | None:
        """Of a read between these indices; None if there are no counts for it, or no need of them."""
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
        count = _counted(counts, indices, box)
        size = reduce(_multiplied, (_extent(each) for each in box.values()))
        return Bounds(apply(Op.EQUAL, count, size), apply(Op.LESS, Constant(0), count))

    def clipped(self, index: Bounds, size: int) -> Bounds:
        """Moved into the table, as the indices of pairs are."""

        def moved(end: Expression) -> Expression:
            low, high = self.ranges(end)
            end = apply(Op.MAXIMUM, end, Constant(0)) if low < 0 else end
            return apply(Op.MINIMUM, end, Constant(size - 1)) if high >= size else end

        return Bounds(moved(index.low), moved(index.high))


def _counted(counts: Counts, indices: tuple[Bounds, ...], box: dict[int, Bounds]) -> Expression:
    """How many entries of the box are true: its corners' counts, those an odd number of low ends away taken off."""
    total: Expression | None = None
    for ends in product((True, False), repeat=len(box)):
        position = [index.low for index in indices]
        for (axis, index), is_high in zip(box.items(), ends, strict=True):
            position[axis] = apply(Op.ADD, index.high, Constant(1)) if is_high else index.low
        corner = Read(counts.input.name, tuple(position), Type.INT)
        op = Op.SUBTRACT if ends.count(False) % 2 else Op.ADD
        total = corner if total is None else apply(op, total, corner)
    assert total is not None
    return total


def _extent(index: Bounds) -> Expression:
    return apply(Op.ADD, apply(Op.SUBTRACT, index.high, index.low), Constant(1))


def _multiplied(a: Expression, b: Expression) -> Expression:
    return apply(Op.MULTIPLY, a, b)
