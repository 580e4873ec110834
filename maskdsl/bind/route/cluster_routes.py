"""Binds routes by centroids: the nearest one of each token, and clusters of equal size."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, describe
from maskdsl.bind.context.frame import BitRoute, Declared, EqualRoute, Frame, StatementKind
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.table_inputs import BATCH, heads_dimension
from maskdsl.bind.statement.coord_statements import updated
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import CoordinateDefinition, Given
from maskdsl.ir.expressions import PAIR, Side
from maskdsl.ir.facts.ranges import INT32, Range
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Balanced, Nearest, Routed
from maskdsl.syntax import tree

_WORD = 31
"""Clusters that one 32-bit integer can hold a bit for, without the sign."""


def nearest(statement: tree.RouteStatement, centroids: tree.Expression, frame: Frame) -> Declared | Bad:
    table = _centroids(centroids, frame)
    if isinstance(table, Bad):
        return BAD
    name, clusters = statement.name.id, table.dimensions[1].size
    last = INT32.high if clusters is None else clusters - 1

    def of_side(given: str, side: Side) -> Nearest:
        return Nearest(given, side, table.name, span=statement.span)

    declared = _with_coordinates(name, last, of_side, statement.span, frame)
    return replace(declared, routes={**declared.routes, name: EqualRoute(name)})


def balanced(
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
        members = partial(Balanced, centroids=table.name, size=size, first=first, last=last, span=statement.span)
        names.append(statement.name.id if rows <= _WORD else f"{statement.name.id}_{first}")
        declared = _with_coordinates(
            names[-1], 2 ** (last - first) - 1, members, statement.span, replace(frame, declared=declared)
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
