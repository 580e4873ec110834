"""Synthetic values for the inputs of a mask, where the user gives none. NumPy only."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type

_FREE_LENGTH = 8
_SEGMENTS = 6
"""Expected number of documents in a sequence."""


def synthetic_inputs(
    mask: MaskIR, seed: int = 0, batch: int = 1, dim: int = 64, most: int | None = None
) -> dict[str, NDArray[Any]]:
    """Random arrays for all inputs that callers give, without those of more than `most` values.

    An integer per token numbers segments of random lengths, like documents. Other integers are in [0, 4), floats are
    standard normal, booleans true with probability one half.
    """
    random = np.random.default_rng(seed)
    declared = (each for each in mask.given if most is None or prod(shape_of(each, batch, dim)) <= most)
    return {each.name: _synthetic_input(each, random, batch, dim) for each in declared}


def shape_of(declared: Input, batch: int = 1, dim: int = 64) -> tuple[int, ...]:
    """The shape of an input, with these sizes for the dimensions that the call decides."""
    sizes = {DimensionKind.BATCH: batch, DimensionKind.DIM: dim, DimensionKind.FREE: _FREE_LENGTH}
    return tuple(sizes.get(each.kind, each.size or 1) for each in declared.dimensions)


def _synthetic_input(declared: Input, random: np.random.Generator, batch: int = 1, dim: int = 64) -> NDArray[Any]:
    shape = shape_of(declared, batch, dim)
    match declared.type:
        case Type.FLOAT:
            return random.normal(size=shape)
        case Type.BOOL:
            return random.random(shape) < 0.5
        case Type.INT if declared.is_coordinate:
            axis = [each.kind for each in declared.dimensions].index(DimensionKind.TOKENS)
            begins = random.random(shape) < _SEGMENTS / shape[axis]
            numbers = np.cumsum(begins, axis=axis, dtype=np.int64)
            return np.asarray(numbers - numbers.take([0], axis=axis))
        case Type.INT:
            return random.integers(0, 4, shape)
