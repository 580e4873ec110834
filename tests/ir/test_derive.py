"""Derivatives against differences, on random expressions of every float operator; at kinks, against autograd."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskdsl.emit.torch.torch_printer import TorchPrinter
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Read, Score, Side, apply
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import OPERATORS, Op, Type
from maskdsl.ir.rewrites.derive import KINKS, Kink, derivative
from tests.support.drawn import examples

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


@settings(max_examples=examples(300))
@given(EXPRESSIONS, st.tuples(*[st.floats(-2, 2)] * 3))
def test_derivative_is_the_limit_of_differences(expression: Expression, point: tuple[float, ...]) -> None:
    for axis, leaf in enumerate((S, LEVEL, ENTRY)):
        ends = [tuple(x + sign * STEP * (at == axis) for at, x in enumerate(point)) for sign in (-1, 1)]
        low, middle, high = value(expression, *ends[0]), value(expression, *point), value(expression, *ends[1])
        left, right = (middle - low) / STEP, (high - middle) / STEP
        by_leaf = derivative(expression, leaf)
        before, at, after = (0.0 if by_leaf is None else value(by_leaf, *each) for each in (ends[0], point, ends[1]))
        kinks = (abs(left - right) / (1 + abs(left)), abs(before - at), abs(after - at))
        assume(max(kinks) < 1e-3 * (1 + abs(at)))  # a kink nearby, or at the point itself
        assert abs(at - (left + right) / 2) < 1e-3 * (1 + abs(at))


def test_what_does_not_depend_has_none() -> None:
    assert derivative(apply(Op.TANH, LEVEL), S) is None
    assert derivative(Constant(2.0), S) is None
    assert derivative(apply(Op.TO_FLOAT, Coordinate(Side.KEY, "i")), S) is None
    assert derivative(apply(Op.POWER, S, Constant(0.0)), S) is None


def test_a_bias_has_derivative_one() -> None:
    assert derivative(apply(Op.ADD, S, ENTRY), S) == Constant(1.0)
    assert derivative(apply(Op.ADD, S, ENTRY), ENTRY) == Constant(1.0)


def test_constants_are_folded() -> None:
    """A kernel would compute with them in float32."""
    assert derivative(apply(Op.DIVIDE, S, Constant(-1.5)), S) == Constant(1 / -1.5)
    scaled = apply(Op.MULTIPLY, Constant(0.1), apply(Op.MULTIPLY, Constant(0.3), S))
    assert derivative(scaled, S) == Constant(0.1 * 0.3)


# Kinks

SMOOTH = {Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.NEGATE, Op.EXPONENTIAL, Op.TANH, Op.SIGMOID}
FLOATS = [S, LEVEL, ENTRY]
Number = Tensor | float


def bounded(function: Callable[..., Tensor], bound: str) -> Callable[[Number, Number], Tensor]:
    """Of two tensors, or of a tensor and a number, which `clamp` takes."""

    def apply_to(x: Number, y: Number) -> Tensor:
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            return function(x, y)
        return torch.clamp(y, **{bound: x}) if isinstance(y, Tensor) else torch.clamp(x, **{bound: y})

    return apply_to


TORCH: dict[Op, Callable[..., Tensor]] = {
    Op.ABSOLUTE: torch.abs,
    Op.MINIMUM: bounded(torch.minimum, "max"),
    Op.MAXIMUM: bounded(torch.maximum, "min"),
    Op.SQUARE_ROOT: torch.sqrt,
    Op.LOGARITHM: torch.log,
    Op.DIVIDE: torch.div,
    Op.POWER: torch.pow,
    Op.SELECT: lambda condition, x, y: torch.where(torch.tensor(bool(condition)), x, y),
}


def operands(kink: Kink) -> list[Expression]:
    """Leaves, and constants where the table has none of a derivative."""
    pairs = zip(FLOATS, kink.operands, kink.derivatives, strict=False)
    parts: list[Expression] = [leaf if expected is not None else Constant(x) for leaf, x, expected in pairs]
    if kink.op is Op.SELECT:
        parts[0] = apply(Op.LESS, Constant(0.5), S)
    return parts


def derivatives(function: Callable[..., Tensor], kink: Kink, kind: torch.dtype) -> tuple[float | None, ...]:
    """By autograd."""
    numbers: list[Number] = [
        x if expected is None else torch.tensor(x, dtype=kind, requires_grad=True)
        for x, expected in zip(kink.operands, kink.derivatives, strict=True)
    ]
    function(*numbers).backward()
    return tuple(x.grad.item() if isinstance(x, Tensor) and x.grad is not None else None for x in numbers)


def test_the_table_has_every_operator_of_floats() -> None:
    assert {kink.op for kink in KINKS} == set(TORCH)
    floats = {op for op, each in OPERATORS.items() if Type.FLOAT in each.types and each.result is None}
    assert set(TORCH) | SMOOTH == floats


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kink", KINKS, ids=str)
def test_the_table_is_that_of_autograd(kink: Kink, kind: torch.dtype) -> None:
    assert derivatives(TORCH[kink.op], kink, kind) == kink.derivatives


@pytest.mark.parametrize("kink", KINKS, ids=str)
def test_derivatives_keep_to_the_table(kink: Kink) -> None:
    parts = operands(kink)
    padded = (*kink.operands, 0.0, 0.0)[:3]
    for leaf, expected in zip(FLOATS, kink.derivatives, strict=False):
        if expected is not None:
            found = derivative(apply(kink.op, *parts), leaf)
            with np.errstate(all="ignore"):
                assert (0.0 if found is None else value(found, *padded)) == expected


@pytest.mark.parametrize("kink", KINKS, ids=str)
def test_generated_torch_keeps_to_the_table(kink: Kink) -> None:
    """As score functions of the tiled and the reference backend have it."""
    names = {"level": "level", "table": "table"}
    printer = TorchPrinter(lambda _, name: names[name], names, {}, relation=False)
    printer.assign("result", apply(kink.op, *operands(kink)))
    code = compile("\n".join(printer.lines), "generated", "exec")

    def run(*numbers: Number) -> Tensor:
        s, level, table = (*map(torch.as_tensor, numbers), *[torch.tensor(0.0)] * 2)[:3]
        scope = {"torch": torch, "read": lambda table, *_: table, "s": s.double(), "level": level, "table": table}
        exec(code, scope)
        return scope["result"]

    assert derivatives(run, kink, torch.float64) == kink.derivatives


def test_a_number_that_was_an_integer_ties_as_a_float_does() -> None:
    """`min(s, q - k)` shares, `min(s, 2)` does not."""
    distance = apply(Op.TO_FLOAT, Coordinate(Side.KEY, "i"))
    for other, expected in ((distance, 0.5), (Constant(2.0), 1.0)):
        found = derivative(apply(Op.MINIMUM, S, other), S)
        assert found is not None
        assert evaluate(found, lambda _: np.asarray(2.0), {}) == expected
