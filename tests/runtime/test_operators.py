"""Every operator, as both torch backends compute it, against its NumPy meaning: in a score and in a relation.

Each token attends itself alone and its score is what the operator gives, so that the log-sum-exp is that value; a
relation lets only those attend for whom the operator gives what NumPy gave before.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from maskdsl.ir.expressions import Apply, Constant, Expression
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import OPERATORS, ROUNDINGS, Op, Type
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.compile import compile_mask
from tests.support.masks import apply, both, c, declared, given, k, mask, q, tokens

LENGTH = 40
CONSTANTS = {Type.INT: (3, -7, 11), Type.FLOAT: (-0.7, 0.5, 2.5)}
AWKWARD = (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -0.49999999999999994, 0.49999999999999994, -1e-20, 2.0**52 + 1)
AWKWARD += (
    1e300,
    -1e300,
    np.inf,
    -np.inf,
    np.nan,
    2.0**63,
    -(2.0**63),
    2.0**63 - 1024,
    -(2.0**62) - 512,
    4503599627370497.5,
)
"""What is rounded."""
INT, FLOAT, BOOL = Type.INT, Type.FLOAT, Type.BOOL


def applications() -> Iterator[tuple[Op, tuple[Type | int | float | bool, ...]]]:
    """Operators with the types of their operands; operands that are constants with their values."""
    for op, each in OPERATORS.items():
        for kind in each.types if op is not Op.POWER else ():
            yield op, (BOOL, kind, kind) if op is Op.SELECT else (kind,) * each.count
            if each.count == 2:
                yield from ((op, (kind, number)) for number in CONSTANTS.get(kind, ()))
                yield from ((op, (number, kind)) for number in CONSTANTS.get(kind, ()))
            if each.variadic:
                yield op, (kind,) * 3
    yield from ((Op.POWER, (INT, exponent)) for exponent in (0, 1, 2, 5))
    yield from ((Op.POWER, (FLOAT, exponent)) for exponent in (0.0, 2.0, 3.0, -1.0))
    yield from ((Op.SELECT, (BOOL, *parts)) for parts in ((3, -4), (0.1, 2.5)))
    yield from ((Op.RANDOM, parts) for parts in ((7, INT), (-(2**40) - 1, INT, 2**33 + 5)))


def draw(kind: Type, random: np.random.Generator, op: Op) -> np.ndarray:
    if kind is BOOL:
        return random.random(LENGTH) < 0.5
    if kind is FLOAT:
        values = random.normal(size=LENGTH).round(1) * 4
        if op in ROUNDINGS:
            values[: len(AWKWARD)] = AWKWARD
        return np.abs(values) + 0.1 if op in (Op.SQUARE_ROOT, Op.LOGARITHM, Op.DIVIDE, Op.POWER) else values
    values = random.integers(-9, 10, LENGTH)
    if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO):
        return np.where(values == 0, -10, values)
    if op in (Op.INTEGER_LOG2, Op.IS_POWER_OF_TWO, Op.RANDOM, Op.ADD, Op.MULTIPLY):
        extreme = np.array([0, 1, 2, 3, 4, 1 << 30, (1 << 31) - 1, -(1 << 31), (1 << 30) - 1])
        values[: len(extreme)] = extreme
    return values


def as_float(value: Expression) -> Expression:
    match value.type:
        case Type.INT:
            return apply(Op.TO_FLOAT, value)
        case Type.BOOL:
            return apply(Op.SELECT, value, c(1.0), c(0.0))
        case Type.FLOAT:
            return value


def test_no_operator_is_forgotten() -> None:
    assert {op for op, _ in applications()} == set(Op)


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize(
    ("op", "operands"), list(applications()), ids=[f"{op}-{'-'.join(map(str, parts))}" for op, parts in applications()]
)
def test_operator(op: Op, operands: tuple[Type | int | float | bool, ...], backend: str) -> None:
    random = np.random.default_rng(len(operands))
    arrays: dict[str, np.ndarray] = {}
    parts: list[Expression] = []
    for number, operand in enumerate(operands):
        if isinstance(operand, Type):
            name = f"{operand}_{number}"
            arrays[name] = draw(operand, random, op)
            parts.append((q if number % 2 == 0 else k)(name, operand))
        else:
            parts.append(Constant(operand))
    value = Apply(op, tuple(parts))
    numbers = [arrays[part.name] if not isinstance(part, Constant) else np.asarray(part.value) for part in parts]
    expected = np.asarray(apply_operator(op, *numbers), dtype=np.float64)
    arrays["expected"] = expected

    kinds = {name: FLOAT if name == "expected" else Type(name.split("_")[0]) for name in arrays}
    same = apply(Op.EQUAL, q(), k())
    difference = apply(Op.ABSOLUTE, apply(Op.SUBTRACT, as_float(value), k("expected", FLOAT)))
    agrees = apply(Op.LESS_EQUAL, difference, c(1e-12 * float(np.abs(expected).max()) if value.type is FLOAT else 0.0))
    pattern = mask(
        both(same, agrees),
        tokens(LENGTH, *(given(name, kind) for name, kind in kinds.items())),
        inputs=[declared(name, kind, tokens=LENGTH) for name, kind in kinds.items()],
        scores=(as_float(value),),
    )
    zeros = torch.zeros(1, 1, LENGTH, 16, dtype=torch.float64)
    given_tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    _, lse = compile_mask(pattern, backend)(zeros, zeros, zeros, return_lse=True, **given_tensors)
    torch.testing.assert_close(lse[0, 0], torch.as_tensor(expected), rtol=1e-12, atol=1e-12)
