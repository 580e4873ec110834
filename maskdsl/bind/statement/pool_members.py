"""The coordinates that pooled tokens have of themselves: `first`, `last` and `count`; and pools without tokens.

Of boxes they are computed from axes. Of groups a call finds them, as what decides groups may be an input.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from maskdsl.bind.context.frame import Declared
from maskdsl.bind.context.reading import draft
from maskdsl.bind.expression.table_inputs import BATCH
from maskdsl.bind.statement.coord_statements import sides_of, updated
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import Computed, CoordinateDefinition, CoordinateSource, Given, PoolBoxes, Space
from maskdsl.ir.expressions import PAIR, Constant, Coordinate, Expression, InSpace, Side, apply
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import pooling_trace
from maskdsl.ir.mask import Clause
from maskdsl.ir.meaning.pooling import PoolMeaning
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.routes import PoolFact, Pools, Scored, route_expressions
from maskdsl.syntax import tree

_COUNT = "count of tokens"
"""The coordinate `count` of pools where a pattern declares another one; nobody can write its name."""
_MEMBERS = "tokens of each"
"""The coordinate `count` of pools, and 1 of other tokens; likewise."""
_MOST_EVALUATED = 2**26
"""The most tokens of which it is looked up whether every pool has some."""


def with_facts(declaration: tree.PatternDeclaration, declared: Declared) -> Declared:
    """The declarations in which pooled tokens have the coordinates `first`, `last` and `count`.

    A coordinate, input or axis of that name takes its place.
    """
    taken = {axis.name for space in declared.spaces() for axis in space.axes}
    kinds = tree.CoordinateStatement | tree.InputStatement | tree.RouteStatement
    taken |= {each.name.id for each in declaration.statements if isinstance(each, kinds)}
    for fact in PoolFact:
        if fact.value not in taken:
            declared = _with_fact(declared, fact, fact.value)
    if PoolFact.COUNT.value in taken:
        declared = _with_fact(declared, PoolFact.COUNT, _COUNT)
    for side in sides_of(declared):
        if any(_may_be_empty(space, declared) for space in declared.side(side).sequence.spaces):
            declared = _with_counts(declared, side)
    return declared


def _with_counts(declared: Declared, side: Side) -> Declared:
    """The declarations in which a coordinate tells which tokens of a side are in groups."""
    before, known = declared.side(side), _counted_by(declared)
    count = before.sequence.definition(known)
    assert count is not None
    others = [space for space in before.sequence.spaces if space.pooling is None]
    if not others:
        return updated(declared, side, replace(before, sequence=replace(before.sequence, counts=known)))
    each = ((space.name, Computed(Constant(1))) for space in others)
    ranges = {
        (_MEMBERS, space.name): before.ranges.get((known, space.name), Range(1, 1)) for space in before.sequence.spaces
    }
    after = before.with_coordinate(replace(count, name=_MEMBERS, sources=(*count.sources, *each)), ranges)
    declared = replace(declared, facts=declared.facts | {_MEMBERS})
    return updated(declared, side, replace(after, sequence=replace(after.sequence, counts=_MEMBERS)))


def _with_fact(declared: Declared, fact: PoolFact, name: str) -> Declared:
    """The declarations in which pooled tokens of either side have a fact as a coordinate of this name."""
    for side in sides_of(declared):
        for space in declared.side(side).sequence.spaces:
            if space.pooling is not None:
                declared = _with_fact_of(declared, side, space, fact, name)
    return replace(declared, facts=declared.facts | {name})


def _with_fact_of(declared: Declared, side: Side, space: Space, fact: PoolFact, name: str) -> Declared:
    source: CoordinateSource
    if not space.groupings:
        source = Computed(_of_box(space, fact))
    else:
        given = f"{fact}_of_{space.name}" if declared.self_attention else f"{fact}_of_{side}_{space.name}"
        while declared.input(given) is not None:
            given += "_"
        varies = DimensionKind.BATCH in pooling_trace(space.groupings).varies(draft(declared))
        dimensions = (*((BATCH,) if varies else ()), Dimension(DimensionKind.TOKENS, space.size, space.name))
        declared = replace(
            declared,
            inputs=(*declared.inputs, Input(given, Type.INT, dimensions, span=space.span)),
            routed=(*declared.routed, Pools(given, side, space.name, fact, span=space.span)),
        )
        source = Given(given)
    definition = CoordinateDefinition(name, Type.INT, ((space.name, source),), span=space.span)
    reach = Range(0, space.root.size) if fact is PoolFact.COUNT else Range(-1, space.root.size - 1)
    before = declared.side(side)
    return updated(declared, side, before.with_coordinate(definition, {(name, space.name): reach}))


def _of_box(space: Space, fact: PoolFact) -> Expression:
    """A fact about the boxes of a space that is pooled by boxes alone, from the axes of a box."""
    boxes = [each.pooling.pools for each in space.chain if each.pooling is not None]
    sides = [prod(each) for each in zip(*(each.sides for each in boxes if isinstance(each, PoolBoxes)), strict=True)]
    axes = zip(space.axes, sides, space.root.lengths, strict=True)
    firsts, ends = [], []
    for axis, side, length in axes:
        number = Coordinate(Side.TOKEN, axis.name)
        firsts.append(apply(Op.MULTIPLY, number, Constant(side)))
        end = apply(Op.MULTIPLY, apply(Op.ADD, number, Constant(1)), Constant(side))
        ends.append(end if length % side == 0 else apply(Op.MINIMUM, end, Constant(length)))
    match fact:
        case PoolFact.FIRST:
            return _position(firsts, space.root.lengths)
        case PoolFact.LAST:
            return _position([apply(Op.SUBTRACT, each, Constant(1)) for each in ends], space.root.lengths)
        case PoolFact.COUNT:
            sizes = [apply(Op.SUBTRACT, *pair) for pair in zip(ends, firsts, strict=True)]
            total = sizes[0]
            for size in sizes[1:]:
                total = apply(Op.MULTIPLY, total, size)
            return total


def _position(cell: Sequence[Expression], lengths: tuple[int, ...]) -> Expression:
    """The position of a cell of a row-major grid."""
    position = cell[0]
    for each, length in zip(cell[1:], lengths[1:], strict=True):
        position = apply(Op.ADD, apply(Op.MULTIPLY, position, Constant(length)), each)
    return position


def without_unread(declared: Declared, expressions: Iterable[Expression]) -> Declared:
    """The declarations without the facts about pools that neither `expressions` nor other statements read of a side."""
    every = [*expressions, *(each for routed in declared.routed for each in route_expressions(routed))]
    gone = set[str]()
    for side in sides_of(declared):
        before, sides = declared.side(side), (Side.QUERY, Side.KEY) if declared.self_attention else (side,)
        routes = [route for route in declared.routed if isinstance(route, Scored)]
        groups = [each for route in routes for each in (*route.over_token(side), *before.sequence.counted)]
        of_tokens = [*before.sequence.computed, *before.sequence.sort_keys, *groups]
        read = (each.name for each in reads(*every, *of_tokens).coordinates if each.side in (*sides, Side.TOKEN))
        unread = declared.facts.difference(read)
        kept = tuple(each for each in before.sequence.coordinates if each.name not in unread)
        dropped = (each for each in before.sequence.coordinates if each.name in unread)
        gone |= _given(dropped) - _given(kept)
        counts = None if before.sequence.counts in unread else before.sequence.counts
        after = replace(before.sequence, coordinates=kept, counts=counts)
        declared = updated(declared, side, replace(before, sequence=after))
    return replace(
        declared,
        inputs=tuple(each for each in declared.inputs if each.name not in gone),
        routed=tuple(each for each in declared.routed if each.name not in gone),
    )


def _given(definitions: Iterable[CoordinateDefinition]) -> set[str]:
    """The inputs that coordinates are."""
    return {source.input for each in definitions for _, source in each.sources if isinstance(source, Given)}


# Pools without tokens


def guards(declared: Declared) -> Iterator[Clause]:
    """Yields that pools without tokens attend nothing, and that nothing attends them."""
    for side in PAIR:
        spaces = declared.side(side).sequence.spaces
        for space in spaces:
            if _may_be_empty(space, declared):
                some = apply(Op.LESS, Constant(0), Coordinate(side, _counted_by(declared)))
                other = apply(Op.NOT, InSpace(side, space.name))
                yield Clause(some if len(spaces) == 1 else apply(Op.OR, other, some), span=space.span)


def _counted_by(declared: Declared) -> str:
    """The coordinate that counts the tokens of pools."""
    return PoolFact.COUNT.value if PoolFact.COUNT.value in declared.facts else _COUNT


def _may_be_empty(space: Space, declared: Declared) -> bool:
    """Whether a pool of the space may have no tokens."""
    if not space.groupings:
        return False
    if not pooling_trace(space.groupings).is_fixed or space.root.size > _MOST_EVALUATED:
        return True
    return bool(np.any(PoolMeaning(draft(declared), {}).facts(space)[PoolFact.COUNT] == 0))
