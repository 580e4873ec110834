"""Every static range holds every value: all ranges of small integers, both signs and zero."""

from itertools import product

import numpy as np
import pytest

from maskdsl import parse
from maskdsl.ir.expressions import Apply
from maskdsl.ir.facts.ranges import Range, expression_range, mask_leaf, operator_range
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


def reach_of(text: str) -> Range:
    """The static range of an integer of the query, of 17, and of the head, of 3."""
    bound = parse(f"pattern p() {{ space tokens[17] attend {text} == k }}")["p"].bind(heads=3)
    assert isinstance(bound.ir.relation, Apply)
    return expression_range(bound.ir.relation.arguments[0], mask_leaf(bound.ir))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("floor(float(q) / 3.0)", (0, 5)),
        ("round(float(q - 8) / 3.0)", (-3, 3)),
        ("int(float(q - 8) * 0.7)", (-5, 5)),
        ("floor(sqrt(q + 9) - 0.5)", (2, 4)),
        ("round(2.5 if head == 0 else float(q))", (0, 16)),
        ("int(log(q + 1) / log(2.0)) + floor(tanh(q))", (0, 5)),
    ],
)
def test_rounded_floats_have_ranges(text: str, expected: tuple[int, int]) -> None:
    low, high = reach_of(text)
    assert low <= expected[0] and expected[1] <= high, "the range misses a value"
    assert expected[0] - low <= 1 and high - expected[1] <= 1, "the range is too wide"


def test_a_choice_may_be_either() -> None:
    assert operator_range(Op.SELECT, (Range(0, 1), Range(-3, 2), Range(5, 7))) == (-3, 7)


def test_random_integers_have_31_bits() -> None:
    assert operator_range(Op.RANDOM, (Range(3, 3), Range(-5, 5))) == (0, 2**31 - 1)
