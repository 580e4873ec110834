"""Binds `route` statements: selection by score among candidates, nearest centroids, balanced clusters."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.syntax import OldForm, StrayBy
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, describe
from maskdsl.bind.context.call_arguments import match_arguments
from maskdsl.bind.context.frame import BitRoute, Declared, EqualRoute, Frame, StatementKind, TableRoute
from maskdsl.bind.context.reading import coordinate_range, draft
from maskdsl.bind.context.terms import promoted
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.table_inputs import BATCH, heads_dimension
from maskdsl.bind.statement.coord_statements import updated
from maskdsl.bind.statement.draw_statements import drawn
from maskdsl.bind.statement.pool_members import guards_of
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import CoordinateDefinition, Given, Sequence
from maskdsl.ir.expressions import (
    PAIR,
    TRUE,
    Constant,
    Coordinate,
    Expression,
    Read,
    Side,
    apply,
    substitute,
    walk,
)
from maskdsl.ir.facts.ranges import INT32, Range
from maskdsl.ir.facts.reads import elements, reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.routes import GROUP, Above, Balanced, Grouping, Nearest, Route, Routed, Selector, TopCount, TopMass
from maskdsl.syntax import tree

SELECTORS = {
    "topk": ("count", "score"),
    "topp": ("mass", "score", "per"),
    "above": ("threshold", "score"),
    "nearest": ("centroids",),
    "balanced": ("size", "centroids"),
    "draw": ("count", "seed"),
}
_WORD = 31
"""Clusters that one 32-bit integer can hold a bit for, without the sign."""
_OPTIONAL = frozenset({"per"})
_ALONE = Constant(0)
"""The group number on a side where all tokens are one group."""


def with_route(statement: tree.RouteStatement, frame: Frame, elaborate: Elaborate) -> Declared:
    """The declarations with the route added; with its name marked bad, and a report, if it is wrong."""
    declared, name = frame.declared, statement.name.id
    call = statement.selector
    assert isinstance(call, tree.Call)
    new: Declared | Bad = BAD
    if call.function.id not in SELECTORS:
        nearest = frame.nearest(call.function.id, SELECTORS)
        frame.add(route_errors.UnknownSelector(span=call.function.span, name=call.function.id, nearest=nearest))
    elif call.function.id == "draw":
        new = drawn(statement, call, frame, elaborate)
    else:
        given = _arguments(call, frame)
        match call.function.id:
            case _ if given is None:
                pass
            case "nearest":
                new = _nearest(statement, given["centroids"], frame)
            case "balanced":
                new = _balanced(statement, given, frame, elaborate)
            case _:
                new = _selected(statement, given, frame, elaborate)
    return replace(declared, bad_names=declared.bad_names | {name}) if isinstance(new, Bad) else new


def _arguments(call: tree.Call, frame: Frame) -> dict[str, tree.Expression] | None:
    """The arguments of a selector by name; None, with a report, if any is wrong."""
    for each in call.arguments:
        if each.by is not None:
            frame.add(StrayBy(span=each.by.span))
            return None
        if call.function.id == "topp" and each.name is not None and each.name.id == "over":
            frame.add(OldForm(span=each.span, text=f"per = {each.value.span.text}"))
            return None
    return match_arguments(frame, call, SELECTORS[call.function.id], _OPTIONAL)


# Selection by score


def _selected(
    statement: tree.RouteStatement, given: dict[str, tree.Expression], frame: Frame, elaborate: Elaborate
) -> Declared | Bad:
    name, declared = statement.name.id, frame.declared
    scoring = replace(frame, statement=StatementKind.ROUTE)
    score = elaborate(given["score"], scoring)
    selector = _selector(statement.selector, given, frame, elaborate)
    if not isinstance(score, Term) or score.type is Type.BOOL:
        if not isinstance(score, Bad):
            span, result = given["score"].span, describe(score)
            frame.add(TypeMismatch(span=span, what="the score of a route", found=result, expected="a float"))
        return BAD
    value, span = promoted(scoring, score).expression, given["score"].span
    numbers = _numbers(value, span, scoring)
    if isinstance(numbers, Bad) or isinstance(selector, Bad):
        return BAD
    if numbers[1] == _ALONE:
        return _reads_no_key(name, value, span, frame)
    candidates = _candidates(statement, frame, elaborate, numbers)
    queries, keys = (_grouping(each, side, value, span, frame) for side, each in zip(PAIR, numbers, strict=True))
    if candidates is None or isinstance(queries, Bad) or isinstance(keys, Bad):
        return BAD
    value, candidates = (_by_group(each, numbers) for each in (value, candidates))
    candidates_span = span if statement.candidates is None else statement.candidates.span
    for each, at in ((value, span), (candidates, candidates_span)):
        if not _constant_in_groups(each, (queries, keys), at, frame):
            return BAD
    for side, grouping in zip(PAIR, (queries, keys), strict=True):
        if grouping.by is not None:  # where each pool is a group, those without tokens are none
            for guard in guards_of(side, declared, grouping.by):
                candidates = apply(Op.AND, candidates, guard.relation)
    products = tuple(each for each in declared.products.values() if each.name in reads(value).inputs)
    route = Route(name, queries, keys, products, value, selector, candidates, span=statement.span)
    sizes = (Dimension(DimensionKind.FIXED, each.count, str(each.count)) for each in (queries, keys))
    table = _input(name, Type.BOOL, statement.span, frame, *sizes)
    routes = {**declared.routes, name: TableRoute(name, *numbers)}
    return replace(declared, inputs=(*declared.inputs, table), routed=(*declared.routed, route), routes=routes)


def _reads_no_key(name: str, score: Expression, span: Span, frame: Frame) -> Bad:
    read = next((each.name for each in reads(score).coordinates), None)
    what = "neither a query nor a key" if read is None else "no key"
    return frame.add(route_errors.ReadsNoKey(span=span, route=name, what=what, name=read or "worth"))


def _selector(
    call: tree.Expression, given: dict[str, tree.Expression], frame: Frame, elaborate: Elaborate
) -> Selector | Bad:
    assert isinstance(call, tree.Call)
    first = SELECTORS[call.function.id][0]
    value = elaborate(given[first], replace(frame, statement=StatementKind.HEAD))
    wanted = Type.INT if first == "count" else Type.FLOAT
    if isinstance(value, Term) and value.type is Type.INT and wanted is Type.FLOAT:
        value = promoted(frame, value)
    if not isinstance(value, Term) or value.type is not wanted:
        if not isinstance(value, Bad):
            expected = "an integer" if wanted is Type.INT else "a float"
            what = f"the {first} of `{call.function.id}`"
            frame.add(TypeMismatch(span=given[first].span, what=what, found=describe(value), expected=expected))
        return BAD
    if first == "count":
        return TopCount(value.expression)
    if first == "threshold":
        return Above(value.expression)
    per = given.get("per")
    if per is not None and not (isinstance(per, tree.Name) and per.id == "head"):
        return frame.add(route_errors.WrongScope(span=per.span))
    return TopMass(value.expression, per is not None)


_Number = str | Expression
"""The group number of a side: the name of a coordinate, or an expression over the pair."""


def _numbers(score: Expression, span: Span, frame: Frame) -> tuple[_Number, _Number] | Bad:
    """The group numbers that a score is for: coordinates that it pools by or reads, or the entries of a table."""
    joint = next((index for index, _ in _entries(score, frame) if all(map(reads(index).of, PAIR))), None)
    if joint is not None:
        return _ALONE, joint
    numbers: list[_Number] = []
    for side in PAIR:
        pooled = {
            index.name
            for product in frame.declared.products
            for each in elements(score, product)
            for index in each.indices
            if isinstance(index, Coordinate) and index.side is side
        }
        names = sorted(pooled or {each.name if each.type is Type.INT else "i" for each in reads(score).of(side)})
        if len(names) > 1:
            shown = " and ".join(f"`{name}`" for name in names)
            return frame.add(route_errors.MixedGroups(span=span, names=shown, side=side.plural))
        numbers.append(names[0] if names else _ALONE)
    return numbers[0], numbers[1]


def _entries(score: Expression, frame: Frame) -> Iterator[tuple[Expression, int]]:
    """The indices by which the score reads tables, and how many entries each chooses from."""
    for node in walk(score):
        table = frame.declared.input(node.input) if isinstance(node, Read) else None
        if isinstance(node, Read) and table is not None:
            for index, dimension in zip(node.indices, table.dimensions, strict=True):
                yield index, dimension.size or 1


def _by_group(expression: Expression, numbers: tuple[_Number, _Number]) -> Expression:
    """The expression with the key's group number in place of the expression that computes it."""
    key = numbers[1]
    return (
        expression
        if isinstance(key, str) or key == _ALONE
        else substitute(expression, {key: Coordinate(Side.KEY, GROUP)})
    )


