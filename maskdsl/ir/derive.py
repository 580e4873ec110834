"""Derivatives of float expressions, as expressions: what backward passes are generated from.

`derivative(e, x)` is de/dx for a leaf x: the score, an element of an input, a token's
float. None means zero throughout.
Where a function has a kink (`abs`, `min`, `max`, at equal operands) one side is taken, as torch does for `where`.
"""

from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, Read, Score, apply
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import fold

ONE = Constant(1.0)
ZERO = Constant(0.0)


def derivative(expression: Expression, leaf: Score | Read | Coordinate) -> Expression | None:
    """How the expression changes with the leaf; None if it does not."""
    if expression == leaf:
        return ONE
    if not isinstance(expression, Apply) or expression.type is not Type.FLOAT:
        return None
    parts = expression.arguments
    if expression.op is Op.SELECT:
        condition, then, otherwise = parts
        return _choice(condition, derivative(then, leaf), derivative(otherwise, leaf))
    if expression.op is Op.TO_FLOAT:
        return None
    slopes = tuple(derivative(part, leaf) for part in parts)
    return _chain(expression, parts, slopes)


def _chain(whole: Apply, parts: tuple[Expression, ...], slopes: tuple[Expression | None, ...]) -> Expression | None:
    """The chain rule for one operator."""
    match whole.op, parts, slopes:
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
            return _choice(_operation(Op.LESS, x, ZERO), _negative(a), a)
        case Op.MINIMUM, (x, y), (a, b):
            return _choice(_operation(Op.LESS, y, x), b, a)
        case Op.MAXIMUM, (x, y), (a, b):
            return _choice(_operation(Op.LESS, x, y), b, a)
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
    return _operation(Op.SELECT, condition, then or ZERO, otherwise or ZERO)
