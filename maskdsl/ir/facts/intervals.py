"""Interval arithmetic on arrays: for every operator of the IR, bounds of its results from bounds of its operands.

An interval holds every value of an expression on a set of token pairs. Booleans are ordered false < true, so
(false, false) means *never*, (true, true) *always* and (false, true) *sometimes*. A float that may be NaN has both
bounds NaN, which means any value. A point has one array as both bounds; points are evaluated exactly, by
`ir/numpy_operators.py`.

Correctly rounded operations keep exact bounds, since rounding is monotone; NumPy's other functions get some slack.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.records import dataclass
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import ROUNDINGS, Op

Array = NDArray[Any]

_SLACK = 1e-12
"""Relative error allowed for functions that are not correctly rounded; their actual error is about 1e-16."""


@dataclass(frozen=True)
class Interval:
    """Arrays (or NumPy scalars) of inclusive bounds, which broadcast against those of other intervals."""

    low: Array
    high: Array
    mixed: Array | None = None
    """bool: where it is certain that two values occur: false and true, or of entries of a list, -1 and another number.

    None if it is certain nowhere.
    """

    @property
    def is_point(self) -> bool:
        """Whether both bounds are the same array object."""
        return self.low is self.high


def point(values: Array) -> Interval:
    """The interval of exactly these values."""
    return Interval(values, values)


def interval_of(op: Op, *arguments: Interval) -> Interval:
    """Bounds of `op` over all values in the operands' intervals; exact if all are points."""
    if all(argument.is_point for argument in arguments):
        return point(apply_operator(op, *(argument.low for argument in arguments)))
    result = RULES[op](*arguments)
    if op in _MIXED and any(argument.mixed is not None for argument in arguments):
        return Interval(result.low, result.high, _MIXED[op](*arguments))
    return result


# NaN


def _is_float(interval: Interval) -> bool:
    return bool(interval.low.dtype.kind == "f")


def spoil(interval: Interval, where: Array) -> Interval:
    """The interval with any value `where` a NaN may arise."""
    if not np.any(where):
        return interval
    return Interval(np.where(where, np.nan, interval.low), np.where(where, np.nan, interval.high))


def _holds_zero(a: Interval) -> Array:
    return np.asarray((a.low <= 0) & (a.high >= 0))


def _is_unbounded(a: Interval) -> Array:
    return np.asarray(np.isinf(a.low) | np.isinf(a.high))


# Numbers


def _add(a: Interval, b: Interval) -> Interval:
    result = Interval(a.low + b.low, a.high + b.high)
    if _is_float(result):  # inf - inf
        result = spoil(result, np.isnan(a.low + b.high) | np.isnan(a.high + b.low))
    return result


def _subtract(a: Interval, b: Interval) -> Interval:
    result = Interval(a.low - b.high, a.high - b.low)
    if _is_float(result):
        result = spoil(result, np.isnan(a.low - b.low) | np.isnan(a.high - b.high))
    return result


def _negate(a: Interval) -> Interval:
    return Interval(-a.high, -a.low)


def _absolute(a: Interval) -> Interval:
    return Interval(np.maximum(np.maximum(a.low, -a.high), 0), np.maximum(-a.low, a.high))


