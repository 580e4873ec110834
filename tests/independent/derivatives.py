"""Floats that remember what they were computed from: gradients of the score of one pair, by the chain rule.

Kinks are as `docs/language.md` has them: nothing through `abs` at 0; equal operands of `min` and `max` get half each,
but beside a constant the other operand gets all; a branch that is not taken gets nothing.
"""

import math
from collections.abc import Callable

Value = "int | float | bool | Number"


class Number:
    """A float and the numbers it depends on, each with the derivative."""

    __slots__ = ("parents", "value")

    def __init__(self, value: float, parents: tuple[tuple["Number", float], ...] = ()) -> None:
        self.value = value
        self.parents = parents

    def gradients(self) -> dict["Number", float]:
        """Of this, with respect to every number behind it; what would be zero times infinity is not counted."""
        order: list[Number] = []
        seen: set[int] = set()

        def visit(node: Number) -> None:
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        found: dict[Number, float] = {self: 1.0}
        for node in reversed(order):
            own = found.get(node, 0.0)
            for parent, slope in node.parents:
                found[parent] = found.get(parent, 0.0) + own * slope
        return found


def plain(x: object) -> float:
    return x.value if isinstance(x, Number) else x  # type: ignore[return-value]


def is_float(x: object) -> bool:
    return isinstance(x, Number | float)


def made(value: float, *parents: tuple[object, float]) -> object:
    kept = tuple((x, slope) for x, slope in parents if isinstance(x, Number))
    return Number(value, kept) if kept else value


def add(a: object, b: object) -> object:
    return made(plain(a) + plain(b), (a, 1.0), (b, 1.0))


def subtract(a: object, b: object) -> object:
    return made(plain(a) - plain(b), (a, 1.0), (b, -1.0))


def multiply(a: object, b: object) -> object:
    return made(plain(a) * plain(b), (a, plain(b)), (b, plain(a)))


def divide(a: object, b: object) -> object:
    x, y = float(plain(a)), float(plain(b))
    if y == 0.0:
        value = math.nan if x == 0.0 or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1.0, y)
        return made(value, (a, math.inf), (b, math.nan))
    return made(x / y, (a, 1.0 / y), (b, -x / (y * y)))


def power(a: object, exponent: object) -> object:
    x, n = plain(a), plain(exponent)
    if not isinstance(a, Number) and not isinstance(n, float):
        return x**n
    return made(_power(x, n), (a, 0.0 if n == 0 else n * _power(x, n - 1)))


def _power(x: float, n: float) -> float:
    try:
        return float(x) ** n
    except OverflowError:
        return math.inf if x > 0 or n % 2 == 0 else -math.inf


def absolute(a: object) -> object:
    x = plain(a)
    return made(abs(x), (a, (x > 0) - (x < 0)))


def lesser(a: object, b: object) -> object:
    return _chosen(a, b, plain(a) <= plain(b), min)


def greater(a: object, b: object) -> object:
    return _chosen(a, b, plain(a) >= plain(b), max)


def _chosen(a: object, b: object, first: bool, function: Callable[[float, float], float]) -> object:
    x, y = plain(a), plain(b)
    if math.isnan(x) or math.isnan(y):
        return made(math.nan, (a, math.nan), (b, math.nan))
    value = function(x, y)
    if is_float(a) or is_float(b):
        value = float(value)
    if x == y:
        both = isinstance(a, Number) and isinstance(b, Number)
        return made(value, (a, 0.5 if both else 1.0), (b, 0.5 if both else 1.0))
    return made(value, (a, float(first)), (b, float(not first)))


def unary(name: str, a: object) -> object:
    x = float(plain(a))
    if math.isnan(x):
        return made(x, (a, x))
    match name:
        case "sqrt":
            value = math.sqrt(x) if x >= 0 else math.nan
            return made(value, (a, math.inf if value == 0 else 0.5 / value))
        case "exp":
            value = math.exp(x) if x < 709.7 else math.inf
            return made(value, (a, value))
        case "log":
            value = math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)
            return made(value, (a, math.inf if x == 0 else 1.0 / x))
        case "tanh":
            value = math.tanh(x)
            return made(value, (a, 1.0 - value * value))
        case "sigmoid":
            value = 1.0 / (1.0 + math.exp(-x)) if x > -700 else 0.0
            return made(value, (a, value * (1.0 - value)))
        case _:
            raise AssertionError(name)
