"""Operators and functions on numbers that may be derived."""

import math
from collections.abc import Iterator
from typing import Any

from tests.independent import derivatives, numbering
from tests.independent.derivatives import Number, plain
from tests.independent.reader import Node


def arithmetic(mark: str, a: Any, b: Any) -> object:
    match mark:
        case "+":
            return derivatives.add(a, b)
        case "-":
            return derivatives.subtract(a, b)
        case "*":
            return derivatives.multiply(a, b)
        case "/":
            return derivatives.divide(a, b)
        case "//":
            return a // b
        case "%":
            return a % b
        case "**":
            return derivatives.power(a, b)
        case _:
            raise AssertionError(mark)


def walk(node: Any) -> Iterator[Node]:
    """All nodes of an expression."""
    if isinstance(node, tuple):
        if node and isinstance(node[0], str):
            yield node
        for part in node:
            yield from walk(part)


def as_float(x: object) -> Number:
    return x if isinstance(x, Number) else Number(float(plain(x)))


FUNCTIONS: dict[str, Any] = {
    "abs": derivatives.absolute,
    "min": lambda first, *others: reduce_with(derivatives.lesser, first, *others),
    "max": lambda first, *others: reduce_with(derivatives.greater, first, *others),
    "clamp": lambda x, low, high: derivatives.lesser(derivatives.greater(x, low), high),
    "ilog2": lambda x: x.bit_length() - 1 if x >= 1 else -1,
    "is_power_of_two": lambda x: x >= 1 and x & (x - 1) == 0,
    "gcd": math.gcd,
    "share_bit": lambda a, b: a & b != 0,
    "random": numbering.random,
    "float": as_float,
    **{name: (lambda x, name=name: derivatives.unary(name, x)) for name in ("sqrt", "exp", "log", "tanh", "sigmoid")},
}


def reduce_with(function: Any, first: object, *others: object) -> object:
    for other in others:
        first = function(first, other)
    return first