def _corners(function: Callable[[Array, Array], Array], a: Interval, b: Interval) -> Interval:
    """Bounds of a function that is monotone in each operand."""
    corners = [function(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(reduce(np.minimum, corners), reduce(np.maximum, corners))


def _multiply(a: Interval, b: Interval) -> Interval:
    result = _corners(np.multiply, a, b)
    if _is_float(result):  # 0 * inf
        result = spoil(result, (_holds_zero(a) & _is_unbounded(b)) | (_holds_zero(b) & _is_unbounded(a)))
    return result


def _divide(a: Interval, b: Interval) -> Interval:
    return spoil(_corners(np.divide, a, b), _holds_zero(b) | (_is_unbounded(a) & _is_unbounded(b)))


def _divide_by_positive(a: Interval, b: Interval) -> Interval:
    """`a // b` for positive divisors; other divisors are mapped to this rule by `_by_sign_of_divisor`.

    `//` and `%` have the same rules on Python integers in `ir/facts/ranges.py` and as expressions in
    `ir/facts/bounds.py`: change all three together.
    """
    if b.is_point:  # one divisor: NumPy's fast path
        return Interval(a.low // b.low, a.high // b.high)
    return Interval(a.low // np.where(a.low >= 0, b.high, b.low), a.high // np.where(a.high >= 0, b.low, b.high))


def _modulo_positive(a: Interval, b: Interval) -> Interval:
    """`a % b` for positive divisors; exact where `a` stays within one period, so that the quotient is one number."""
    quotient = _divide_by_positive(a, b)
    if b.is_point:
        shift = Interval(quotient.low * b.low, quotient.low * b.low)
    else:
        shift = _corners(np.multiply, Interval(quotient.low, quotient.low), b)
    one_period = quotient.low == quotient.high
    largest = b.high - 1
    low = np.where(one_period, np.maximum(a.low - shift.high, 0), 0)
    high = np.where(one_period, np.minimum(a.high - shift.low, largest), largest)
    return Interval(low, np.where(a.low >= 0, np.minimum(high, a.high), high))


Rule = Callable[..., Interval]


def _by_sign_of_divisor(positive: Rule, negative: Rule) -> Rule:
    """A rule for all divisors, from the rule for positive ones and its mirror image for negative ones.

    The binder proves divisors nonzero for the tokens that have them; other tokens read zero, and the result is zero.
    """

    def rule(a: Interval, b: Interval) -> Interval:
        if np.all(b.low > 0):
            return positive(a, b)
        if np.all(b.high < 0):
            return negative(a, b)
        above = positive(a, Interval(np.maximum(b.low, 1), np.maximum(b.high, 1)))
        below = negative(a, Interval(np.minimum(b.low, -1), np.minimum(b.high, -1)))
        low = np.where(b.high > 0, above.low, below.low)
        high = np.where(b.high > 0, above.high, below.high)
        both = (b.low < 0) & (b.high > 0)
        low, high = np.where(both, np.minimum(low, below.low), low), np.where(both, np.maximum(high, below.high), high)
        zero = _holds_zero(b)
        return Interval(np.where(zero, np.minimum(low, 0), low), np.where(zero, np.maximum(high, 0), high))

    return rule


def _power(base: Interval, exponent: Interval) -> Interval:
    """The exponent is a constant. With an even one, the power is monotone in the absolute value of the base."""
    number = exponent.low.item()
    if number == int(number) and number >= 0:
        inner = _absolute(base) if number % 2 == 0 else base
    else:
        inner = spoil(base, (base.low < 0) | ((base.low == 0) & (number < 0)))
    low, high = (np.power(bound, exponent.low) for bound in (inner.low, inner.high))
    if _is_float(base):
        return _widen(Interval(np.minimum(low, high), np.maximum(low, high)))
    return Interval(low, high)


def _widen(a: Interval) -> Interval:
    return Interval(a.low - _slack(a.low), a.high + _slack(a.high))


def _slack(bound: Array) -> Array:
    """The slack of a bound; zero at infinities, where inf - inf would be NaN."""
    return np.where(np.isinf(bound), 0.0, np.abs(bound) * _SLACK + np.finfo(np.float64).tiny)


def _rising(op: Op) -> Rule:
    """The rule of a nondecreasing function whose rounding is nondecreasing too."""
    return lambda a: Interval(apply_operator(op, a.low), apply_operator(op, a.high))


def _rising_roughly(op: Op) -> Rule:
    """The rule of a nondecreasing function that is not correctly rounded."""
    return lambda a: _widen(_rising(op)(a))


def _rounding(op: Op) -> Rule:
    """The rule of a rounding to integers: of any value, any integer of 64 bits."""
    return lambda a: Interval(
        apply_operator(op, np.where(np.isnan(a.low), -np.inf, a.low)),
        apply_operator(op, np.where(np.isnan(a.high), np.inf, a.high)),
    )


def _square_root(a: Interval) -> Interval:
    return spoil(_rising(Op.SQUARE_ROOT)(a), a.low < 0)


def _logarithm(a: Interval) -> Interval:
    return spoil(_rising_roughly(Op.LOGARITHM)(a), a.low < 0)


def _minimum(a: Interval, b: Interval) -> Interval:
    return Interval(np.minimum(a.low, b.low), np.minimum(a.high, b.high))


def _maximum(a: Interval, b: Interval) -> Interval:
    return Interval(np.maximum(a.low, b.low), np.maximum(a.high, b.high))


def _is_power_of_two(a: Interval) -> Interval:
    """Possible if the integer logarithm changes just below or within the interval; exact for points and [1, 2]."""
    possible = apply_operator(Op.INTEGER_LOG2, a.high) != apply_operator(Op.INTEGER_LOG2, a.low - 1)
    return Interval(possible & ((a.low == a.high) | ((a.low >= 1) & (a.high <= 2))), possible)


def _share_bit(a: Interval, b: Interval) -> Interval:
    """Exact for points; impossible if one operand is zero."""
    known = (a.low == a.high) & (b.low == b.high)
    zero = ((a.low == 0) & (a.high == 0)) | ((b.low == 0) & (b.high == 0))
    shared = apply_operator(Op.SHARE_BIT, a.low, b.low)
    return Interval(known & shared, np.where(known, shared, ~zero))


def _greatest_common_divisor(a: Interval, b: Interval) -> Interval:
    """Exact for points; otherwise at most the absolute value of a nonzero operand."""
    known = (a.low == a.high) & (b.low == b.high)
    (of_a, size_a), (of_b, size_b) = ((_holds_zero(each), _absolute(each).high) for each in (a, b))
    one = np.where(of_a, size_b, size_a)  # if only one may be zero, the other bounds the result
    high = np.where(of_a == of_b, np.where(of_a, np.maximum(size_a, size_b), np.minimum(size_a, size_b)), one)
    value = apply_operator(Op.GREATEST_COMMON_DIVISOR, a.low, b.low)
    return Interval(np.where(known, value, ~(of_a & of_b)), np.where(known, value, high))


def _random(*arguments: Interval) -> Interval:
    """Exact where all arguments are points; otherwise the whole range."""
    known = reduce(np.logical_and, (argument.low == argument.high for argument in arguments))
    low, high = np.int64(0), np.int64(2**31 - 1)
    if not np.any(known):
        return Interval(np.asarray(low), np.asarray(high))
    values = apply_operator(Op.RANDOM, *(argument.low for argument in arguments))
    return Interval(np.where(known, values, low), np.where(known, values, high))


# Comparisons are written so that a NaN bound leaves both outcomes possible


def _equal(a: Interval, b: Interval) -> Interval:
    return Interval((a.low == b.high) & (a.high == b.low), ~((a.high < b.low) | (b.high < a.low)))


def _not_equal(a: Interval, b: Interval) -> Interval:
    return _logical_not(_equal(a, b))


def _less(a: Interval, b: Interval) -> Interval:
    return Interval(a.high < b.low, ~(a.low >= b.high))


def _less_equal(a: Interval, b: Interval) -> Interval:
    return Interval(a.high <= b.low, ~(a.low > b.high))


# Booleans


def _logical_not(a: Interval) -> Interval:
    return Interval(~a.high, ~a.low)


def _logical_and(*arguments: Interval) -> Interval:
    return reduce(_minimum, arguments)


def _logical_or(*arguments: Interval) -> Interval:
    return reduce(_maximum, arguments)


def _select(condition: Interval, then: Interval, otherwise: Interval) -> Interval:
    low = np.where(condition.high, np.minimum(then.low, otherwise.low), otherwise.low)
    high = np.where(condition.high, np.maximum(then.high, otherwise.high), otherwise.high)
    return Interval(np.where(condition.low, then.low, low), np.where(condition.low, then.high, high))


def _one_mixed(a: Interval, b: Interval, decided: Callable[[Interval], Array]) -> Array | None:
    """Where one operand takes both values, and the other one never decides."""
    cases = [one.mixed & ~decided(other) for one, other in ((a, b), (b, a)) if one.mixed is not None]
    return reduce(np.logical_or, cases) if cases else None


def _is_zero(a: Interval) -> bool:
    return a.is_point and a.low.ndim == 0 and a.low.item() == 0


_MIXED: dict[Op, Callable[..., Array | None]] = {
    Op.NOT: lambda a: a.mixed,
    Op.AND: lambda a, b: _one_mixed(a, b, lambda each: ~each.low),
    Op.OR: lambda a, b: _one_mixed(a, b, lambda each: each.high),
    Op.LESS: lambda a, b: a.mixed if _is_zero(b) else None,
    Op.LESS_EQUAL: lambda a, b: b.mixed if _is_zero(a) else None,
}
"""Where results certainly take both values. Entries are stored where their number is not below zero."""


RULES: dict[Op, Rule] = {
    Op.ADD: _add,
    Op.SUBTRACT: _subtract,
    Op.MULTIPLY: _multiply,
    Op.DIVIDE: _divide,
    Op.FLOOR_DIVIDE: _by_sign_of_divisor(
        _divide_by_positive,
        lambda a, b: _divide_by_positive(_negate(a), _negate(b)),
    ),
    Op.FLOOR_MODULO: _by_sign_of_divisor(
        _modulo_positive,
        lambda a, b: _negate(_modulo_positive(_negate(a), _negate(b))),
    ),
    Op.NEGATE: _negate,
    Op.POWER: _power,
    Op.ABSOLUTE: _absolute,
    Op.MINIMUM: _minimum,
    Op.MAXIMUM: _maximum,
    Op.EQUAL: _equal,
    Op.NOT_EQUAL: _not_equal,
    Op.LESS: _less,
    Op.LESS_EQUAL: _less_equal,
    Op.NOT: _logical_not,
    Op.AND: _logical_and,
    Op.OR: _logical_or,
    Op.SELECT: _select,
    Op.INTEGER_LOG2: _rising(Op.INTEGER_LOG2),
    Op.IS_POWER_OF_TWO: _is_power_of_two,
    Op.SHARE_BIT: _share_bit,
    Op.GREATEST_COMMON_DIVISOR: _greatest_common_divisor,
    Op.RANDOM: _random,
    **{op: _rounding(op) for op in ROUNDINGS},
    Op.TO_FLOAT: _rising(Op.TO_FLOAT),
    Op.SQUARE_ROOT: _square_root,
    Op.EXPONENTIAL: _rising_roughly(Op.EXPONENTIAL),
    Op.LOGARITHM: _logarithm,
    Op.TANH: _rising_roughly(Op.TANH),
    Op.SIGMOID: _rising_roughly(Op.SIGMOID),
}