def _candidates(
    statement: tree.RouteStatement, frame: Frame, elaborate: Elaborate, numbers: tuple[_Number, _Number]
) -> Expression | None:
    """The relation of the `where`: which groups are candidates. None, with a report, if it is wrong."""
    if statement.candidates is None:
        return TRUE
    spaces = [
        {
            space.name
            for space in frame.sequence(side).spaces
            if not isinstance(each, str) or frame.sequence(side).has(space, each)
        }
        for side, each in zip(PAIR, numbers, strict=True)
    ]
    value = elaborate(
        statement.candidates, frame.where(pair for pair in frame.pairs if pair[0] in spaces[0] and pair[1] in spaces[1])
    )
    if isinstance(value, Term) and value.type is Type.BOOL:
        return value.expression
    if not isinstance(value, Bad):
        span, result = statement.candidates.span, describe(value)
        frame.add(TypeMismatch(span=span, what="this", found=result, expected="a relation"))
    return None


def _grouping(number: _Number, side: Side, score: Expression, span: Span, frame: Frame) -> Grouping | Bad:
    tokens = frame.side(side)
    match number:
        case str() if number == "i":
            return Grouping("i", tokens.sequence.length)
        case str() if number in frame.declared.hidden:
            words = side.plural
            return frame.add(route_errors.UnnamedGroup(span=span, expression=number, side=words, letter=words[0]))
        case str():
            spaces = [space for space in tokens.sequence.spaces if tokens.sequence.has(space, number)]
            reach = coordinate_range(tokens, number, spaces)
            if reach.low < 0 and reach != INT32:  # values of inputs are checked in calls
                return frame.add(route_errors.NegativeGroup(span=span, name=number, low=reach.low))
            known = _known(tokens.sequence, number, frame)
            return Grouping(number, tokens.sequence.length if known is None else int(known.max()) + 1)
        case Constant():
            return Grouping(None, 1)
        case _:
            return Grouping(None, min(entries for index, entries in _entries(score, frame) if index == number))


