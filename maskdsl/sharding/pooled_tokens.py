"""Pools whose given tokens several processes hold: each process computes those of its blocks."""

from collections.abc import Mapping
from functools import cache, cached_property
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.emit.torch.pooling_function import pooling_helpers
from maskdsl.ir.declared.sequences import Space
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.trace import pooling_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import batch_entries
from maskdsl.ir.meaning.pooling import PoolMeaning
from maskdsl.runtime.base.module_cache import load_module


class PooledTokens:
    """Tokens of one side of a mask, pools among them, from the given tokens that these are made of."""

    def __init__(self, mask: MaskIR, side: Side, inputs: Mapping[str, Array], given: Array, tokens: Array) -> None:
        """`given` are the declared positions of given tokens, sorted, and `tokens` those of the wanted ones."""
        self.mask, self.side, self.inputs, self.given, self.tokens = mask, side, inputs, given, tokens

    def of(self, x: Tensor) -> Tensor:
        """The wanted tokens [tokens, batch, heads, dim], from the given ones. Pools are rounded once, to x's type."""
        sequence = self.mask.sequences[self.side]
        x = x.movedim(0, 2)
        starts = dict(zip(sequence.given, np.cumsum([0, *(each.size for each in sequence.given)]), strict=False))
        pieces, rows = [], []
        for space, offset in zip(sequence.spaces, sequence.offsets, strict=True):
            (at,) = np.nonzero((self.tokens >= offset) & (self.tokens < offset + space.size))
            first, last = np.searchsorted(self.given, [starts[space.root], starts[space.root] + space.root.size])
            held = self.given[first:last] - starts[space.root]
            pieces.append(self._pools(space, self.tokens[at] - offset, x[:, :, first:last], held).to(x.dtype))
            rows.append(at)
        back = torch.tensor(np.argsort(np.concatenate(rows)), device=x.device)
        return torch.cat(pieces, dim=2).movedim(2, 0)[back]

    def _pools(self, space: Space, wanted: Array, x: Tensor, held: Array) -> Tensor:
        """The `wanted` tokens of a space, from those of its root that are `held`."""
        needed = [wanted]
        for each in reversed(space.chain[1:]):
            some = np.append(np.isin(np.arange(each.size), needed[0]), False)
            needed.insert(0, np.flatnonzero(some[self._numbers[each.name]].any(axis=0)))
        x = x[:, :, torch.tensor(np.searchsorted(held, needed[0]), device=x.device)]
        count = torch.ones(1, 1, x.shape[2], 1, dtype=torch.int64, device=x.device)
        for each, source, pools in zip(space.chain[1:], needed, needed[1:], strict=False):
            assert each.pooling is not None
            order = np.argsort(pools)
            here = np.full(each.size + 1, len(pools))
            here[pools[order]] = order
            numbers = torch.tensor(here[self._numbers[each.name][:, source]], device=x.device)[:, None]
            module, weighted = _helpers(), each.pooling.source.pooling is not None
            groups = module.GroupPools(numbers, len(pools))
            x, count = module.pooled(x, count, groups, str(each.pooling.kind), weighted)
        return x

    @cached_property
    def _numbers(self) -> dict[str, Array]:
        """For each pooled space, int64 [batch entries that differ, tokens of its source]: the pool of each token."""
        read = pooling_trace(self.mask.groupings)
        entries = batch_entries(self.mask, {name: self.inputs[name] for name in read.inputs & self.inputs.keys()})
        meanings = [PoolMeaning(self.mask, self.inputs, entry) for entry in range(entries)]
        return {
            space.name: np.stack([each.numbers(space) for each in meanings if each.batch == 0 or space.groupings])
            for space in self.mask.pooled_spaces
        }


@cache
def _helpers() -> ModuleType:
    """`GroupPools` and `pooled` of `codegen/pooling.py`."""
    helpers = ["\n".join(lines) for lines in pooling_helpers("GroupPools", "pooled", "pool_numbers")]
    return load_module("\n\n\n".join(["import torch", *helpers]) + "\n", "pools")
