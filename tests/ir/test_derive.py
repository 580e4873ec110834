"""Derivatives against differences, on random expressions of every float operator."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maskdsl.ir.derive import derivative
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Read, Score, Side, apply
from maskdsl.ir.operators import evaluate
from maskdsl.ir.ops import Op, Type

S = Score()
LEVEL = Coordinate(Side.KEY, "level", Type.FLOAT)
ENTRY = Read("table", (Constant(3),), Type.FLOAT)
STEP = 1e-6

EXPONENTS = st.sampled_from([0.0, 1.0, 2.0, -1.5])
LEAVES = st.sampled_from([S, S, LEVEL, ENTRY]) | st.floats(-2, 2).map(lambda x: Constant(float(x)))
UNARY = [Op.NEGATE, Op.ABSOLUTE, Op.TANH, Op.SIGMOID]
BINARY = [Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.MINIMUM, Op.MAXIMUM]


def positive(x: Expression) -> Expression:
    return apply(Op.ADD, apply(Op.ABSOLUTE, x), Constant(0.7))


def grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(lambda op, x: apply(op, x), st.sampled_from(UNARY), inner),
        st.builds(lambda op, x, y: apply(op, x, y), st.sampled_from(BINARY), inner, inner),
        st.builds(lambda x, y: apply(Op.DIVIDE, x, positive(y)), inner, inner),
        st.builds(lambda op, x: apply(op, positive(x)), st.sampled_from([Op.SQUARE_ROOT, Op.LOGARITHM]), inner),
        st.builds(lambda x: apply(Op.EXPONENTIAL, apply(Op.TANH, x)), inner),
        st.builds(lambda x, n: apply(Op.POWER, positive(x), Constant(n)), inner, EXPONENTS),
        st.builds(lambda x, y, z: apply(Op.SELECT, apply(Op.LESS, x, Constant(0.1)), y, z), inner, inner, inner),
    )


EXPRESSIONS = st.recursive(LEAVES, grow, max_leaves=8)


def value(expression: Expression, s: float, level: float, entry: float) -> float:
    leaves = {S: s, LEVEL: level}
    table = np.zeros(5)
    table[3] = entry
    return float(evaluate(expression, lambda leaf: np.asarray(leaves[leaf]), {"table": table}))


@settings(max_examples=300)
@given(EXPRESSIONS, st.tuples(*[st.floats(-2, 2)] * 3))
def test_derivative_is_the_limit_of_differences(expression: Expression, point: tuple[float, ...]) -> None:
    for axis, leaf in enumerate((S, LEVEL, ENTRY)):
        ends = [tuple(x + sign * STEP * (at == axis) for at, x in enumerate(point)) for sign in (-1, 1)]
        low, middle, high = value(expression, *ends[0]), value(expression, *point), value(expression, *ends[1])
        left, right = (middle - low) / STEP, (high - middle) / STEP
        assume(abs(left - right) < 1e-3 * (1 + abs(left)))  # no kink here
        slope = derivative(expression, leaf)
        found = 0.0 if slope is None else value(slope, *point)
        assert abs(found - (left + right) / 2) < 1e-3 * (1 + abs(found))


def test_what_does_not_depend_has_none() -> None:
    assert derivative(apply(Op.TANH, LEVEL), S) is None
    assert derivative(Constant(2.0), S) is None
    assert derivative(apply(Op.TO_FLOAT, Coordinate(Side.KEY, "i")), S) is None
    assert derivative(apply(Op.POWER, S, Constant(0.0)), S) is None


def test_a_bias_has_the_slope_one() -> None:
    assert derivative(apply(Op.ADD, S, ENTRY), S) == Constant(1.0)
    assert derivative(apply(Op.ADD, S, ENTRY), ENTRY) == Constant(1.0)


def test_constants_are_folded() -> None:
    """A kernel would compute with them in float32."""
    assert derivative(apply(Op.DIVIDE, S, Constant(-1.5)), S) == Constant(1 / -1.5)
    scaled = apply(Op.MULTIPLY, Constant(0.1), apply(Op.MULTIPLY, Constant(0.3), S))
    assert derivative(scaled, S) == Constant(0.1 * 0.3)
