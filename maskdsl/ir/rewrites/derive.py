"""Symbolic derivatives of float expressions, from which backward passes are generated.

`derivative(e, x)` is de/dx for a leaf x: the score, an element of an input, or a float coordinate. None means zero
everywhere. At kinks and poles all backends agree with torch's autograd; `KINKS` lists them.
"""

from math import inf
from typing import NamedTuple

from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, Read, Score, apply, folded
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import fold

ONE = Constant(1.0)
_ZERO = Constant(0.0)
_HALF = Constant(0.5)


class Kink(NamedTuple):
    """Operands where one-sided derivatives differ, and torch's derivative by each operand; None for a constant."""

    op: Op
    operands: tuple[float, ...]
    derivatives: tuple[float | None, ...]


KINKS = (
    Kink(Op.ABSOLUTE, (0.0,), (0.0,)),
    # Equal operands get half each. With a constant, torch computes `clamp`, whose derivative is 1 at the bound.
    Kink(Op.MINIMUM, (0.7, 0.7), (0.5, 0.5)),
    Kink(Op.MINIMUM, (0.7, 0.7), (1.0, None)),
    Kink(Op.MINIMUM, (0.7, 0.7), (None, 1.0)),
    Kink(Op.MAXIMUM, (0.7, 0.7), (0.5, 0.5)),
    Kink(Op.MAXIMUM, (0.7, 0.7), (1.0, None)),
    Kink(Op.MAXIMUM, (0.7, 0.7), (None, 1.0)),
    Kink(Op.SQUARE_ROOT, (0.0,), (inf,)),
    Kink(Op.LOGARITHM, (0.0,), (inf,)),
    Kink(Op.DIVIDE, (1.0, 0.0), (inf, -inf)),
    Kink(Op.POWER, (0.0, -1.0), (-inf, None)),
    Kink(Op.POWER, (0.0, 0.0), (0.0, None)),
    Kink(Op.POWER, (0.0, 0.5), (inf, None)),
    Kink(Op.POWER, (0.0, 1.0), (1.0, None)),
    Kink(Op.POWER, (0.0, 1.5), (0.0, None)),
    Kink(Op.POWER, (0.0, 2.0), (0.0, None)),
    # The branch that is not taken has derivative zero; a condition has none.
    Kink(Op.SELECT, (1.0, 0.7, 0.7), (None, 1.0, 0.0)),
    Kink(Op.SELECT, (0.0, 0.7, 0.7), (None, 0.0, 1.0)),
)


def derivative(expression: Expression, leaf: Score | Read | Coordinate) -> Expression | None:
    """The derivative of a float expression by a leaf; None if it is zero everywhere."""

    def node_derivative(node: Expression, inner: tuple[Expression | None, ...]) -> Expression | None:
        if node == leaf:
            return ONE
        if not isinstance(node, Apply) or node.type is not Type.FLOAT or node.op is Op.TO_FLOAT:
            return None
        return _chain(node, node.arguments, inner)

    return folded(expression, node_derivative)


def _chain(node: Apply, operands: tuple[Expression, ...], inner: tuple[Expression | None, ...]) -> Expression | None:
    """The chain rule for one operator: x, y are the operands, a, b their derivatives (`inner`)."""
    match node.op, operands, inner:
        case Op.SELECT, (condition, _, _), (_, then, otherwise):
            return _select(condition, then, otherwise)
        case Op.ADD, _, (a, b):
            return _sum(a, b)
        case Op.SUBTRACT, _, (a, b):
            return _sum(a, _negative(b))
        case Op.NEGATE, _, (a,):
            return _negative(a)
        case Op.MULTIPLY, (x, y), (a, b):
            return _sum(_product(a, y), _product(x, b))
        case Op.DIVIDE, (_, y), (a, b):
            return _sum(_quotient(a, y), _negative(_quotient(_product(node, b), y)))
        case Op.POWER, (x, Constant(value=n) as exponent), (a, _):
            if n == 0:
                return None
            power = x if n == 2 else _operation(Op.POWER, x, Constant(float(n) - 1))
            return a if n == 1 else _product(_product(exponent, power), a)
        case Op.ABSOLUTE, (x,), (a,):
            return _larger(x, _ZERO, a, None, _negative(a))
        case Op.MINIMUM | Op.MAXIMUM, (x, Constant()), (a, _):
            return _select(_operation(Op.EQUAL, node, x), a, None)
        case Op.MINIMUM | Op.MAXIMUM, (Constant(), y), (_, b):
            return _select(_operation(Op.EQUAL, node, y), b, None)
        case Op.MINIMUM, (x, y), (a, b):
            return _larger(x, y, b, _product(_HALF, _sum(a, b)), a)
        case Op.MAXIMUM, (x, y), (a, b):
            return _larger(x, y, a, _product(_HALF, _sum(a, b)), b)
        case Op.SQUARE_ROOT, _, (a,):
            return _quotient(_product(Constant(0.5), a), node)
        case Op.EXPONENTIAL, _, (a,):
            return _product(node, a)
        case Op.LOGARITHM, (x,), (a,):
            return _quotient(a, x)
        case Op.TANH, _, (a,):
            return _product(_operation(Op.SUBTRACT, ONE, _operation(Op.MULTIPLY, node, node)), a)
        case Op.SIGMOID, _, (a,):
            return _product(_operation(Op.MULTIPLY, node, _operation(Op.SUBTRACT, ONE, node)), a)
        case op, _, _:
            raise AssertionError(f"{op} has no derivative")


# None is zero, factors of 1.0 are dropped, and operators on constants are folded. Any other simplification could change
# rounding.


def _operation(op: Op, *operands: Expression) -> Expression:
    node = apply(op, *operands)
    constant = fold(node)
    return node if constant is None else constant


def _sum(a: Expression | None, b: Expression | None) -> Expression | None:
    if a is None or b is None:
        return b if a is None else a
    return _operation(Op.ADD, a, b)


def _negative(a: Expression | None) -> Expression | None:
    match a:
        case None:
            return None
        case Constant(value=value):
            return Constant(-value)
        case _:
            return _operation(Op.NEGATE, a)


def _product(a: Expression | None, b: Expression | None) -> Expression | None:
    if a is None or b is None:
        return None
    if a == ONE or b == ONE:
        return b if a == ONE else a
    return _operation(Op.MULTIPLY, a, b)


def _quotient(a: Expression | None, b: Expression) -> Expression | None:
    return None if a is None else _operation(Op.DIVIDE, a, b)


def _select(condition: Expression, then: Expression | None, otherwise: Expression | None) -> Expression | None:
    if then is None and otherwise is None:
        return None
    if then == otherwise:
        return then
    return _operation(Op.SELECT, condition, then or _ZERO, otherwise or _ZERO)


def _larger(
    x: Expression, y: Expression, then: Expression | None, equal: Expression | None, otherwise: Expression | None
) -> Expression | None:
    """`then` where x > y, `equal` where x == y, else `otherwise`."""
    smaller = _select(_operation(Op.LESS, x, y), otherwise, equal)
    return _select(_operation(Op.LESS, y, x), then, smaller)
