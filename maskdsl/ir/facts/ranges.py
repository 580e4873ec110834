"""Static ranges of integer expressions, on Python integers of any size, and of floats that no input decides.

`bind` proves with them that no value leaves 64 bits and no divisor is zero; printers choose integer widths by them.
"""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from itertools import product
from math import inf
from typing import NamedTuple, assert_never

import numpy as np

from maskdsl.ir.declared.sequences import Along, Computed, Given, Sequence, Shuffled, Space
from maskdsl.ir.expressions import (
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Leaf,
    Read,
    Score,
    Side,
    folded,
)
from maskdsl.ir.facts.intervals import Interval, interval_of, point
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.numpy_operators import constant_array
from maskdsl.ir.ops import ROUNDINGS, Op, Type


class Range(NamedTuple):
    """The integers from `low` to `high`, both included."""

    low: int
    high: int

    def joined(self, other: "Range") -> "Range":
        """The smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


INT32 = Range(-(2**31), 2**31 - 1)
INT64 = Range(-(2**63), 2**63 - 1)
ENTRY_NUMBERS = Range(-1, 2**31 - 2)
"""The numbers of the entries of a sparse input, and -1 for none."""
_LARGEST_EXPONENT = 64
"""A larger power of a number other than 0, 1 and -1 leaves 64 bits."""


Reach = Range | Interval | None
"""The range of an integer, or of a float that no input decides; None of other floats and of booleans."""
_ANY_SCORE = Interval(np.asarray(-(2.0**128)), np.asarray(2.0**128))
_EITHER = Interval(np.asarray(False), np.asarray(True))


def constant_reach(constant: Constant) -> Reach:
    """The one value of a number."""
    match constant.value:
        case bool():
            return None
        case int(value):
            return Range(value, value)
        case _:
            return point(constant_array(constant))


def apply_reach(node: Apply, operands: tuple[Reach, ...]) -> Reach:
    """The range of an operator, given those of its operands."""
    match node.type:
        case Type.BOOL:
            return None
        case Type.INT if node.op in ROUNDINGS:
            return _rounded(node.op, operands[0])
        case Type.INT:
            return operator_range(node.op, tuple(each if isinstance(each, Range) else Range(0, 1) for each in operands))
        case Type.FLOAT:
            intervals = [
                _EITHER if each.type is Type.BOOL else _interval(reach)
                for each, reach in zip(node.arguments, operands, strict=True)
            ]
            known = [each for each in intervals if each is not None]
            with np.errstate(all="ignore"):
                return interval_of(node.op, *known) if len(known) == len(intervals) else None


def _interval(reach: Reach) -> Interval | None:
    return Interval(np.asarray(reach.low), np.asarray(reach.high)) if isinstance(reach, Range) else reach


def _rounded(op: Op, operand: Reach) -> Range:
    """Any integer of 64 bits, if an input decides what is rounded."""
    if not isinstance(operand, Interval):
        return INT64
    result = interval_of(op, operand)
    return Range(int(result.low), int(result.high))


def operator_range(op: Op, operands: tuple[Range, ...]) -> Range:
    """The range of an operator with an integer result, given those of its operands. Divisors are taken not to be zero.

    `//` and `%` have the same rules on arrays in `ir/facts/intervals.py` and as expressions in
    `ir/facts/bounds.py`: change all three together.
    """
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
            if not divisors:
                return Range(0, 0)
            return _hull(x // divisor for x in a for divisor in divisors)
        case Op.FLOOR_MODULO, (a, b):
            return _modulo(a, b)
        case Op.POWER, (a, b):
            return _power(a, b.low)
        case Op.SELECT, (_, a, b):
            return a.joined(b)
        case Op.INTEGER_LOG2, (a,):
            return Range(_log2(a.low), _log2(a.high))
        case Op.GREATEST_COMMON_DIVISOR, (a, b):
            sizes = [max(abs(each.low), abs(each.high)) for each in (a, b) if 0 not in each]
            return Range(1, min(sizes)) if sizes else Range(0, max(map(abs, (*a, *b))))
        case Op.RANDOM, _:
            return Range(0, 2**31 - 1)
        case _:
            raise AssertionError(f"{op} gives no integer")


def _hull(values: Iterable[int]) -> Range:
    known = list(values)
    return Range(min(known), max(known))


def _modulo(a: Range, b: Range) -> Range:
    if b.low == b.high != 0 and a.low // b.low == a.high // b.low:
        return Range(a.low % b.low, a.high % b.low) if b.low > 0 else Range(*sorted((a.low % b.low, a.high % b.low)))
    if b.low > 0 and a.low >= 0:
        return Range(0, min(a.high, b.high - 1))
    return Range(min(b.low + 1, 0), max(b.high - 1, 0))


def _power(a: Range, exponent: int) -> Range:
    if exponent > _LARGEST_EXPONENT and max(abs(a.low), abs(a.high)) > 1:
        return Range(-(2**64), 2**64)  # beyond 64 bits; the exact power could be huge
    ends = [a.low**exponent, a.high**exponent]
    if exponent % 2 == 0 and 0 in a and exponent > 0:
        ends.append(0)
    return _hull(ends)


def _log2(x: int) -> int:
    return max(x, 0).bit_length() - 1


def expression_range(expression: Expression, leaf: Callable[[Leaf], Range]) -> Range:
    """The range of an integer expression, given those of its leaves. Divisors are taken not to be zero."""

    result = folded(expression, partial(_reach, leaf))
    return result if isinstance(result, Range) else Range(0, 0)


def largest_magnitude(expression: Expression, leaf: Callable[[Leaf], Range]) -> float:
    """The largest magnitude of a float expression for scores of any size; infinity where inputs decide."""

    def reach(node: Expression, operands: tuple[Reach, ...]) -> Reach:
        return _ANY_SCORE if isinstance(node, Score) else _reach(leaf, node, operands)

    result = folded(expression, reach)
    if not isinstance(result, Interval) or np.isnan(result.low):
        return inf
    return float(max(-result.low, result.high))


def _reach(leaf: Callable[[Leaf], Range], node: Expression, operands: tuple[Reach, ...]) -> Reach:
    """The reach of a node, given those of its operands."""
    match node:
        case Constant():
            return constant_reach(node)
        case Apply():
            return apply_reach(node, operands)
        case _ if node.type is not Type.INT:
            return None
        case Read(sparse=is_sparse):
            return ENTRY_NUMBERS if is_sparse else INT32
        case Coordinate() | InSpace() | Head() | Batch() | Score():
            return leaf(node)
        case _:
            assert_never(node)


def mask_leaf(mask: MaskIR) -> Callable[[Leaf], Range]:
    """Maps the integer leaves of a mask's expressions over pairs to their ranges."""
    tables = {Side.QUERY: _CoordinateRanges(mask, mask.queries), Side.KEY: _CoordinateRanges(mask, mask.keys)}

    def leaf(node: Leaf) -> Range:
        match node:
            case Coordinate(side=side, name=name):
                return tables[side].of(name)
            case Head():
                return Range(0, mask.heads - 1)
            case Batch():
                return Range(0, 2**31 - 1)
            case _:
                raise AssertionError(f"{node} is no integer")

    return leaf


