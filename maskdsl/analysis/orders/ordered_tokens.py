"""The tokens of one side in any order: the columns and sort keys, computed once and permuted for each order."""

from collections.abc import Mapping
from dataclasses import field, replace

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.head_classes import LaidOutTokens
from maskdsl.analysis.tiles.list_bounds import Bounded
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import Coordinate, Expression, InSpace, Leaf
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.numpy_operators import evaluate

Box = Mapping[str, tuple[int, ...]]
"""By name of a space, the number of leading indices of each axis. Missing spaces are whole."""


@dataclass(frozen=True, eq=False)
class SideTokens:
    """The tokens of one side, or a subset of them, for one head and batch entry."""

    coordinates: Coordinates
    positions: Array
    """int64 [tokens]: their declared positions, ascending."""
    values: dict[Expression, Array] = field(default_factory=dict)
    """Cached values of expressions, [tokens]."""

    def laid_out(self, mask: MaskIR, sequence: Sequence) -> "SideTokens":
        """The same tokens in another layout of the mask."""
        return replace(self, coordinates=replace(self.coordinates, mask=mask, sequence=sequence))

    def order(self) -> Array:
        """int64 [tokens]: indices into `positions` in memory order."""
        sequence = self.coordinates.sequence
        if not any(sequence.order):
            return np.arange(len(self.positions))
        spaces = []
        for space, offset, keys in zip(sequence.spaces, sequence.offsets, sequence.order, strict=True):
            begin, end = np.searchsorted(self.positions, [offset, offset + space.size])
            columns = [self.key(each)[begin:end] for each in reversed(keys)]
            spaces.append(begin + (np.lexsort(columns) if columns else np.arange(end - begin)))
        return np.concatenate(spaces)

    def key(self, expression: Expression) -> Array:
        """[tokens]: the values of an expression over one token; cached."""
        if expression not in self.values:
            with np.errstate(all="ignore"):  # tokens without a coordinate read zero and may divide by it
                values = evaluate(expression, self.leaf, self.coordinates.inputs)
            self.values[expression] = np.broadcast_to(values, self.positions.shape)
        return self.values[expression]

    def leaf(self, node: Leaf) -> Array:
        """[tokens], or [1] for the head and the batch entry: the values of a leaf."""
        match node:
            case Coordinate(name=name):
                return np.asarray(self.coordinates.values(name)[self.positions])
            case InSpace(space=space):
                return np.asarray(self.coordinates.member(space)[self.positions])
            case _:
                return self.coordinates.evaluate(node)[:1]

    def columns(
        self, expressions: tuple[Expression, ...], tables: Mapping[str, Bounded], order: Array
    ) -> tuple[Array, ...]:
        """[tokens] each: the columns that a relation reads of this side, in the given order."""
        for each in expressions:
            if each not in self.values:
                self.values[each] = LaidOutTokens(self.coordinates, self.positions).values(each, tables)
        return tuple(self.values[each][order] for each in expressions)


def in_box(sequence: Sequence, box: Box) -> Array:
    """int64: the declared positions of the tokens in the box, ascending."""
    spaces = []
    for space, offset in zip(sequence.spaces, sequence.offsets, strict=True):
        lengths = tuple(axis.length for axis in space.axes)
        kept = np.ix_(*(np.arange(size) for size in box.get(space.name, lengths)))
        spaces.append(offset + np.ravel_multi_index(np.broadcast_arrays(*kept), lengths).ravel())
    return np.concatenate(spaces)
