"""Which heads a score of a route is different for: it is scored and selected once for all that share it."""

from collections.abc import Iterable
from enum import IntEnum

from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.reading import draft
from maskdsl.bind.context.score_levels import Level
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import PAIR, Constant, Coordinate, Expression, Read, Side, walk
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.values.group_scores import GatherHeads, GroupScores, Product, Softmax
from maskdsl.ir.values.token_vectors import (
    OfGroup,
    OfToken,
    OfValue,
    TableRow,
    Vector,
    vector_expressions,
    vector_leaves,
)


class HeadScope(IntEnum):
    """The heads that a table is different for: the larger one of several has them all."""

    NONE = 0
    KEY_HEADS = 1
    HEADS = 2


def scope_of(expressions: tuple[Expression, ...], levels: Iterable[Level], frame: Frame) -> HeadScope:
    """The heads that these expressions of scores are different for, or the groups that they are computed through."""
    declared = frame.declared
    pairs = (pair for level in levels for pair in zip(PAIR, level, strict=True))
    groups = tuple(Coordinate(side, grouping.by) for side, grouping in pairs if grouping.by is not None)
    expressions = (*expressions, *groups)
    if reads(*expressions).head or any(_coordinates_differ(side, expressions, frame) for side in PAIR):
        return HeadScope.HEADS
    scopes = [HeadScope.NONE]
    for node in (each for expression in expressions for each in walk(expression)):
        match node:
            case Read(input=name) if name in declared.products:
                scopes.append(_of_product(declared.products[name], frame))
            case Read(input=name) if name in declared.tables:
                scopes.append(table_scope(declared.tables[name], frame))
    return max(scopes)


def table_scope(made: GroupScores, frame: Frame) -> HeadScope:
    """The heads that a table of scores is different for."""
    levels = list(made.levels)
    scope = scope_of((made.score, made.candidates), levels, frame)
    for step in made.steps:
        match step:
            case GatherHeads(by_key_head=by_key_head):
                scope = min(scope, HeadScope.KEY_HEADS if by_key_head else HeadScope.NONE)
            case Softmax(among=among) if among is not None:
                scope = max(scope, scope_of((among,), levels, frame))
            case _:
                pass
    return scope


def _of_product(product: Product, frame: Frame) -> HeadScope:
    return max(_of_vector(each, frame) for each in (product.left, product.right))


def _of_vector(vector: Vector, frame: Frame) -> HeadScope:
    expressions = tuple(vector_expressions(vector))
    scopes = [HeadScope.NONE]
    for leaf in vector_leaves(vector):
        match leaf:
            case OfToken(side=side):
                scopes.append(HeadScope.KEY_HEADS if side is Side.KEY else HeadScope.HEADS)
            case OfGroup(side=side, pool=pool):
                inner = _of_vector(OfToken(side) if pool.of is None else pool.of, frame)
                if pool.by_key_head:
                    inner = min(inner, HeadScope.KEY_HEADS)
                elif pool.heads is not None:
                    inner = min(inner, HeadScope.NONE if isinstance(pool.heads, Constant) else HeadScope.HEADS)
                scopes.append(inner)
            case TableRow() | OfValue():
                pass
    pools = {each.pool.heads for each in vector_leaves(vector) if isinstance(each, OfGroup)}
    read = tuple(each for each in expressions if each not in pools)
    if reads(*read).head or any(_coordinates_differ(side, read, frame) for side in PAIR):
        scopes.append(HeadScope.HEADS)
    return max(scopes)


def _coordinates_differ(side: Side, expressions: tuple[Expression, ...], frame: Frame) -> bool:
    """Whether a coordinate of a side that they read differs between heads."""
    traced = trace(frame.sequence(side), [each for expression in expressions for each in reads(expression).of(side)])
    return DimensionKind.HEADS in traced.varies(draft(frame.declared))
