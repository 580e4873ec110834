"""Static ranges of integers: what an operator gives for all operands between bounds. Python integers of any size.

`bind` proves with them that nothing leaves 64 bits and no divisor is zero; printers choose integer widths by them.
"""

from itertools import product
from typing import NamedTuple

from maskdsl.ir.ops import Op


class Range(NamedTuple):
    """The integers from `low` to `high`, both included."""

    low: int
    high: int

    def joined(self, other: "Range") -> "Range":
        return Range(min(self.low, other.low), max(self.high, other.high))

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


INT32 = Range(-(2**31), 2**31 - 1)
INT64 = Range(-(2**63), 2**63 - 1)
LARGEST_EXPONENT = 64
"""Beyond it every power of a number other than 0, 1 and -1 leaves 64 bits."""


def operator_range(op: Op, operands: tuple[Range, ...]) -> Range:
    """The smallest range that is plainly right for an operator with an integer result. Divisors hold no zero."""
    match op, operands:
        case Op.ADD, (a, b):
            return Range(a.low + b.low, a.high + b.high)
        case Op.SUBTRACT, (a, b):
            return Range(a.low - b.high, a.high - b.low)
        case Op.MULTIPLY, (a, b):
            return _hull(x * y for x, y in product(a, b))
        case Op.NEGATE, (a,):
            return Range(-a.high, -a.low)
        case Op.ABSOLUTE, (a,):
            low = 0 if 0 in a else min(abs(a.low), abs(a.high))
            return Range(low, max(abs(a.low), abs(a.high)))
        case Op.MINIMUM, _:
            return Range(min(each.low for each in operands), min(each.high for each in operands))
        case Op.MAXIMUM, _:
            return Range(max(each.low for each in operands), max(each.high for each in operands))
        case Op.FLOOR_DIVIDE, (a, b):
            divisors = [divisor for divisor in (b.low, b.high, -1, 1) if divisor in b and divisor != 0]
            return _hull(x // divisor for x in a for divisor in divisors)
        case Op.FLOOR_MODULO, (a, b):
            return _modulo(a, b)
        case Op.POWER, (a, b):
            return _power(a, b.low)
        case Op.SELECT, (_, a, b):
            return a.joined(b)
        case Op.INTEGER_LOG2, (a,):
            return Range(_log2(a.low), _log2(a.high))
        case Op.RANDOM, _:
            return Range(0, 2**31 - 1)
        case _:
            raise AssertionError(f"{op} gives no integer")


def _hull(values: object) -> Range:
    found = list(values)  # type: ignore[call-overload]
    return Range(min(found), max(found))


def _modulo(a: Range, b: Range) -> Range:
    if b.low == b.high and a.low // b.low == a.high // b.low:
        return Range(a.low % b.low, a.high % b.low) if b.low > 0 else Range(*sorted((a.low % b.low, a.high % b.low)))
    if b.low > 0 and a.low >= 0:
        return Range(0, min(a.high, b.high - 1))
    return Range(min(b.low + 1, 0), max(b.high - 1, 0))


def _power(a: Range, exponent: int) -> Range:
    if exponent > LARGEST_EXPONENT and max(abs(a.low), abs(a.high)) > 1:
        return Range(-(2**64), 2**64)  # outside 64 bits, without computing how far
    ends = [a.low**exponent, a.high**exponent]
    if exponent % 2 == 0 and 0 in a and exponent > 0:
        ends.append(0)
    return _hull(ends)


def _log2(x: int) -> int:
    return max(x, 0).bit_length() - 1
