"""What operators and expressions do to NumPy arrays: exact 64-bit integers, Python's floor semantics, 64-bit floats."""

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import assert_never

import numpy as np

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
    folded,
)
from maskdsl.ir.ops import OPERATORS, Array, Op, Type

DTYPES: dict[Type, type[np.generic]] = {Type.INT: np.int64, Type.FLOAT: np.float64, Type.BOOL: np.bool_}


def constant_array(constant: Constant) -> Array:
    return np.asarray(constant.value, dtype=DTYPES[constant.type])


def apply_operator(op: Op, *operands: Array) -> Array:
    """Elementwise, on operands that broadcast. A zero divisor gives zero; NumPy may warn, callers know why not."""
    return np.asarray(OPERATORS[op].meaning(*operands))


def evaluate(expression: Expression, leaf: Callable[[Leaf], Array], inputs: Mapping[str, Array]) -> Array:
    """Elementwise on the arrays that `leaf` gives."""

    def value(node: Expression, parts: tuple[Array, ...]) -> Array:
        match node:
            case Constant():
                return constant_array(node)
            case Apply(op=op):
                return apply_operator(op, *parts)
            case Read(input=name, type=kind):
                return _read(inputs[name], parts, kind, node.open)
            case Coordinate() | InSpace() | Head() | Batch() | Score():
                return leaf(node)
            case _:
                assert_never(node)

    return folded(expression, value)


def _read(table: Array, indices: Iterable[Array], kind: Type, is_open: bool) -> Array:
    """Elements of a table. An index out of bounds is moved to the border; the element is NaN if the read is open."""
    positions = list(zip(indices, table.shape, strict=True))
    inside = tuple(np.clip(position, 0, length - 1) for position, length in positions)
    values = np.asarray(table[inside], dtype=DTYPES[kind])
    if not is_open:
        return values
    outside = reduce(np.logical_or, ((position < 0) | (position >= length) for position, length in positions))
    return np.where(outside, np.nan, values)
