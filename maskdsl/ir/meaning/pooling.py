"""Reference semantics of pooled spaces on NumPy arrays, for `ir/meaning/evaluate.py`."""

import numpy as np

from maskdsl.ir.mask import PoolingKind, Sequence, Space
from maskdsl.ir.ops import Array


def all_tokens(sequence: Sequence, given: Array) -> Array:
    """[..., tokens of the sequence, dim], from the tokens of its given spaces [..., given length, dim]."""
    starts = np.cumsum([0, *(space.size for space in sequence.given)])
    roots = {
        space: given[..., start : start + space.size, :] for space, start in zip(sequence.given, starts, strict=False)
    }
    return np.concatenate([_tokens_of(space, roots[space.root]) for space in sequence.spaces], axis=-2)


def _tokens_of(space: Space, root: Array) -> Array:
    """[..., tokens of the space, dim], from the tokens of its root."""
    if space.pooling is None:
        return root
    source = space.pooling.source
    values = _tokens_of(source, root)
    grid = values.reshape(*values.shape[:-2], *source.lengths, values.shape[-1])
    sizes = np.ones(source.lengths)
    largest = space.pooling.kind is PoolingKind.MAX
    for axis, (length, box) in enumerate(zip(source.lengths, space.pooling.box, strict=True)):
        starts = np.arange(0, length, box)
        from_end = axis - len(source.axes) - 1
        reduce = np.maximum if largest else np.add
        grid = reduce.reduceat(grid, starts, axis=from_end)
        sizes = np.add.reduceat(sizes, starts, axis=axis)
    pooled = grid if largest else grid / sizes[..., None]
    return pooled.reshape(*values.shape[:-2], space.size, values.shape[-1])
