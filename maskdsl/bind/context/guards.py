"""Narrows the pairs of spaces that the two tokens may be in, by a condition that is assumed to hold."""

from dataclasses import replace

from maskdsl.bind.context.bound_values import Term, Value
from maskdsl.bind.context.frame import Frame, Pair
from maskdsl.ir.expressions import Apply, Constant, Expression, InSpace, Side
from maskdsl.ir.ops import Op, Type


def assuming(frame: Frame, condition: Value, truth: bool = True) -> Frame:
    """The frame in which the condition is assumed to have this truth value."""
    if not isinstance(condition, Term) or condition.type is not Type.BOOL:
        return frame
    return replace(frame, pairs=_possible(condition.expression, frame.pairs, truth))


def _possible(condition: Expression, pairs: frozenset[Pair], truth: bool) -> frozenset[Pair]:
    """The pairs of spaces for which the condition can have this truth value."""
    match condition:
        case Constant(value=value):
            return pairs if value is truth else frozenset()
        case InSpace(side=side, space=space):
            at = 1 if side is Side.KEY else 0
            return frozenset(pair for pair in pairs if (pair[at] == space) is truth)
        case Apply(op=Op.NOT, arguments=(inner,)):
            return _possible(inner, pairs, not truth)
        case Apply(op=Op.AND | Op.OR as op, arguments=operands):
            if truth is (op is Op.AND):
                for operand in operands:
                    pairs = _possible(operand, pairs, truth)
                return pairs
            return frozenset().union(*(_possible(operand, pairs, truth) for operand in operands))
        case Apply(op=Op.SELECT, arguments=(selector, then, otherwise)):
            chosen = _possible(then, _possible(selector, pairs, True), truth)
            return chosen | _possible(otherwise, _possible(selector, pairs, False), truth)
        case _:
            return pairs
