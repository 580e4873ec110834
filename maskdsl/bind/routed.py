"""What the names of routes mean in relations."""

from collections.abc import Iterable

from maskdsl.bind.frame import EqualRoute, Frame, MemberRoute, TableRoute
from maskdsl.bind.reading import read
from maskdsl.bind.terms import operate
from maskdsl.bind.values import BAD, Bad, Term, Value, constant
from maskdsl.ir.expressions import Batch, Head, Read, Side
from maskdsl.ir.ops import Op, Type
from maskdsl.source import Span

SIDES = (Side.QUERY, Side.KEY)


def route_relation(name: str, span: Span, frame: Frame) -> Value:
    """What a route's name says of a pair."""
    match frame.world.routes[name]:
        case EqualRoute(coordinate=coordinate):
            q, k = (read(frame, side, coordinate, span) for side in SIDES)
            return operate(frame, Op.EQUAL, span, q, k)
        case MemberRoute(queries=queries, keys=keys, rows=rows):
            either = [_both_members(row, (queries, keys), span, frame) for row in range(rows)]
            return either[0] if rows == 1 else operate(frame, Op.OR, span, *either)
        case TableRoute(table=table, query=query, key=key):
            groups = [
                read(frame, side, each, span) if isinstance(each, str) else Term(each)
                for side, each in zip(SIDES, (query, key), strict=True)
            ]
            return _table(frame, table, groups, span)


def _both_members(row: int, tables: tuple[str, str], span: Span, frame: Frame) -> Value:
    pairs = zip(SIDES, tables, strict=True)
    members = [_table(frame, table, (constant(row), read(frame, side, "i", span)), span) for side, table in pairs]
    return operate(frame, Op.AND, span, *members)


def _table(frame: Frame, table: str, groups: Iterable[Value], span: Span) -> Term | Bad:
    groups = tuple(groups)
    if any(isinstance(each, Bad) for each in groups):
        return BAD
    indices = (Batch(), Head(), *(each.expression for each in groups if isinstance(each, Term)))
    return Term(Read(table, indices, Type.BOOL, span=span), size=1 + len(indices), depth=2)
