"""Every static range holds every value: all ranges of small integers, both signs and zero."""

from itertools import product

import numpy as np
import pytest

from maskdsl.ir.facts.ranges import Range, operator_range
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import OPERATORS, Op, Type

ENDS = range(-3, 5)
RANGES = [Range(low, high) for low, high in product(ENDS, ENDS) if low <= high]
INTEGER = [op for op, each in OPERATORS.items() if Type.INT in each.types and each.result is None]
ELSEWHERE = (Op.SELECT, Op.RANDOM)
"""Those with a test of their own."""


def operands(op: Op) -> list[tuple[Range, ...]]:
    if OPERATORS[op].count == 1:
        return [(each,) for each in RANGES]
    if op is Op.POWER:  # of a constant exponent
        return [(each, Range(exponent, exponent)) for each in RANGES for exponent in range(5)]
    return list(product(RANGES, RANGES))


@pytest.mark.parametrize("op", [op for op in INTEGER if op not in ELSEWHERE])
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


def test_random_integers_have_31_bits() -> None:
    assert operator_range(Op.RANDOM, (Range(3, 3), Range(-5, 5))) == (0, 2**31 - 1)