class _CoordinateRanges:
    """The ranges of one side's coordinates over all of its spaces, cached by name."""

    def __init__(self, mask: MaskIR, sequence: Sequence) -> None:
        self.mask, self.sequence = mask, sequence
        self.known: dict[str, Range] = {"i": Range(0, sequence.length - 1)}

    def of(self, name: str) -> Range:
        if name not in self.known:
            declared = [each.name for each in self.sequence.coordinates]
            for each in declared if name in declared else [name]:  # declared before the coordinates that read them
                zero = Range(0, 0)  # the value for tokens that lack it
                ranges = [self.in_space(each, space) for space in self.sequence.spaces]
                self.known[each] = reduce(Range.joined, [each for each in ranges if each is not None], zero)
        return self.known[name]

    def in_space(self, name: str, space: Space) -> Range | None:
        definition = self.sequence.definition(name)
        if definition is None:
            axis = space.axis(name)
            return None if axis is None else Range(0, axis.length - 1)
        match dict(definition.sources).get(space.name):
            case None:
                return None
            case Given(input=given):
                declared = self.mask.input(given)
                return INT32 if declared is None or declared.reach is None else Range(*declared.reach)
            case Along() | Shuffled(of="i"):
                return Range(0, self.sequence.length - 1)
            case Shuffled(of=of):
                return self.in_space(of, space)
            case Computed(value=value):
                return expression_range(value, self.leaf)

    def leaf(self, node: Leaf) -> Range:
        match node:
            case Coordinate(name=name):
                return self.of(name)
            case Head():
                return Range(0, self.mask.heads - 1)
            case Batch():
                return Range(0, 2**31 - 1)
            case _:
                raise AssertionError(f"{node} is no integer")
