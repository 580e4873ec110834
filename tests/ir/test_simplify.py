"""Every rule of `simplify` as the law that it is: alone, on random expressions and values, negatives included."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.ir.expressions import FALSE, TRUE, Constant, Coordinate, Expression, Side, apply
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import (
    Rule,
    absorb,
    choose,
    contain,
    double_not,
    flatten,
    fold,
    gather,
    neutral,
    simplify,
    vanish,
    whole,
)
from tests.support.drawn import examples

LEAVES = st.sampled_from([Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i"), Coordinate(Side.KEY, "y")])
CONSTANTS = st.integers(-9, 9).map(Constant)
NUMBERS = st.recursive(
    LEAVES | CONSTANTS,
    lambda inner: st.builds(
        lambda op, a, b: apply(op, a, b),
        st.sampled_from([Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.MINIMUM]),
        inner,
        inner,
    ),
    max_leaves=4,
)
OPEN = NUMBERS.map(lambda number: apply(Op.ADD, number, Coordinate(Side.QUERY, "i")))
CONDITIONS = st.builds(
    lambda op, a, b: apply(op, a, b), st.sampled_from([Op.LESS, Op.EQUAL, Op.LESS_EQUAL]), OPEN, OPEN
)
LOGIC = st.sampled_from([(Op.AND, Op.OR), (Op.OR, Op.AND)])
EITHER = st.sampled_from([TRUE, FALSE])

Build = Callable[..., Expression]

LAWS: list[tuple[Rule, st.SearchStrategy[Expression]]] = [
    (fold, st.builds(lambda op, a, b: apply(op, a, b), st.sampled_from([Op.ADD, Op.MULTIPLY]), CONSTANTS, CONSTANTS)),
    (flatten, st.builds(lambda ops, a, b, c: apply(ops[0], a, apply(ops[0], b, c)), LOGIC, *[CONDITIONS] * 3)),
    (absorb, st.builds(lambda ops, a, b: apply(ops[0], a, b), LOGIC, CONDITIONS, EITHER)),
    (absorb, st.builds(lambda ops, a, b: apply(ops[0], a, b, a), LOGIC, CONDITIONS, CONDITIONS)),
    (contain, st.builds(lambda ops, a, b: apply(ops[0], apply(ops[1], b, a), a), LOGIC, CONDITIONS, CONDITIONS)),
    (double_not, CONDITIONS.map(lambda a: apply(Op.NOT, apply(Op.NOT, a)))),
    (choose, st.builds(lambda c, a, b: apply(Op.SELECT, c, a, b), EITHER, NUMBERS, NUMBERS)),
    (choose, st.builds(lambda c, a: apply(Op.SELECT, c, a, a), CONDITIONS, NUMBERS)),
    (neutral, st.builds(lambda op, x: apply(op, x, Constant(0)), st.sampled_from([Op.ADD, Op.SUBTRACT]), NUMBERS)),
    (neutral, st.builds(lambda x: apply(Op.ADD, Constant(0), x), NUMBERS)),
    (
        neutral,
        st.builds(lambda op, x: apply(op, x, Constant(1)), st.sampled_from([Op.MULTIPLY, Op.FLOOR_DIVIDE]), NUMBERS),
    ),
    (neutral, st.builds(lambda x: apply(Op.MULTIPLY, Constant(1), x), NUMBERS)),
    (vanish, st.builds(lambda x: apply(Op.FLOOR_MODULO, x, Constant(1)), NUMBERS)),
    (vanish, st.builds(lambda x: apply(Op.MULTIPLY, x, Constant(0)), NUMBERS)),
    (
        gather,
        st.builds(
            lambda one, other, x, a, b: apply(one, apply(other, x, a), b),
            *[st.sampled_from([Op.ADD, Op.SUBTRACT])] * 2,
            NUMBERS,
            CONSTANTS,
            CONSTANTS,
        ),
    ),
]
ORDERS = st.sampled_from([Op.LESS, Op.LESS_EQUAL])
BOUNDS = st.integers(-99, 99).map(lambda halves: Constant(halves / 2))
FLOATS = NUMBERS.map(lambda x: apply(Op.TO_FLOAT, x))
LAWS += [
    (whole, st.builds(lambda op, x, bound: apply(op, x, bound), ORDERS, FLOATS, BOUNDS)),
    (whole, st.builds(lambda op, x, bound: apply(op, bound, x), ORDERS, FLOATS, BOUNDS)),
]

VALUES = {
    (side, name): np.random.default_rng(number).integers(-50, 50, 200)
    for number, (side, name) in enumerate([(Side.QUERY, "i"), (Side.KEY, "i"), (Side.KEY, "y")])
}


def value(expression: Expression) -> np.ndarray:
    return np.broadcast_to(evaluate(expression, lambda leaf: VALUES[leaf.side, leaf.name], {}), 200)


@pytest.mark.parametrize(("rule", "left"), LAWS, ids=[f"{rule.__name__}-{n}" for n, (rule, _) in enumerate(LAWS)])
def test_law(rule: Rule, left: st.SearchStrategy[Expression]) -> None:
    @settings(max_examples=examples(40))
    @given(left)
    def holds(expression: Expression) -> None:
        right = rule(expression)
        assert right is not None, "the law does not apply to its own left side"
        np.testing.assert_array_equal(value(right), value(expression))
        np.testing.assert_array_equal(value(simplify(expression)), value(expression))

    holds()


def test_gathering_stays_in_64_bits() -> None:
    huge = Constant(2**62)
    x = Coordinate(Side.QUERY, "i")
    assert gather(apply(Op.ADD, apply(Op.ADD, x, huge), huge)) is None


@pytest.mark.parametrize("bound", [float("inf"), float("-inf"), float("nan"), 2.0**53])
def test_bounds_that_no_integer_has_stay(bound: float) -> None:
    assert whole(apply(Op.LESS, apply(Op.TO_FLOAT, Coordinate(Side.QUERY, "i")), Constant(bound))) is None
    assert whole(apply(Op.LESS_EQUAL, Constant(bound), apply(Op.TO_FLOAT, Coordinate(Side.QUERY, "i")))) is None


def test_simple_things_stay() -> None:
    x, y = Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i")
    for expression in (x, Constant(3), apply(Op.SUBTRACT, x, y), apply(Op.LESS, x, Constant(4))):
        assert simplify(expression) == expression


def test_neighbours_of_laws_keep_their_value() -> None:
    """What looks like the left side of a law and is not."""
    x, a, b = Coordinate(Side.QUERY, "i"), *(apply(Op.LESS, Coordinate(Side.KEY, each), Constant(3)) for each in "iy")
    numbers = [Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.MINIMUM, Op.MAXIMUM, Op.FLOOR_DIVIDE, Op.FLOOR_MODULO]
    constants = [Constant(number) for number in (-1, 0, 1, 2)]
    found = [apply(op, x, c) for op in numbers for c in constants if c.value or "floor" not in op]
    found += [apply(op, c, x) for op in numbers for c in constants if "floor" not in op]
    parts = [apply(Op.NOT, a), apply(Op.EQUAL, a, b), apply(Op.AND, a, b), apply(Op.OR, a, b)]
    found += [apply(op, a, part) for op in (Op.AND, Op.OR) for part in parts]
    found += [apply(Op.NOT, part) for part in parts]
    for expression in found:
        np.testing.assert_array_equal(value(simplify(expression)), value(expression), str(expression))


JOINED = st.recursive(
    CONDITIONS, lambda part: st.builds(apply, LOGIC.map(lambda ops: ops[0]), part, part), max_leaves=4
)


@settings(max_examples=examples(20))
@given(st.lists(JOINED, max_size=3))
def test_what_is_simple_stays_so_and_may_be_remembered(expressions: list[Expression]) -> None:
    known: dict[Expression, Expression] = {}
    for each in (*expressions, *(apply(Op.NOT, apply(Op.NOT, each)) for each in expressions)):
        simpler = simplify(each)
        assert simplify(simpler) == simpler == simplify(each, known) == simplify(simpler, known)
