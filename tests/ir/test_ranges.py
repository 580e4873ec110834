"""Every static range holds every value: all ranges of small integers, both signs and zero."""

from itertools import product

import numpy as np
import pytest

from maskdsl.ir.operators import apply_operator
from maskdsl.ir.ops import Op
from maskdsl.ir.ranges import Range, operator_range

ENDS = range(-3, 5)
RANGES = [Range(low, high) for low, high in product(ENDS, ENDS) if low <= high]
ONE = (Op.NEGATE, Op.ABSOLUTE, Op.INTEGER_LOG2)
TWO = (Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.MINIMUM, Op.MAXIMUM, Op.FLOOR_DIVIDE, Op.FLOOR_MODULO, Op.POWER)


def operands(op: Op) -> list[tuple[Range, ...]]:
    if op in ONE:
        return [(each,) for each in RANGES]
    if op is Op.POWER:  # of a constant exponent
        return [(each, Range(exponent, exponent)) for each in RANGES for exponent in range(5)]
    return list(product(RANGES, RANGES))


@pytest.mark.parametrize("op", [*ONE, *TWO])
def test_a_range_holds_every_value(op: Op) -> None:
    for ranges in operands(op):
        values = [np.arange(each.low, each.high + 1) for each in ranges]
        if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO):
            values[1] = values[1][values[1] != 0]
        if not all(map(len, values)):
            continue
        found = apply_operator(op, *np.meshgrid(*values))
        low, high = operator_range(op, ranges)
        assert low <= found.min() and found.max() <= high, (ranges, (low, high))


def test_a_choice_may_be_either() -> None:
    assert operator_range(Op.SELECT, (Range(0, 1), Range(-3, 2), Range(5, 7))) == (-3, 7)
