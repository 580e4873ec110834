"""Derivatives of float expressions, as expressions: what backward passes are generated from.

`derivative(e, x)` is de/dx for a leaf x: the score, an element of an input, a token's
float. None means zero throughout. Where a function has a kink or a pole, torch's autograd says what its derivative is:
`KINKS` lists them, and every backend keeps to it.
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
    """Operands at which the two sides of a derivative differ, and the derivative by each; None for a constant."""

    op: Op
    operands: tuple[float, ...]
    slopes: tuple[float | None, ...]


KINKS = (
    Kink(Op.ABSOLUTE, (0.0,), (0.0,)),
    # Equal operands get half each. With a constant these are `clamp`, whose ends belong to its inside.
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
    # Of `then if condition else otherwise` what is not taken gets nothing, and a condition never does.
    Kink(Op.SELECT, (1.0, 0.7, 0.7), (None, 1.0, 0.0)),
    Kink(Op.SELECT, (0.0, 0.7, 0.7), (None, 0.0, 1.0)),
)


def derivative(expression: Expression, leaf: Score | Read | Coordinate) -> Expression | None:
    """How the expression changes with the leaf; None if it does not."""

    def slope(node: Expression, slopes: tuple[Expression | None, ...]) -> Expression | None:
        if node == leaf:
            return ONE
        if not isinstance(node, Apply) or node.type is not Type.FLOAT or node.op is Op.TO_FLOAT:
            return None
        return _chain(node, node.arguments, slopes)

    return folded(expression, slope)


def _chain(whole: Apply, parts: tuple[Expression, ...], slopes: tuple[Expression | None, ...]) -> Expression | None:
    """The chain rule for one operator."""
    match whole.op, parts, slopes:
        case Op.SELECT, (condition, _, _), (_, then, otherwise):
            return _choice(condition, then, otherwise)
        case Op.ADD, _, (a, b):
            return _sum(a, b)
        case Op.SUBTRACT, _, (a, b):
            return _sum(a, _negative(b))
        case Op.NEGATE, _, (a,):
            return _negative(a)
        case Op.MULTIPLY, (x, y), (a, b):
            return _sum(_product(a, y), _product(x, b))
        case Op.DIVIDE, (_, y), (a, b):
            return _sum(_over(a, y), _negative(_over(_product(whole, b), y)))
        case Op.POWER, (x, Constant(value=n) as exponent), (a, _):
            if n == 0:
                return None
            power = x if n == 2 else _operation(Op.POWER, x, Constant(float(n) - 1))
            return a if n == 1 else _product(_product(exponent, power), a)
        case Op.ABSOLUTE, (x,), (a,):
            return _larger(x, _ZERO, a, None, _negative(a))
        case Op.MINIMUM | Op.MAXIMUM, (x, Constant()), (a, _):
            return _choice(_operation(Op.EQUAL, whole, x), a, None)
        case Op.MINIMUM | Op.MAXIMUM, (Constant(), y), (_, b):
            return _choice(_operation(Op.EQUAL, whole, y), b, None)
        case Op.MINIMUM, (x, y), (a, b):
            return _larger(x, y, b, _product(_HALF, _sum(a, b)), a)
        case Op.MAXIMUM, (x, y), (a, b):
            return _larger(x, y, a, _product(_HALF, _sum(a, b)), b)
        case Op.SQUARE_ROOT, _, (a,):
            return _over(_product(Constant(0.5), a), whole)
        case Op.EXPONENTIAL, _, (a,):
            return _product(whole, a)
        case Op.LOGARITHM, (x,), (a,):
            return _over(a, x)
        case Op.TANH, _, (a,):
            return _product(_operation(Op.SUBTRACT, ONE, _operation(Op.MULTIPLY, whole, whole)), a)
        case Op.SIGMOID, _, (a,):
            return _product(_operation(Op.MULTIPLY, whole, _operation(Op.SUBTRACT, ONE, whole)), a)
        case op, _, _:
            raise AssertionError(f"{op} has no derivative")


# None is zero, and 1.0 leaves a product as it is; operators on constants are constants. Nothing else is simplified, as
# floats would not stay the same.


def _operation(op: Op, *parts: Expression) -> Expression:
    node = apply(op, *parts)
    folded = fold(node)
    return node if folded is None else folded


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


def _over(a: Expression | None, b: Expression) -> Expression | None:
    return None if a is None else _operation(Op.DIVIDE, a, b)


def _choice(condition: Expression, then: Expression | None, otherwise: Expression | None) -> Expression | None:
    if then is None and otherwise is None:
        return None
    if then == otherwise:
        return then
    return _operation(Op.SELECT, condition, then or _ZERO, otherwise or _ZERO)


def _larger(
    x: Expression, y: Expression, then: Expression | None, equal: Expression | None, otherwise: Expression | None
) -> Expression | None:
    """The first where x > y, the second where they are equal, else the third."""
    smaller = _choice(_operation(Op.LESS, x, y), otherwise, equal)
    return _choice(_operation(Op.LESS, y, x), then, smaller)
