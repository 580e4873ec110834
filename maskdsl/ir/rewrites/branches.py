"""Guards branches that are not taken, for automatic differentiation of generated torch code ("double where").

Autograd sends a zero gradient into the branch of `a if c else b` that is not taken, and zero times an infinite
derivative is NaN. So the floats of a branch are read only where it is taken: `sqrt(x) if c else y` becomes
`sqrt(x if c else 0.0) if c else y`. No value changes.
"""

from dataclasses import replace
from math import isfinite

from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, Read, Score, apply
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

_ZERO, _HALF, _ONE = Constant(0.0), Constant(0.5), Constant(1.0)
_LINEAR = frozenset({Op.ADD, Op.SUBTRACT, Op.NEGATE, Op.MINIMUM, Op.MAXIMUM, Op.SELECT})
"""Operators with finite derivatives for all operands."""
BOUNDED = _LINEAR | {Op.ABSOLUTE, Op.TANH, Op.SIGMOID}
"""Operators with finite derivatives for all operands that are not NaN."""


def guard_branches(expression: Expression) -> Expression:
    """The expression with the same values, and no gradient from branches that `if`, `min` and `max` do not take."""
    return _guarded(expression, None)


def _guarded(node: Expression, taken: Expression | None) -> Expression:
    """The node with floats read only where `taken` holds; None: everywhere."""
    match node:
        case Score() | Coordinate(type=Type.FLOAT) | Read(type=Type.FLOAT):
            return node if taken is None else apply(Op.SELECT, taken, node, _ZERO)
        case Apply(op=Op.SELECT, arguments=(condition, then, otherwise)) if node.type is Type.FLOAT:
            return _selection(condition, then, otherwise, taken)
        case Apply(op=Op.MINIMUM | Op.MAXIMUM as op, arguments=(x, y)) if not _has_finite_derivatives(node):
            return _extreme(op, x, y, taken)
        case Apply(arguments=operands) if node.type is Type.FLOAT:
            return replace(node, arguments=tuple(_guarded(each, taken) for each in operands))
        case _:
            return node


def _selection(condition: Expression, then: Expression, otherwise: Expression, taken: Expression | None) -> Expression:
    first = _branch(then, condition, taken)
    return apply(Op.SELECT, condition, first, _branch(otherwise, apply(Op.NOT, condition), taken))


def _branch(node: Expression, condition: Expression, taken: Expression | None) -> Expression:
    if _has_finite_derivatives(node):
        return _guarded(node, taken)
    return _guarded(node, condition if taken is None else apply(Op.AND, taken, condition))


def _extreme(op: Op, x: Expression, y: Expression, taken: Expression | None) -> Expression:
    """`min` or `max` as selections; equal operands get half of the gradient each, a constant none."""
    x_loses, y_loses = apply(Op.LESS, x, y), apply(Op.LESS, y, x)
    if op is Op.MINIMUM:
        x_loses, y_loses = y_loses, x_loses
    if isinstance(x, Constant):
        x, y, x_loses, y_loses = y, x, y_loses, x_loses
    if isinstance(y, Constant):
        return _selection(x_loses, y, x, taken)
    shares = (
        apply(
            Op.MULTIPLY,
            _selection(loses, _ZERO, operand, taken),
            apply(Op.SELECT, loses, _ZERO, apply(Op.SELECT, wins, _ONE, _HALF)),
        )
        for operand, loses, wins in ((x, x_loses, y_loses), (y, y_loses, x_loses))
    )
    return apply(Op.ADD, *shares)


def _has_finite_derivatives(expression: Expression, operators: frozenset[Op] = _LINEAR) -> bool:
    """Whether the derivatives by all floats that are read are finite; those of `operators` are taken to be."""
    match expression:
        case Apply(op=op, arguments=operands) if expression.type is Type.FLOAT and op is not Op.TO_FLOAT:
            if op in operators or _scales(op, operands):
                return all(_has_finite_derivatives(each, operators) for each in operands)
            return not any(map(_reads_float, operands))
        case _:
            return True


def derivatives_are_finite(mask: MaskIR, operators: frozenset[Op] = _LINEAR) -> bool:
    """Whether the scale, scores and weight of a mask have finite derivatives; those of `operators` are taken to be.

    If not, the backward pass must skip pairs of score minus infinity: probability 0 times an infinite derivative is
    NaN.
    """
    scaled = None if mask.scale is None else apply(Op.MULTIPLY, Score(), mask.scale)
    expressions = (each for each in (scaled, *mask.scores, mask.weight) if each is not None)
    return all(_has_finite_derivatives(each, operators) for each in expressions)


def _scales(op: Op, operands: tuple[Expression, ...]) -> bool:
    """Whether the operator multiplies by a factor that is finite for all pairs."""
    match op, operands:
        case Op.DIVIDE, (_, Constant(value=value)):
            return value != 0 and isfinite(1 / value)
        case _:
            return op is Op.MULTIPLY and any(map(_is_finite, operands))


def _is_finite(expression: Expression) -> bool:
    """Whether the expression is plainly finite for all pairs."""
    match expression:
        case Constant(value=value):
            return isfinite(value)
        case Apply(op=op):
            return op is Op.TO_FLOAT
        case _:
            return False


def _reads_float(expression: Expression) -> bool:
    """Whether the expression reads a float, so that a derivative may be nonzero."""
    match expression:
        case Score() | Coordinate(type=Type.FLOAT) | Read(type=Type.FLOAT):
            return True
        case Apply(arguments=operands) if expression.type is Type.FLOAT:
            return any(map(_reads_float, operands))
        case _:
            return False
