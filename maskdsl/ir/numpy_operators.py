"""Evaluates operators and expressions on NumPy arrays: exact 64-bit integers, Python's floor semantics, float64."""

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
from maskdsl.ir.values.entries import entry_numbers

DTYPES: dict[Type, type[np.generic]] = {Type.INT: np.int64, Type.FLOAT: np.float64, Type.BOOL: np.bool_}


def constant_array(constant: Constant) -> Array:
    """The constant as a zero-dimensional array of its type."""
    return np.asarray(constant.value, dtype=DTYPES[constant.type])


def apply_operator(op: Op, *operands: Array) -> Array:
    """Applies an operator elementwise; operands broadcast. Callers silence NumPy's warnings, as of zero divisors."""
    return np.asarray(OPERATORS[op].meaning(*operands))


def evaluate(expression: Expression, leaf: Callable[[Leaf], Array], inputs: Mapping[str, Array]) -> Array:
    """Evaluates an expression elementwise; `leaf` gives the arrays of leaves, `inputs` those of tables."""

    def value(node: Expression, operands: tuple[Array, ...]) -> Array:
        match node:
            case Constant():
                return constant_array(node)
            case Apply(op=op):
                return apply_operator(op, *operands)
            case Read(input=name, sparse=True):
                return entry_numbers(inputs[name], *operands)
            case Read(input=name, type=kind):
                return _read(inputs[name], operands, kind, node.open)
            case Coordinate() | InSpace() | Head() | Batch() | Score():
                return leaf(node)
            case _:
                assert_never(node)

    return folded(expression, value)


def _read(table: Array, indices: Iterable[Array], kind: Type, is_open: bool) -> Array:
    """Elements of a table. An index out of bounds is clamped; the element is NaN there if the read is open."""
    bounded = list(zip(indices, table.shape, strict=True))
    inside = tuple(np.clip(index, 0, length - 1) for index, length in bounded)
    values = np.asarray(table[inside], dtype=DTYPES[kind])
    if not is_open:
        return values
    outside = reduce(np.logical_or, ((index < 0) | (index >= length) for index, length in bounded))
    return np.where(outside, np.nan, values)