def _constant_in_groups(expression: Expression, groupings: tuple[Grouping, Grouping], span: Span, frame: Frame) -> bool:
    """Whether the coordinates that are read have one value in each group, as far as that is known before a call."""
    for side, grouping in zip(PAIR, groupings, strict=True):
        read = reads(expression)
        names = {each.name for each in read.of(side)}
        spaces = {each.space for each in read.spaces if each.side is side}
        if grouping.by is None and (names | spaces) - {GROUP}:
            name = min((names | spaces) - {GROUP})
            frame.add(route_errors.OfNoGroup(span=span, name=name, side=side.plural))
            return False
        if grouping.by in (None, "i"):
            continue
        for name in sorted(names - {grouping.by}):
            if _differs(name, grouping.by, frame.sequence(side), frame):
                frame.add(route_errors.NotOfGroup(span=span, name=name, group=grouping.by))
                return False
    return True


def _differs(name: str, group: str, sequence: Sequence, frame: Frame) -> bool:
    """Whether tokens of one group have different values of a coordinate; False if only a call can tell."""
    groups, values = (_known(sequence, each, frame) for each in (group, name))
    if groups is None or values is None:
        return False
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    return bool(np.any(values != values[first][member]))


def _known(sequence: Sequence, name: str, frame: Frame) -> NDArray[Any] | None:
    """The values of a coordinate; None if only a call can tell."""
    if not trace(sequence, [Coordinate(Side.TOKEN, name)]).is_fixed:
        return None
    return Coordinates(draft(frame.declared), sequence, {}).values(name)


