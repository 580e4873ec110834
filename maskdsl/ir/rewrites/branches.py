"""Branches that are not taken, for automatic differentiation: what torch code is generated from.

Zero goes into the branch that `a if c else b` does not take, and zero times an infinite slope is not a number. So the
floats of such a branch are read where it is taken alone: `sqrt(x) if c else y` becomes `sqrt(x if c else 0.0) if c else
y`. No value of the whole changes, and what goes wrong in a branch that is not taken ends at its own reads.
"""

from dataclasses import replace
from math import isfinite

from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, Read, Score, apply
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

_ZERO, _HALF, _ONE = Constant(0.0), Constant(0.5), Constant(1.0)
_LINEAR = frozenset({Op.ADD, Op.SUBTRACT, Op.NEGATE, Op.MINIMUM, Op.MAXIMUM, Op.SELECT})
"""Operators whose derivatives are finite whatever their operands are."""
BOUNDED = _LINEAR | {Op.ABSOLUTE, Op.TANH, Op.SIGMOID}
"""Those whose derivatives are finite wherever their operands are numbers."""


def guard_branches(expression: Expression) -> Expression:
    """The same values, and no gradient from branches that are not taken, nor from what `min` and `max` leave."""
    return _guarded(expression, None)


def _guarded(node: Expression, taken: Expression | None) -> Expression:
    """The node with its floats read only where a condition holds, if there is one."""
    match node:
        case Score() | Coordinate(type=Type.FLOAT) | Read(type=Type.FLOAT):
            return node if taken is None else apply(Op.SELECT, taken, node, _ZERO)
        case Apply(op=Op.SELECT, arguments=(condition, then, otherwise)) if node.type is Type.FLOAT:
            return _choice(condition, then, otherwise, taken)
        case Apply(op=Op.MINIMUM | Op.MAXIMUM as op, arguments=(x, y)) if not _has_finite_derivatives(node):
            return _extreme(op, x, y, taken)
        case Apply(arguments=parts) if node.type is Type.FLOAT:
            return replace(node, arguments=tuple(_guarded(part, taken) for part in parts))
        case _:
            return node


def _choice(condition: Expression, then: Expression, otherwise: Expression, taken: Expression | None) -> Expression:
    one = _branch(then, condition, taken)
    return apply(Op.SELECT, condition, one, _branch(otherwise, apply(Op.NOT, condition), taken))


def _branch(node: Expression, condition: Expression, taken: Expression | None) -> Expression:
    if _has_finite_derivatives(node):
        return _guarded(node, taken)
    return _guarded(node, condition if taken is None else apply(Op.AND, taken, condition))


def _extreme(op: Op, x: Expression, y: Expression, taken: Expression | None) -> Expression:
    """The less or the greater of two, each beside a constant a branch; equal ones have equal shares."""
    x_loses, y_loses = apply(Op.LESS, x, y), apply(Op.LESS, y, x)
    if op is Op.MINIMUM:
        x_loses, y_loses = y_loses, x_loses
    if isinstance(x, Constant):
        x, y, x_loses, y_loses = y, x, y_loses, x_loses
    if isinstance(y, Constant):
        return _choice(x_loses, y, x, taken)
    shares = (
        apply(
            Op.MULTIPLY,
            _choice(loses, _ZERO, part, taken),
            apply(Op.SELECT, loses, _ZERO, apply(Op.SELECT, wins, _ONE, _HALF)),
        )
        for part, loses, wins in ((x, x_loses, y_loses), (y, y_loses, x_loses))
    )
    return apply(Op.ADD, *shares)


def _has_finite_derivatives(expression: Expression, operators: frozenset[Op] = _LINEAR) -> bool:
    """Whether no derivative by a float that is read can be infinite or NaN, whatever is read; these operators' own is
    finite."""
    match expression:
        case Apply(op=op, arguments=parts) if expression.type is Type.FLOAT and op is not Op.TO_FLOAT:
            if op in operators or _scales(op, parts):
                return all(_has_finite_derivatives(part, operators) for part in parts)
            return not any(map(_reads_float, parts))
        case _:
            return True


def derivatives_are_finite(mask: MaskIR, operators: frozenset[Op] = _LINEAR) -> bool:
    """Whether it is so of all that products of queries and keys go through.

    Elsewhere a pair whose score is minus infinity has to be left out: its probability, 0, may meet infinite slopes.
    """
    scaled = None if mask.scale is None else apply(Op.MULTIPLY, Score(), mask.scale)
    changes = (each for each in (scaled, *mask.scores, mask.weight) if each is not None)
    return all(_has_finite_derivatives(each, operators) for each in changes)


def _scales(op: Op, parts: tuple[Expression, ...]) -> bool:
    """Whether an operator multiplies by what is finite for all pairs."""
    match op, parts:
        case Op.DIVIDE, (_, Constant(value=value)):
            return value != 0 and isfinite(1 / value)
        case _:
            return op is Op.MULTIPLY and any(map(_is_finite, parts))


def _is_finite(expression: Expression) -> bool:
    """A factor that is so for all pairs."""
    match expression:
        case Constant(value=value):
            return isfinite(value)
        case Apply(op=op):
            return op is Op.TO_FLOAT
        case _:
            return False


def _reads_float(expression: Expression) -> bool:
    """Whether a derivative by something may be more than zero."""
    match expression:
        case Score() | Coordinate(type=Type.FLOAT) | Read(type=Type.FLOAT):
            return True
        case Apply(arguments=parts) if expression.type is Type.FLOAT:
            return any(map(_reads_float, parts))
        case _:
            return False
