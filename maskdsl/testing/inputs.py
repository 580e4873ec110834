"""Arrays that fit a mask: its inputs, and queries, keys and values."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type

Array = NDArray[Any]

SEEDS = st.integers(0, 2**32 - 1)
EXTREMES = (-(2**31), 2**31 - 1)


@st.composite
def inputs_for(draw: st.DrawFn, mask: MaskIR, batch: int = 1, extremes: bool = True) -> dict[str, Array]:
    """An array for every input of the mask, by name.

    Integers are small and negative ones among them, sorted along the tokens or not; with `extremes` a few are the
    largest and smallest that 32 bits hold. Floats are float64.
    """
    arrays = {}
    for declared in mask.given:
        random = np.random.default_rng(draw(SEEDS))
        arrays[declared.name] = _array(declared, batch, random, draw(st.booleans()))
        if extremes and declared.type is Type.INT and draw(st.integers(0, 4)) == 0:
            places = random.random(arrays[declared.name].shape) < 0.1
            arrays[declared.name][places] = random.choice(EXTREMES)
    return arrays


def _array(declared: Input, batch: int, random: np.random.Generator, in_order: bool) -> Array:
    kinds = [each.kind for each in declared.dimensions]
    shape = tuple(batch if each.kind is DimensionKind.BATCH else each.size or 4 for each in declared.dimensions)
    match declared.type:
        case Type.BOOL:
            return random.random(shape) < 0.6
        case Type.FLOAT:
            return random.normal(size=shape).clip(-3, 3)
        case Type.INT:
            values = random.integers(-3, 7, shape)
            return (
                np.sort(values, axis=kinds.index(DimensionKind.TOKENS))
                if in_order and declared.is_coordinate
                else values
            )


@st.composite
def tensors_for(
    draw: st.DrawFn, mask: MaskIR, batch: int = 1, dim: int = 4, key_heads: int | None = None
) -> tuple[Array, Array, Array]:
    """Float64 arrays q, k and v for an attention over the mask, [batch, heads, tokens, dim]."""
    random = np.random.default_rng(draw(SEEDS))
    lengths = mask.queries.length, mask.keys.given_length, mask.keys.given_length
    heads = mask.heads, key_heads or mask.heads, key_heads or mask.heads
    q, k, v = (random.normal(size=(batch, h, length, dim)) for h, length in zip(heads, lengths, strict=True))
    return q, k, v
