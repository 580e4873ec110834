"""Floats and vectors that remember what they were computed from: gradients of one pair, by the chain rule.

Kinks are as `docs/language.md` has them: nothing through `abs` at 0; equal operands of `min` and `max` get half each,
but beside a constant the other operand gets all; a branch that is not taken gets nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Value = "int | float | bool | Number"


class Number:
    """A float, or a vector of them, and the numbers it depends on, each with the derivative, element by element."""

    __slots__ = ("parents", "value")

    def __init__(self, value: Any, parents: tuple[tuple["Number", Any], ...] = ()) -> None:
        self.value = value
        self.parents = parents

    def gradients(self, along: Any = 1.0) -> dict["Number", Any]:
        """Of this times `along`, with respect to every number behind it."""
        order: list[Number] = []
        seen: set[int] = set()

        def visit(node: Number) -> None:
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        found: dict[Number, Any] = {self: along}
        for node in reversed(order):
            own = found.get(node, 0.0)
            for parent, slope in node.parents:
                passed = own * slope
                if np.ndim(parent.value) < np.ndim(passed):  # a float that is a factor of every element
                    passed = passed.sum()
                found[parent] = found.get(parent, 0.0) + passed
        return found


def plain(x: object) -> Any:
    return x.value if isinstance(x, Number) else x


def is_float(x: object) -> bool:
    return isinstance(x, Number | float)


def made(value: Any, *parents: tuple[object, Any]) -> object:
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
