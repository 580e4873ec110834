"""Every interval rule holds every value. The values come from `ir/meaning/evaluate.py`."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.ir.facts.intervals import RULES, Interval, interval_of, point
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import OPERATORS, Op, Type

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # `Program.run` switches NumPy's off

integers = st.one_of(st.integers(-9, 9), st.integers(-(2**20), 2**20))
floats = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]),
    st.floats(-100, 100),
    st.floats(allow_nan=False),
)
VALUES = {Type.INT: integers, Type.FLOAT: floats, Type.BOOL: st.booleans()}
DTYPES = {Type.INT: np.int64, Type.FLOAT: np.float64, Type.BOOL: np.bool_}

INT, FLOAT, BOOL = Type.INT, Type.FLOAT, Type.BOOL


def signatures():
    """Every operator with the types of operands, but for powers, whose exponents are constants."""
    for op, each in OPERATORS.items():
        counts = (each.count, each.count + 1) if each.variadic else (each.count,)
        for kind, count in product(each.types, counts) if op is not Op.POWER else ():
            yield op, (BOOL, *(kind,) * (count - 1)) if op is Op.SELECT else (kind,) * count


SIGNATURES = list(signatures())
NAMES = ["-".join([op, *kinds]) for op, kinds in SIGNATURES]


def interval_around(values):
    """The tightest interval of an array of values, as arrays of one element."""
    return Interval(np.array([values.min()]), np.array([values.max()]))


def holds(interval, value):
    """Whether a value lies within; NaN bounds hold anything."""
    anything = interval.low != interval.low
    return bool(np.all(anything | ((interval.low <= value) & (value <= interval.high))))


def samples(kind):
    return st.lists(VALUES[kind], min_size=1, max_size=4).map(lambda values: np.array(values, dtype=DTYPES[kind]))


def check(op, operands, result):
    """Every combination of the operands' values gives a value that the result holds."""
    for values in product(*operands):
        assert holds(result, apply_operator(op, *(np.array([value]) for value in values)))


def test_every_operator_has_a_rule():
    assert set(RULES) == set(OPERATORS) == set(Op)


@pytest.mark.parametrize(("op", "kinds"), SIGNATURES, ids=NAMES)
@given(data=st.data())
def test_a_rule_holds_every_value(op, kinds, data):
    operands = [data.draw(samples(kind)) for kind in kinds]
    check(op, operands, interval_of(op, *map(interval_around, operands)))


@pytest.mark.parametrize("op", [Op.FLOOR_DIVIDE, Op.FLOOR_MODULO])
@given(samples(INT), st.integers(-9, 9).filter(bool))
def test_a_constant_divisor_may_have_either_sign(op, values, divisor):
    constant = np.array([divisor])
    check(op, [values, constant], interval_of(op, interval_around(values), point(constant)))


@given(samples(INT).map(lambda values: values % 1000), st.integers(0, 5))
def test_powers_of_integers(values, exponent):
    constant = np.array(exponent)
    check(Op.POWER, [values, constant[None]], interval_of(Op.POWER, interval_around(values), point(constant)))


@given(samples(FLOAT), st.sampled_from([-2.0, -1.5, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0]))
def test_powers_of_floats(values, exponent):
    constant = np.array(exponent)
    check(Op.POWER, [values, constant[None]], interval_of(Op.POWER, interval_around(values), point(constant)))


@pytest.mark.parametrize(("op", "kinds"), SIGNATURES, ids=NAMES)
@given(data=st.data())
def test_points_are_exact(op, kinds, data):
    values = [np.array([data.draw(VALUES[kind])], dtype=DTYPES[kind]) for kind in kinds]
    result = interval_of(op, *map(point, values))
    assert result.is_point
    assert np.array_equal(result.low, apply_operator(op, *values), equal_nan=result.low.dtype.kind == "f")


def box(low, high):
    return Interval(np.array([low]), np.array([high]))


TIGHT = [
    (Op.FLOOR_MODULO, [box(17, 22), point(np.array(8))], (1, 6)),
    (Op.FLOOR_MODULO, [box(-7, -2), point(np.array(8))], (1, 6)),
    (Op.FLOOR_MODULO, [box(-7, -2), point(np.array(-8))], (-7, -2)),
    (Op.FLOOR_MODULO, [box(7, 8), point(np.array(8))], (0, 7)),
    (Op.FLOOR_MODULO, [box(0, 3), box(4, 9)], (0, 3)),
    (Op.FLOOR_MODULO, [box(0, 5), box(4, 9)], (0, 5)),
    (Op.FLOOR_DIVIDE, [box(-9, 9), box(2, 4)], (-5, 4)),
    (Op.FLOOR_DIVIDE, [box(8, 9), box(-4, -2)], (-5, -2)),
    (Op.FLOOR_DIVIDE, [box(8, 9), box(-1, 2)], (-9, 9)),
    (Op.MULTIPLY, [box(-2, 3), box(-5, 1)], (-15, 10)),
    (Op.POWER, [box(-3, 2), point(np.array(2))], (0, 9)),
    (Op.POWER, [box(-3, 2), point(np.array(3))], (-27, 8)),
    (Op.ABSOLUTE, [box(-3, 2)], (0, 3)),
    (Op.INTEGER_LOG2, [box(-3, 64)], (-1, 6)),
    (Op.IS_POWER_OF_TWO, [box(5, 7)], (False, False)),
    (Op.IS_POWER_OF_TWO, [box(5, 8)], (False, True)),
    (Op.IS_POWER_OF_TWO, [box(1, 2)], (True, True)),
    (Op.RANDOM, [box(1, 1), box(2, 3)], (0, 2**31 - 1)),
    (Op.EQUAL, [box(1, 3), box(4, 6)], (False, False)),
    (Op.EQUAL, [box(4, 4), box(4, 4)], (True, True)),
    (Op.LESS, [box(1, 3), box(4, 6)], (True, True)),
    (Op.LESS, [box(4, 6), box(1, 4)], (False, False)),
    (Op.LESS_EQUAL, [box(1, 4), box(4, 6)], (True, True)),
    (Op.SELECT, [box(True, True), box(1, 2), box(8, 9)], (1, 2)),
    (Op.SELECT, [box(False, False), box(1, 2), box(8, 9)], (8, 9)),
    (Op.SELECT, [box(False, True), box(1, 2), box(8, 9)], (1, 9)),
]


@pytest.mark.parametrize(("op", "operands", "bounds"), TIGHT)
def test_rules_are_as_tight_as_they_can_cheaply_be(op, operands, bounds):
    result = interval_of(op, *operands)
    assert (np.ravel(result.low)[0], np.ravel(result.high)[0]) == bounds


def test_a_random_number_of_known_arguments_is_known():
    known, unknown = Interval(np.array([1, 2]), np.array([1, 2])), Interval(np.array([5, 5]), np.array([5, 6]))
    result = interval_of(Op.RANDOM, known, unknown)
    value = apply_operator(Op.RANDOM, np.array([1]), np.array([5]))[0]
    assert (result.low.tolist(), result.high.tolist()) == ([value, 0], [value, 2**31 - 1])
