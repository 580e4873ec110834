"""What a condition says about the spaces that the two tokens are in: pairs of spaces narrowed by a relation."""

from dataclasses import replace

from maskdsl.bind.context.bound_values import Term, Value
from maskdsl.bind.context.frame import Frame, Pair
from maskdsl.ir.expressions import Apply, Constant, Expression, InSpace, Side
from maskdsl.ir.ops import Op, Type


def assuming(frame: Frame, condition: Value, truth: bool = True) -> Frame:
    """The frame in which the condition is known to hold, or not to."""
    if not isinstance(condition, Term) or condition.type is not Type.BOOL:
        return frame
    return replace(frame, pairs=_possible(condition.expression, frame.pairs, truth))


def _possible(condition: Expression, pairs: frozenset[Pair], truth: bool) -> frozenset[Pair]:
    """Those pairs of spaces for which the condition may have this truth."""
    match condition:
        case Constant(value=value):
            return pairs if value is truth else frozenset()
        case InSpace(side=side, space=space):
            at = 1 if side is Side.KEY else 0
            return frozenset(pair for pair in pairs if (pair[at] == space) is truth)
        case Apply(op=Op.NOT, arguments=(inner,)):
            return _possible(inner, pairs, not truth)
        case Apply(op=Op.AND | Op.OR as op, arguments=parts):
            if truth is (op is Op.AND):
                for part in parts:
                    pairs = _possible(part, pairs, truth)
                return pairs
            return frozenset().union(*(_possible(part, pairs, truth) for part in parts))
        case Apply(op=Op.SELECT, arguments=(choice, then, otherwise)):
            chosen = _possible(then, _possible(choice, pairs, True), truth)
            return chosen | _possible(otherwise, _possible(choice, pairs, False), truth)
        case _:
            return pairs
