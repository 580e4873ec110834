"""The meaning of the names of routes in relations."""

from collections.abc import Iterable

from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, constant
from maskdsl.bind.context.frame import BitRoute, EqualRoute, Frame, ListRoute, TableRoute
from maskdsl.bind.context.reading import read
from maskdsl.bind.context.terms import make, operate
from maskdsl.ir.expressions import PAIR, Batch, Expression, Head, Read
from maskdsl.ir.ops import Op, Type


def route_relation(name: str, span: Span, frame: Frame) -> Value:
    """The relation that a route's name stands for."""
    match frame.declared.routes[name]:
        case EqualRoute(coordinate=coordinate):
            return _common(Op.EQUAL, coordinate, span, frame)
        case BitRoute(coordinates=coordinates):
            either = [_common(Op.SHARE_BIT, name, span, frame) for name in coordinates]
            return either[0] if len(either) == 1 else operate(frame, Op.OR, span, *either)
        case TableRoute(table=table, query=query, key=key, heads=heads):
            groups = [
                read(frame, side, each, span) if isinstance(each, str) else Term(each)
                for side, each in zip(PAIR, (query, key), strict=True)
            ]
            return _table(table, (Batch(), *heads), groups, span)
        case ListRoute(table=table, query=query, key=key, by_head=by_head):
            pair = [read(frame, side, each, span) for side, each in zip(PAIR, (query, key), strict=True)]
            terms = [each for each in pair if isinstance(each, Term)]
            if len(terms) < len(pair):
                return BAD
            indices = (*((Head(),) if by_head else ()), *(each.expression for each in terms))
            entry = make(frame, span, Read(table, indices, Type.INT, sparse=True, span=span), terms)
            return entry if isinstance(entry, Bad) else operate(frame, Op.LESS_EQUAL, span, constant(0, span), entry)


def _common(op: Op, coordinate: str, span: Span, frame: Frame) -> Value:
    q, k = (read(frame, side, coordinate, span) for side in PAIR)
    return operate(frame, op, span, q, k)


def _table(table: str, entry: tuple[Expression, ...], groups: Iterable[Value], span: Span) -> Term | Bad:
    groups = tuple(groups)
    if any(isinstance(each, Bad) for each in groups):
        return BAD
    indices = (*entry, *(each.expression for each in groups if isinstance(each, Term)))
    return Term(Read(table, indices, Type.BOOL, span=span), size=1 + len(indices), depth=2)
