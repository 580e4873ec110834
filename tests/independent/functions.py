"""Operators and functions on numbers that may be derived."""

import math
from collections.abc import Iterator
from functools import partial
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


def rounded(to_whole: Any, x: object) -> int:
    """The nearest integer of 64 bits, and 0 for NaN."""
    value = plain(x)
    if isinstance(value, int):
        return value
    if math.isfinite(value):
        return max(-(2**63), min(2**63 - 1, to_whole(value)))
    return 0 if math.isnan(value) else 2**63 - 1 if value > 0 else -(2**63)


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
    "floor": partial(rounded, math.floor),
    "round": partial(rounded, round),
    "int": partial(rounded, int),
    **{name: (lambda x, name=name: derivatives.unary(name, x)) for name in ("sqrt", "exp", "log", "tanh", "sigmoid")},
}


def reduce_with(function: Any, first: object, *others: object) -> object:
    for other in others:
        first = function(first, other)
    return first