# Centroids


def _nearest(statement: tree.RouteStatement, centroids: tree.Expression, frame: Frame) -> Declared | Bad:
    table = _centroids(centroids, frame)
    if isinstance(table, Bad):
        return BAD
    name, clusters = statement.name.id, table.dimensions[1].size
    last = INT32.high if clusters is None else clusters - 1

    def nearest(given: str, side: Side) -> Nearest:
        return Nearest(given, side, table.name, span=statement.span)

    declared = _with_coordinates(name, last, nearest, statement.span, frame)
    return replace(declared, routes={**declared.routes, name: EqualRoute(name)})


def _balanced(
    statement: tree.RouteStatement, given: dict[str, tree.Expression], frame: Frame, elaborate: Elaborate
) -> Declared | Bad:
    table = _centroids(given["centroids"], frame)
    value = elaborate(given["size"], replace(frame, statement=StatementKind.CONSTANT))
    if isinstance(table, Bad) or isinstance(value, Bad):
        return BAD
    size = value.constant if isinstance(value, Term) and value.type is Type.INT else None
    if not isinstance(size, int) or size < 1:
        span, result, expected = given["size"].span, describe(value), "a number of tokens"
        return frame.add(TypeMismatch(span=span, what="this", found=result, expected=expected))
    rows, names, declared = table.dimensions[1].size, [], frame.declared
    if rows is None:
        return frame.add(route_errors.NoCentroids(span=given["centroids"].span))
    for first in range(0, rows, _WORD):
        last = min(first + _WORD, rows)
        balanced = partial(Balanced, centroids=table.name, size=size, first=first, last=last, span=statement.span)
        names.append(statement.name.id if rows <= _WORD else f"{statement.name.id}_{first}")
        declared = _with_coordinates(
            names[-1], 2 ** (last - first) - 1, balanced, statement.span, replace(frame, declared=declared)
        )
    return replace(declared, routes={**declared.routes, statement.name.id: BitRoute(tuple(names))})


def _with_coordinates(
    name: str, highest: int, routed: Callable[[str, Side], Routed], span: Span, frame: Frame
) -> Declared:
    """Adds a coordinate to both sides. Queries and keys are no longer the same tokens: their vectors differ."""
    declared = replace(frame.declared, self_attention=False)
    for side in PAIR:
        each, before = routed(f"{name}_{side.plural}", side), declared.side(side)
        tokens = Dimension(DimensionKind.TOKENS, before.sequence.length, side.plural)
        given = _input(each.name, Type.INT, span, frame, tokens)
        sources = tuple((space.name, Given(each.name)) for space in before.sequence.spaces)
        definition = CoordinateDefinition(name, Type.INT, sources, span=span)
        reach = {(name, space.name): Range(0, highest) for space in before.sequence.spaces}
        declared = updated(declared, side, before.with_coordinate(definition, reach))
        declared = replace(declared, inputs=(*declared.inputs, given), routed=(*declared.routed, each))
    return declared


def _centroids(node: tree.Expression, frame: Frame) -> Input | Bad:
    """The input float[heads, clusters, dim] that an argument names; BAD, with a report, if it names none."""
    table = frame.declared.input(node.id) if isinstance(node, tree.Name) else None
    if table is not None:
        heads, *others = (each.kind for each in table.dimensions)
        fits = len(others) == 2 and others[1] in (DimensionKind.DIM, DimensionKind.FIXED)
        if table.type is Type.FLOAT and heads is DimensionKind.HEADS and fits:
            return table
    elif isinstance(node, tree.Name) and node.id in frame.declared.bad_names:
        return BAD
    return frame.add(route_errors.NoCentroids(span=node.span))


def _input(name: str, kind: Type, span: Span, frame: Frame, *dimensions: Dimension) -> Input:
    return Input(name, kind, (BATCH, heads_dimension(frame.declared), *dimensions), span=span)
