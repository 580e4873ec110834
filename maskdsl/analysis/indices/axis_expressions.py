"""Expressions over the tokens of two spaces, rewritten over the indices on their axes: independent integer variables.

A coordinate with a formula is written out; one without, such as a position on a curve, becomes a table over the axes.
Given inputs become tables too; reads of other inputs stay and are unknown.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import assert_never

from maskdsl.analysis.tiles.list_bounds import Bounded, bounded
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Along, Computed, CoordinateSource, Given, Sequence, Shuffled, Space
from maskdsl.ir.expressions import (
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Read,
    Score,
    Side,
    apply,
    walk,
)
from maskdsl.ir.facts.intervals import Array
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.group_scores import GROUP

_LARGEST_FORM = 64
"""The most nodes of a coordinate that is written out; larger ones become tables."""
_LARGEST_TABLE = 1 << 22
"""The most entries of an input that is used; larger ones stay unknown."""


@dataclass(frozen=True, eq=False)
class AxisExpressions:
    """Rewrites expressions over the tokens of one space for each side that they read, over axis indices."""

    mask: MaskIR
    positions: Mapping[Side, tuple[Sequence, Space]]
    inputs: Mapping[str, Array]
    batch: int | None = None
    """Batch entries of a call; None before a call, when the batch index is unknown."""
    groups: Mapping[Side, int] = field(default_factory=dict)
    """The number of groups of each side, for expressions that read group numbers."""
    ranges: dict[Expression, Range] = field(default_factory=dict)
    """The ranges of the variables in expressions rewritten so far."""
    tables: dict[str, Bounded] = field(default_factory=dict)
    known: dict[Expression, Expression] = field(default_factory=dict)

    def of(self, expression: Expression) -> Expression:
        """The expression over axis indices, simplified."""
        return simplify(self.over(expression, None))

    def unknown(self, expression: Expression) -> bool:
        """Whether a rewritten expression reads an unknown input, or the score."""
        read = reads(expression)
        return read.score or not self.tables.keys() >= set(read.inputs)

    def over(self, node: Expression, token_side: Side | None) -> Expression:
        """A node over axis indices; `token_side` is the side of an expression over one token, None over a pair."""
        match node:
            case Coordinate(side=side, name=name):
                return self.coordinate(token_side or side, name, node.type)
            case InSpace(side=side, space=space):
                return Constant(self.positions[token_side or side][1].name == space)
            case Head():
                return self.varying(node, Range(0, self.mask.heads - 1))
            case Batch():
                return (
                    Read("batch", (), Type.INT) if self.batch is None else self.varying(node, Range(0, self.batch - 1))
                )
            case Read(input=name, indices=indices):
                if name not in self.tables and name in self.inputs and self.inputs[name].size <= _LARGEST_TABLE:
                    self.tables[name] = bounded(node, self.inputs[name])
                return replace(node, indices=tuple(self.over(each, token_side) for each in indices), open=False)
            case Apply(op=op, arguments=arguments):
                return Apply(op, tuple(self.over(each, token_side) for each in arguments), span=node.span)
            case Constant() | Score():
                return node
            case _:
                assert_never(node)

    def varying(self, leaf: Expression, bounds: Range) -> Expression:
        """A variable with its range; a constant if the range has one value."""
        if bounds.low == bounds.high:
            return Constant(bounds.low)
        self.ranges[leaf] = bounds
        return leaf

    def coordinate(self, side: Side, name: str, kind: Type) -> Expression:
        """A coordinate over axis indices, simplified; cached."""
        leaf = Coordinate(side, name, kind)
        if leaf not in self.known:
            for each in self.needed(leaf):  # a chain of many would nest too deep
                if each not in self.known:
                    self.known[each] = simplify(self.fresh(each))
        return self.known[leaf]

    def needed(self, leaf: Coordinate) -> list[Coordinate]:
        """A coordinate behind all declared ones that it is computed from, in declared order."""
        sequence, space = self.positions[leaf.side]
        names, pending = {leaf.name}, [leaf.name]
        while pending:
            definition = sequence.definition(pending.pop())
            source = None if definition is None else dict(definition.sources).get(space.name)
            if isinstance(source, Computed):
                read = {each.name for each in reads(source.value).coordinates} - names
                names |= read
                pending += read
        declared = (Coordinate(leaf.side, each.name, each.type) for each in sequence.coordinates if each.name in names)
        return [*(each for each in declared if each != leaf), leaf]

    def fresh(self, leaf: Coordinate) -> Expression:
        """A coordinate over axis indices."""
        side, name = leaf.side, leaf.name
        sequence, space = self.positions[side]
        if name == GROUP:
            return self.varying(leaf, Range(0, self.groups[side] - 1))
        if name == "i":
            return self.position(side)
        definition = sequence.definition(name)
        if definition is not None:
            source = dict(definition.sources).get(space.name)
            return _zero(leaf.type) if source is None else self.from_source(leaf, source)
        axis = space.axis(name)
        return _zero(leaf.type) if axis is None else self.varying(leaf, Range(0, axis.length - 1))

    def position(self, side: Side) -> Expression:
        """The position in the sequence over axis indices: row-major in its space, after the spaces before it."""
        sequence, space = self.positions[side]
        position: Expression = Constant(0)
        for axis in space.axes:
            index = self.varying(Coordinate(side, axis.name), Range(0, axis.length - 1))
            position = apply(Op.ADD, apply(Op.MULTIPLY, position, Constant(axis.length)), index)
        return apply(Op.ADD, position, Constant(sequence.offsets[sequence.spaces.index(space)]))

    def from_source(self, leaf: Coordinate, source: CoordinateSource) -> Expression:
        """A declared coordinate over axis indices; an unknown read if it depends on unknown inputs and is large."""
        match source:
            case Given(input=name):
                return self.given(leaf, name)
            case Computed(value=value):
                form = self.over(value, leaf.side)
                small = sum(1 for _, _ in zip(walk(form), range(_LARGEST_FORM + 1), strict=False)) <= _LARGEST_FORM
                if small:
                    return form
                return self.tabled(leaf) if self.fixed(leaf) else Read(f"{leaf.side}.{leaf.name}", (), leaf.type)
            case Along() | Shuffled():
                return self.tabled(leaf)
            case _:
                assert_never(source)

    def fixed(self, leaf: Coordinate) -> bool:
        """Whether the values depend on the token only."""
        return trace(self.positions[leaf.side][0], [leaf]).is_fixed

    def tabled(self, leaf: Coordinate) -> Expression:
        """A coordinate that depends on the token only, as a table over the axes."""
        sequence, space = self.positions[leaf.side]
        name = f"{leaf.side}.{leaf.name}"
        values = Coordinates(self.mask, sequence, {}).values(leaf.name)
        self.tables[name] = BoundedTable.of(values[self.span(leaf.side)].reshape(space.lengths))
        return Read(name, self.cell(leaf.side), leaf.type)

    def given(self, leaf: Coordinate, name: str) -> Expression:
        """A coordinate that is an input, as a table over batch, heads and axes; an unknown read if it is not given."""
        if name not in self.inputs or self.inputs[name].size > _LARGEST_TABLE:
            return Read(name, (), leaf.type)
        _, space = self.positions[leaf.side]
        declared, values = self.mask.input(name), self.inputs[name]
        assert declared is not None
        kinds = [each.kind for each in declared.dimensions]
        axis = kinds.index(DimensionKind.TOKENS)
        over_space = declared.dimensions[axis].text == space.name and values.shape[axis] == space.size
        if not over_space:
            values = values[(slice(None),) * axis + (self.span(leaf.side),)]
        shape = (*values.shape[:axis], *space.lengths, *values.shape[axis + 1 :])
        table = f"{leaf.side}.{name}"
        self.tables[table] = BoundedTable.of(values.reshape(shape))
        indices: list[Expression] = []
        for each in declared.dimensions:
            match each.kind:
                case DimensionKind.TOKENS:
                    indices += self.cell(leaf.side)
                case DimensionKind.BATCH:
                    indices.append(self.over(Batch(), None))
                case _:
                    first = Constant(each.here[0] if each.here else 0)
                    indices.append(apply(Op.ADD, self.over(Head(), None), first))
        return Read(table, tuple(indices), leaf.type)

    def span(self, side: Side) -> slice:
        """The positions of the space in its sequence."""
        sequence, space = self.positions[side]
        offset = sequence.offsets[sequence.spaces.index(space)]
        return slice(offset, offset + space.size)

    def cell(self, side: Side) -> tuple[Expression, ...]:
        """The axis indices of a side."""
        axes = self.positions[side][1].axes
        return tuple(self.varying(Coordinate(side, each.name), Range(0, each.length - 1)) for each in axes)

    def position_of(self, side: Side, values: Mapping[Expression, int]) -> int:
        """The position in its sequence of the token with these axis indices; missing indices are 0."""
        sequence, space = self.positions[side]
        position = 0
        for axis in space.axes:
            position = position * axis.length + values.get(Coordinate(side, axis.name), 0)
        return position + sequence.offsets[sequence.spaces.index(space)]


def _zero(kind: Type) -> Constant:
    return Constant({Type.INT: 0, Type.FLOAT: 0.0, Type.BOOL: False}[kind])


def variables(expression: Expression) -> frozenset[Expression]:
    """The variables of a rewritten expression."""
    return frozenset(leaf for leaf in reads(expression).leaves if isinstance(leaf, Coordinate | Head | Batch))
