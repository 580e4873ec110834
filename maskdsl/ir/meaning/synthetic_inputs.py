"""Synthetic values for the inputs of a mask, where the user gives none. NumPy only."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.given_lists import hold
from maskdsl.ir.ops import Type
from maskdsl.ir.values.entries import HEAD

_FREE_LENGTH = 8
_SEGMENTS = 6
"""Expected number of documents in a sequence."""
_DEGREE = 4
"""Entries of a row of a sparse input, about."""


def synthetic_inputs(
    mask: MaskIR,
    seed: int = 0,
    batch: int = 1,
    dim: int = 64,
    most: int | None = None,
    lists: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Random arrays for all inputs that callers give, without those of more than `most` values.

    An integer per token numbers segments of random lengths, like documents, or pools, and a boolean per token is true
    in every second one. An integer per batch entry is a length, of at least half of the keys. Other integers are in
    [0, 4), floats are standard normal, booleans true with probability one half. Sparse inputs are tensors with about
    four entries a row; numbers of entries are as many as those of `lists`, where these have the tensor of the sparse
    input.
    """
    random = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for each in mask.given:
        sparse = mask.input(each.lists) if each.lists is not None else each
        assert sparse is not None
        known = {**made, **(lists or {})}.get(sparse.name)
        entries = entries_of(sparse, known)
        if most is None or prod(shape_of(each, batch, dim, entries)) <= most:
            made[each.name] = _synthetic_input(each, random, shape_of(each, batch, dim, entries), mask.keys.length)
    return {name: x % mask.pool_counts[name] if name in mask.pool_counts else x for name, x in made.items()}


def entries_of(sparse: Input, held: NDArray[Any] | None = None) -> int:
    """The entries for which the tensor of a sparse input has room, or a made-up one would have; 0 of other inputs."""
    if not sparse.sparse:
        return 0
    rows, columns = (each.size or 1 for each in sparse.dimensions[-2:])
    return rows * min(_DEGREE, columns) if held is None else held.shape[-1] - rows - HEAD - 1


def shape_of(declared: Input, batch: int = 1, dim: int = 64, entries: int = 0) -> tuple[int, ...]:
    """The shape of an input, with these sizes for the dimensions that the call decides.

    `entries` are those of the sparse input that it is, or has numbers for.
    """
    rows = declared.dimensions[-2].size or 1 if declared.sparse else 0
    sizes = {
        DimensionKind.BATCH: batch,
        DimensionKind.DIM: dim,
        DimensionKind.FREE: rows + HEAD + 1 + entries if declared.sparse else _FREE_LENGTH,
        DimensionKind.ENTRIES: entries,
    }
    return tuple(sizes.get(each.kind, each.given_size or 1) for each in declared.held)


def made_up_list(declared: Input, random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """The tensor of a sparse input of this shape, with random columns in each row."""
    rows, columns = (each.size or 1 for each in declared.dimensions[-2:])
    most = shape[-1] - rows - HEAD - 1
    starts = np.broadcast_to(np.arange(rows + 1) * (most // rows), (*shape[:-1], rows + 1))
    drawn = np.sort(random.integers(0, columns, (*shape[:-1], rows, most // rows)), axis=-1)
    drawn[..., 1:][drawn[..., 1:] == drawn[..., :-1]] = -1  # once each
    return hold(declared, (starts, drawn.reshape(*shape[:-1], -1))).tensor


def _synthetic_input(
    declared: Input, random: np.random.Generator, shape: tuple[int, ...], longest: int
) -> NDArray[Any]:
    if declared.sparse:
        return made_up_list(declared, random, shape)
    match declared.type:
        case Type.FLOAT:
            return random.normal(size=shape)
        case Type.BOOL if declared.is_coordinate:
            return np.asarray(_segments(declared, random, shape) % 2 == 1)
        case Type.BOOL:
            return random.random(shape) < 0.5
        case Type.INT if declared.is_coordinate:
            return _segments(declared, random, shape)
        case Type.INT if declared.kinds == (DimensionKind.BATCH,):
            return random.integers((longest + 1) // 2, longest + 1, shape)
        case Type.INT:
            return random.integers(0, 4, shape)


def _segments(declared: Input, random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """The number of each token's segment, from 0."""
    axis = [each.kind for each in declared.dimensions].index(DimensionKind.TOKENS)
    begins = random.random(shape) < _SEGMENTS / shape[axis]
    numbers = np.cumsum(begins, axis=axis, dtype=np.int64)
    return np.asarray(numbers - numbers.take([0], axis=axis))
