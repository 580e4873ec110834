"""The plain meaning of a relation on NumPy arrays of pairs, which everything else is tested against."""

from collections.abc import Mapping
from typing import assert_never

import numpy as np

from maskdsl.ir.coordinates import Coordinates
from maskdsl.ir.expressions import Batch, Coordinate, Head, InSpace, Score, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.operators import Array, Leaf, evaluate


def allowed(
    mask: MaskIR, q: Array, k: Array, head: int = 0, batch: int = 0, inputs: Mapping[str, Array] | None = None
) -> Array:
    """bool: which pairs attend, for arrays of declared positions that broadcast."""
    given = inputs or {}
    query = Coordinates(mask, mask.queries, given, batch, head)
    key = Coordinates(mask, mask.keys, given, batch, head)

    def leaf(node: Leaf) -> Array:
        match node:
            case Coordinate(side=side, name=name):
                return query.values(name)[q] if side is Side.QUERY else key.values(name)[k]
            case InSpace(side=side, space=space):
                return query.member(space)[q] if side is Side.QUERY else key.member(space)[k]
            case Head():
                return np.asarray(head)
            case Batch():
                return np.asarray(batch)
            case Score():
                raise AssertionError("a relation reads no score")
            case _:
                assert_never(node)

    with np.errstate(all="ignore"):  # pairs that a guard excludes may divide by zero
        attended = evaluate(mask.relation, leaf, given)
    return np.broadcast_to(attended, np.broadcast_shapes(q.shape, k.shape))


def dense(mask: MaskIR, head: int = 0, batch: int = 0, inputs: Mapping[str, Array] | None = None) -> Array:
    """bool [queries, keys], in declared order."""
    queries, keys = np.arange(mask.queries.length)[:, None], np.arange(mask.keys.length)[None, :]
    return allowed(mask, queries, keys, head, batch, inputs)
