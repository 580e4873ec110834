"""What operators and expressions do to NumPy arrays: exact 64-bit integers, Python's floor semantics, 64-bit floats."""

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from maskdsl.ir.expressions import Apply, Batch, Constant, Coordinate, Expression, Head, InSpace, Read, Score, folded
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.random import random_integers

Array = NDArray[Any]
Leaf = Coordinate | InSpace | Head | Batch | Score

DTYPES: dict[Type, type[np.generic]] = {Type.INT: np.int64, Type.FLOAT: np.float64, Type.BOOL: np.bool_}

POWERS_OF_TWO = 1 << np.arange(63, dtype=np.int64)


def constant_array(constant: Constant) -> Array:
    return np.asarray(constant.value, dtype=DTYPES[constant.type])


def apply_operator(op: Op, *operands: Array) -> Array:
    """Elementwise, on operands that broadcast. A zero divisor gives zero; NumPy may warn, callers know why not."""
    return np.asarray(FUNCTIONS[op](*operands))


def evaluate(expression: Expression, leaf: Callable[[Leaf], Array], inputs: Mapping[str, Array]) -> Array:
    """Elementwise on the arrays that `leaf` gives."""

    def value(node: Expression, parts: tuple[Array, ...]) -> Array:
        match node:
            case Constant():
                return constant_array(node)
            case Apply(op=op):
                return apply_operator(op, *parts)
            case Read(input=name, type=kind):
                return read(inputs[name], parts, kind, node.open)
            case Coordinate() | InSpace() | Head() | Batch() | Score():
                return leaf(node)
            case _:
                assert_never(node)

    return folded(expression, value)


def read(table: Array, indices: Iterable[Array], kind: Type, is_open: bool) -> Array:
    """Elements of a table. An index out of bounds is moved to the border; the element is NaN if the read is open."""
    places = list(zip(indices, table.shape, strict=True))
    inside = tuple(np.clip(place, 0, length - 1) for place, length in places)
    values = np.asarray(table[inside], dtype=DTYPES[kind])
    if not is_open:
        return values
    outside = reduce(np.logical_or, ((place < 0) | (place >= length) for place, length in places))
    return np.where(outside, np.nan, values)


def integer_log2(x: Array) -> Array:
    """The floor of the logarithm, exactly; -1 for x < 1."""
    return np.asarray(np.searchsorted(POWERS_OF_TWO, x, side="right") - 1)


def is_power_of_two(x: Array) -> Array:
    return np.asarray((x > 0) & (x & (x - 1) == 0))


def sigmoid(x: Array) -> Array:
    """Without overflow on either side."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


FUNCTIONS: dict[Op, Callable[..., Any]] = {
    Op.ADD: np.add,
    Op.SUBTRACT: np.subtract,
    Op.MULTIPLY: np.multiply,
    Op.DIVIDE: np.divide,
    Op.FLOOR_DIVIDE: np.floor_divide,
    Op.FLOOR_MODULO: np.mod,
    Op.NEGATE: np.negative,
    Op.POWER: np.power,
    Op.ABSOLUTE: np.abs,
    Op.MINIMUM: np.minimum,
    Op.MAXIMUM: np.maximum,
    Op.EQUAL: np.equal,
    Op.NOT_EQUAL: np.not_equal,
    Op.LESS: np.less,
    Op.LESS_EQUAL: np.less_equal,
    Op.NOT: np.logical_not,
    Op.AND: lambda *parts: reduce(np.logical_and, parts),
    Op.OR: lambda *parts: reduce(np.logical_or, parts),
    Op.SELECT: np.where,
    Op.INTEGER_LOG2: integer_log2,
    Op.IS_POWER_OF_TWO: is_power_of_two,
    Op.SHARE_BIT: lambda a, b: a & b != 0,
    Op.RANDOM: random_integers,
    Op.TO_FLOAT: lambda x: np.asarray(x, dtype=np.float64),
    Op.SQUARE_ROOT: np.sqrt,
    Op.EXPONENTIAL: np.exp,
    Op.LOGARITHM: np.log,
    Op.TANH: np.tanh,
    Op.SIGMOID: sigmoid,
}
