"""Reference semantics of pooled spaces on NumPy arrays, for `ir/meaning/evaluate.py`."""

from collections.abc import Mapping
from typing import assert_never

import numpy as np

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.pools import PoolNumber
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import PoolBoxes, PoolGroups, PoolingKind, Sequence, Space
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Array
from maskdsl.ir.routes import PoolFact


@dataclass(frozen=True, eq=False)
class PoolMeaning:
    """The pooled spaces of a mask in one batch entry. `inputs` are arrays as given at the call."""

    mask: MaskIR
    inputs: Mapping[str, Array]
    batch: int = 0

    def all_tokens(self, sequence: Sequence, given: Array) -> Array:
        """[..., tokens of the sequence, dim], from the tokens of its given spaces [..., given length, dim]."""
        starts = np.cumsum([0, *(space.size for space in sequence.given)])
        roots = {
            space: given[..., start : start + space.size, :]
            for space, start in zip(sequence.given, starts, strict=False)
        }
        return np.concatenate([self.tokens_of(space, roots[space.root]) for space in sequence.spaces], axis=-2)

    def tokens_of(self, space: Space, root: Array) -> Array:
        """[..., tokens of the space, dim], from the tokens of its root; zeros for pools without tokens."""
        if space.pooling is None:
            return root
        source = space.pooling.source
        values, count = np.moveaxis(self.tokens_of(source, root), -2, 0), self.facts(source)[PoolFact.COUNT]
        pools = np.where(count > 0, self.numbers(space), space.size)
        weights = count.reshape(-1, *[1] * (values.ndim - 1))
        least = {PoolingKind.MEAN: 0, PoolingKind.MAX: -np.inf, PoolingKind.MIN: np.inf}[space.pooling.kind]
        result = np.full((space.size + 1, *values.shape[1:]), least, dtype=np.float64)
        match space.pooling.kind:
            case PoolingKind.MEAN:
                np.add.at(result, pools, values * weights)
            case PoolingKind.MAX:
                np.maximum.at(result, pools, values)
            case PoolingKind.MIN:
                np.minimum.at(result, pools, values)
        total = self.facts(space)[PoolFact.COUNT].reshape(-1, *weights.shape[1:])
        divisor = np.maximum(total, 1) if space.pooling.kind is PoolingKind.MEAN else 1
        return np.moveaxis(np.where(total > 0, result[:-1], 0) / divisor, 0, -2)

    def facts(self, space: Space) -> dict[PoolFact, Array]:
        """The first, the last and the number of the given tokens in each token of a space, int64 [tokens]."""
        if space.pooling is None:
            positions = np.arange(space.size)
            return {PoolFact.FIRST: positions, PoolFact.LAST: positions, PoolFact.COUNT: np.ones_like(positions)}
        tokens = self.facts(space.pooling.source)
        pools = np.where(tokens[PoolFact.COUNT] > 0, self.numbers(space), space.size)
        first = np.full(space.size + 1, space.root.size)
        last, count = np.full(space.size + 1, -1), np.zeros(space.size + 1, dtype=np.int64)
        np.minimum.at(first, pools, tokens[PoolFact.FIRST])
        np.maximum.at(last, pools, tokens[PoolFact.LAST])
        np.add.at(count, pools, tokens[PoolFact.COUNT])
        first, last, count = first[:-1], last[:-1], count[:-1]
        return {PoolFact.FIRST: np.where(count > 0, first, 0), PoolFact.LAST: last, PoolFact.COUNT: count}

    def numbers(self, space: Space) -> Array:
        """int64 [tokens of the source]: the pool of each token, the number of pools where it is in none.

        Raises `PoolNumber` for a number that is too large.
        """
        assert space.pooling is not None
        source = space.pooling.source
        match space.pooling.pools:
            case PoolBoxes(sides=sides):
                cells = np.indices(source.lengths).reshape(len(sides), -1) // np.array(sides)[:, None]
                return np.asarray(np.ravel_multi_index(tuple(cells), space.lengths))
            case PoolGroups(by=by, tokens=tokens):
                values = Coordinates(self.mask, tokens, self.inputs, self.batch).values(by)
                if values.max() >= space.size:
                    raise AttnError(pool_number(space, by, int(values.max())))
                return np.where(values < 0, space.size, values)
            case other:
                assert_never(other)


def all_tokens(mask: MaskIR, side: Side, given: Array, inputs: Mapping[str, Array]) -> Array:
    """float64 [batch, heads, tokens, dim]: all tokens of one side, from those that a call gives."""
    given = given.astype(np.float64)
    sequence = mask.sequences[side]
    if not sequence.is_pooled:
        return given
    return np.stack([PoolMeaning(mask, inputs, entry).all_tokens(sequence, x) for entry, x in enumerate(given)])


def pool_number(space: Space, by: str, value: int) -> PoolNumber:
    """The error of a token whose number is that of no pool."""
    return PoolNumber(span=space.span, name=by, value=value, space=space.name, last=space.size - 1)
