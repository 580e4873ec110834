"""The tokens of one side in any order: what relations and orders read of them, computed once and laid out again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.head_classes import LaidOutTokens
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.ir.expressions import Coordinate, Expression, InSpace, Leaf
from maskdsl.ir.mask import MaskIR, Sequence
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.numpy_operators import evaluate

Box = Mapping[str, tuple[int, ...]]
"""By the name of a space: so many places of each axis, the first ones. Spaces that are left out are whole."""


@dataclass(frozen=True, eq=False)
class SideTokens:
    """Those of one side that are looked at, for one head and batch entry."""

    coordinates: Coordinates
    positions: Array
    """int64: their declared positions, rising."""
    values: dict[Expression, Array] = field(default_factory=dict)
    """Of expressions, at the places."""

    def laid_out(self, mask: MaskIR, sequence: Sequence) -> "SideTokens":
        """The same tokens, of the same mask in another layout."""
        return replace(self, coordinates=replace(self.coordinates, mask=mask, sequence=sequence))

    def order(self) -> Array:
        """int64 [places]: which of the places comes when, in laid-out order."""
        sequence = self.coordinates.sequence
        if not any(sequence.order):
            return np.arange(len(self.positions))
        parts = []
        for space, offset, keys in zip(sequence.spaces, sequence.offsets, sequence.order, strict=True):
            begin, end = np.searchsorted(self.positions, [offset, offset + space.size])
            columns = [self.key(each)[begin:end] for each in reversed(keys)]
            parts.append(begin + (np.lexsort(columns) if columns else np.arange(end - begin)))
        return np.concatenate(parts)

    def key(self, expression: Expression) -> Array:
        """An expression over one token, at the places."""
        if expression not in self.values:
            with np.errstate(all="ignore"):  # tokens without a coordinate read zeros, and may divide by them
                values = evaluate(expression, self.leaf, self.coordinates.inputs)
            self.values[expression] = np.broadcast_to(values, self.positions.shape)
        return self.values[expression]

    def leaf(self, node: Leaf) -> Array:
        match node:
            case Coordinate(name=name):
                return np.asarray(self.coordinates.values(name)[self.positions])
            case InSpace(space=space):
                return np.asarray(self.coordinates.member(space)[self.positions])
            case _:  # of the head or the batch entry: one for all tokens
                return self.coordinates.evaluate(node)[:1]

    def columns(
        self, expressions: tuple[Expression, ...], tables: Mapping[str, BoundedTable], order: Array
    ) -> tuple[Array, ...]:
        """What a relation reads of one side, in an order of the places."""
        for each in expressions:
            if each not in self.values:
                self.values[each] = LaidOutTokens(self.coordinates, self.positions).values(each, tables)
        return tuple(self.values[each][order] for each in expressions)


def in_box(sequence: Sequence, box: Box) -> Array:
    """int64: the declared positions of the tokens inside."""
    parts = []
    for space, offset in zip(sequence.spaces, sequence.offsets, strict=True):
        lengths = tuple(axis.length for axis in space.axes)
        kept = np.ix_(*(np.arange(size) for size in box.get(space.name, lengths)))
        parts.append(offset + np.ravel_multi_index(np.broadcast_arrays(*kept), lengths).ravel())
    return np.concatenate(parts)
