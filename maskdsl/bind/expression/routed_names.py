"""The meaning of the names of routes in relations."""

from collections.abc import Iterable

from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value
from maskdsl.bind.context.frame import BitRoute, EqualRoute, Frame, TableRoute
from maskdsl.bind.context.reading import read
from maskdsl.bind.context.terms import operate
from maskdsl.ir.expressions import PAIR, Batch, Head, Read
from maskdsl.ir.ops import Op, Type


def route_relation(name: str, span: Span, frame: Frame) -> Value:
    """The relation that a route's name stands for."""
    match frame.declared.routes[name]:
        case EqualRoute(coordinate=coordinate):
            return _common(Op.EQUAL, coordinate, span, frame)
        case BitRoute(coordinates=coordinates):
            either = [_common(Op.SHARE_BIT, name, span, frame) for name in coordinates]
            return either[0] if len(either) == 1 else operate(frame, Op.OR, span, *either)
        case TableRoute(table=table, query=query, key=key):
            groups = [
                read(frame, side, each, span) if isinstance(each, str) else Term(each)
                for side, each in zip(PAIR, (query, key), strict=True)
            ]
            return _table(frame, table, groups, span)


def _common(op: Op, coordinate: str, span: Span, frame: Frame) -> Value:
    q, k = (read(frame, side, coordinate, span) for side in PAIR)
    return operate(frame, op, span, q, k)


def _table(frame: Frame, table: str, groups: Iterable[Value], span: Span) -> Term | Bad:
    groups = tuple(groups)
    if any(isinstance(each, Bad) for each in groups):
        return BAD
    indices = (Batch(), Head(), *(each.expression for each in groups if isinstance(each, Term)))
    return Term(Read(table, indices, Type.BOOL, span=span), size=1 + len(indices), depth=2)
