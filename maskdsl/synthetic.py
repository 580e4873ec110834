"""Plausible values for the inputs of a mask, where nobody gives any. NumPy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type

SEGMENTS = 6
"""About how many documents a sequence gets."""


def synthetic_inputs(mask: MaskIR, seed: int = 0, batch: int = 1) -> dict[str, NDArray[Any]]:
    """An array for every input.

    One integer a token numbers segments of random lengths, as documents have them; other integers are small, floats
    normal, booleans even.
    """
    random = np.random.default_rng(seed)
    return {each.name: synthetic_input(each, random, batch) for each in mask.inputs}


def synthetic_input(declared: Input, random: np.random.Generator, batch: int = 1) -> NDArray[Any]:
    shape = tuple(
        batch if dimension.kind is DimensionKind.BATCH else dimension.size or 1 for dimension in declared.dimensions
    )
    match declared.type:
        case Type.FLOAT:
            return random.normal(size=shape)
        case Type.BOOL:
            return random.random(shape) < 0.5
        case Type.INT if declared.is_coordinate:
            axis = [each.kind for each in declared.dimensions].index(DimensionKind.TOKENS)
            begins = random.random(shape) < SEGMENTS / shape[axis]
            return np.cumsum(begins, axis=axis, dtype=np.int64)
        case Type.INT:
            return random.integers(0, 4, shape)
