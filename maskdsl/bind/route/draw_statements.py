"""Binds `route drawn = draw(count, seed, a, b, ...) where candidates`: groups that are drawn at random."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from maskdsl.base.errors.calls.pools import DrawKnown, DrawnGroups
from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.parameters import MissingArgument
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, describe, why_unknown
from maskdsl.bind.context.frame import Declared, Frame, ListRoute, StatementKind
from maskdsl.bind.context.reading import draft
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.table_inputs import heads_dimension
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.expressions import PAIR, TRUE, Coordinate, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import pair_trace, trace
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Draw
from maskdsl.ir.values.group_scores import Grouping
from maskdsl.syntax import tree


def drawn(statement: tree.RouteStatement, call: tree.Call, frame: Frame, elaborate: Elaborate) -> Declared | Bad:
    """The declarations with a draw added; BAD, with a report, if it is wrong."""
    arguments = _arguments(call, frame, elaborate)
    candidates = _candidates(statement, frame, elaborate)
    if isinstance(arguments, Bad) or isinstance(candidates, Bad):
        return BAD
    span = call.span if statement.candidates is None else statement.candidates.span
    groupings = [_grouping(side, candidates, span, frame) for side in PAIR]
    known = [each for each in groupings if not isinstance(each, Bad)]
    if len(known) < len(groupings):
        return BAD
    name, declared, (queries, keys) = statement.name.id, frame.declared, known
    (count, seed), numbers = arguments[:2], arguments[2:]
    assert isinstance(seed.constant, int) and queries.by is not None and keys.by is not None
    expressions = count.expression, tuple(each.expression for each in numbers)
    draw = Draw(name, queries, keys, expressions[0], seed.constant, expressions[1], candidates, span=statement.span)
    tokens = [trace(frame.sequence(side), reads(candidates).of(side)) for side in PAIR]
    by_head = reads(expressions[0], *expressions[1], candidates).head or any(each.reads.head for each in tokens)
    sides = (Dimension(DimensionKind.FIXED, each.count, str(each.count)) for each in known)
    dimensions = (*((heads_dimension(declared),) if by_head else ()), *sides)
    table = Input(name, Type.INT, dimensions, sparse=True, span=statement.span)
    routes = {**declared.routes, name: ListRoute(name, queries.by, keys.by, by_head)}
    return replace(declared, inputs=(*declared.inputs, table), routed=(*declared.routed, draw), routes=routes)


def _arguments(call: tree.Call, frame: Frame, elaborate: Elaborate) -> list[Term] | Bad:
    """The count, the seed, and the numbers that tell draws apart: integers over the head."""
    for number, name in enumerate(("count", "seed")):
        named = call.arguments[number].name if number < len(call.arguments) else None
        if number >= len(call.arguments) or (named is not None and named.id != name):
            return frame.add(MissingArgument(span=call.span, function="draw", name=name))
    terms: list[Term] = []
    for number, argument in enumerate(call.arguments):
        value = elaborate(argument.value, replace(frame, statement=StatementKind.HEAD))
        what, at = ("the count", "the seed", "a number")[min(number, 2)], argument.value.span
        if isinstance(value, Bad):
            return BAD
        if not isinstance(value, Term) or value.type is not Type.INT:
            expected = "an integer"
            return frame.add(TypeMismatch(span=at, what=f"{what} of a draw", found=describe(value), expected=expected))
        read = reads(value.expression)
        if read.inputs or read.batch:
            reason = f"this depends on {'an input' if read.inputs else 'the batch entry'}"
            return frame.add(DrawKnown(span=at, what=what, reason=reason))
        if number == 1 and value.constant is None:
            return frame.add(NotConstant(span=at, what="the seed of a draw", reason=why_unknown(value)))
        terms.append(value)
    return terms


def _candidates(statement: tree.RouteStatement, frame: Frame, elaborate: Elaborate) -> Expression | Bad:
    """The relation of the `where`, over the spaces whose tokens have what it names."""
    node = statement.candidates
    if node is None:
        return TRUE
    named = [{each.name.id for each in _attributes(node) if each.base.id == side.letter} for side in PAIR]
    spaces = [
        {each.name for each in frame.sequence(side).spaces if all(frame.sequence(side).has(each, x) for x in names)}
        for side, names in zip(PAIR, named, strict=True)
    ]
    inside = frame.where(pair for pair in frame.pairs if pair[0] in spaces[0] and pair[1] in spaces[1])
    value = elaborate(node, inside if inside.pairs else frame)
    if isinstance(value, Bad):
        return BAD
    if not isinstance(value, Term) or value.type is not Type.BOOL:
        return frame.add(TypeMismatch(span=node.span, what="this", found=describe(value), expected="a relation"))
    needs = pair_trace(draft(frame.declared), [value.expression])
    if needs.inputs or needs.reads.batch:
        reason = f"this depends on {'an input' if needs.inputs else 'the batch entry'}"
        return frame.add(DrawKnown(span=node.span, what="the candidates", reason=reason))
    return value.expression


def _attributes(node: tree.Node) -> Iterator[tree.Attribute]:
    """The coordinates that an expression names itself."""
    pending: list[object] = [node]
    for each in pending:
        match each:
            case tree.Attribute():
                yield each
            case tuple():
                pending += each
            case tree.Node():
                pending += vars(each).values()


def _grouping(side: Side, candidates: Expression, span: Span, frame: Frame) -> Grouping | Bad:
    """The groups of a side: of the one coordinate that candidates read of it; without one, of each token."""
    names = sorted({each.name for each in reads(candidates).of(side)})
    if len(names) > 1:
        shown = " and ".join(f"`{name}`" for name in names)
        return frame.add(DrawnGroups(span=span, side=side.plural, names=shown))
    sequence = frame.sequence(side)
    if not names or names == ["i"]:
        return Grouping("i", sequence.length)
    (name,) = names
    if name in frame.declared.hidden:
        words = side.plural
        return frame.add(route_errors.UnnamedGroup(span=span, expression=name, side=words, letter=words[0]))
    needs = trace(sequence, [Coordinate(Side.TOKEN, name)])
    if not needs.is_fixed:
        return frame.add(DrawKnown(span=span, what="the groups", reason=f"`{name}` differs between heads"))
    values = Coordinates(draft(frame.declared), sequence, {}).values(name)
    has = np.concatenate([np.full(each.size, sequence.has(each, name)) for each in sequence.spaces])
    low, high = int(values[has].min()), int(values[has].max())
    if low < 0:
        return frame.add(route_errors.NegativeGroup(span=span, name=name, low=low))
    return Grouping(name, high + 1)
