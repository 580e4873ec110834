"""`SharedCache`: keys and values of a long sequence, of which each rank holds some, and decoding over all of them.

To a rank its cache is paged: stretches of the sequence that it holds are pages, and those of other ranks are absent.
So steps cost what partial calls over pages cost. Results are merged in the order of ranks, on every rank alike.
"""

from collections.abc import Sequence
from functools import cached_property
from math import gcd

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.runtime.calls.summand import CallOptions, Summand, sum_of
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode.paging import CallPositions
from maskdsl.sharding.moved_rows import gathered
from maskdsl.sharding.sharded_call import merged_results


def reads_all_keys(mask: MaskIR) -> str | None:
    """What of a mask reads keys of all ranks in every step; None if it can be decoded over a cache that they share."""
    if mask.keys.is_pooled:
        return "a step pools keys of several processes"
    if mask.routed or any(each.sparse for each in mask.inputs):
        return "a step selects among keys of several processes"
    if mask.multiplies:
        return "a step multiplies vectors of keys of several processes"
    if mask.normalize is Normalize.BY_KEY:
        return "it takes one softmax for each key, over queries of all steps"
    return None


class SharedCache:
    """The cache of a sequence of so many keys; this rank holds those at declared `positions`, int64, in this order."""

    def __init__(self, positions: Array, length: int, group: dist.ProcessGroup) -> None:
        self.positions, self.length, self.group = positions, length, group
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        self._summands: dict[str, Summand] = {}

    def store(self, x: Tensor, cache: Tensor, starts: Tensor, dim: int) -> None:
        """Writes those tokens of x that this rank holds: of each batch entry, from its start on, integers [batch]."""
        at = starts.cpu().long()[:, None] + torch.arange(x.shape[dim])
        rows = torch.from_numpy(self._row_of)[at]
        entries, tokens = (rows >= 0).nonzero(as_tuple=True)
        index = [each.to(cache.device) for each in (entries, rows[entries, tokens], tokens)]
        cache.movedim(dim, 1)[index[0], index[1]] = x.movedim(dim, 1)[index[0], index[2]].to(cache.dtype)

    @cached_property
    def _row_of(self) -> Array:
        """int64 [keys]: the row of the cache that holds each key, or -1."""
        rows = np.full(self.length, -1)
        rows[self.positions] = np.arange(len(self.positions))
        return rows

    def attended(
        self,
        summands: Sequence[tuple[Bound, list[Tensor]]],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        starts: Tensor,
        lengths: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """The output [batch, heads, queries, dim] and each summand's log-sum-exp, from this rank's keys and values.

        q begins at `starts`, integers [batch], and has `lengths` keys.
        """
        k, v, table = self._paged(k, v)
        options = CallOptions("declared", True, False, CallPositions(starts, lengths, table, None), None, None, None)
        # Inputs are whole on all ranks, so one of them counts the sinks.
        masks = [compiled.without_sinks if self.rank else compiled for compiled, _ in summands]
        results = [
            self._summand(mask).attended(q, k, v, inputs, options)
            for mask, (_, inputs) in zip(masks, summands, strict=True)
        ]
        every = [
            gathered(torch.stack(each)[None], [1] * self.ranks, self.group).unbind()
            for each in zip(*results, strict=True)
        ]
        merged = [
            merged_results(mask, [(out[number], lse[number]) for out, lse in zip(*every, strict=True)])
            for number, mask in enumerate(masks)
        ]
        return sum_of([out for out, _ in merged]), [lse for _, lse in merged]

    def _summand(self, compiled: Bound) -> Summand:
        if compiled.handle not in self._summands:
            self._summands[compiled.handle] = Summand(compiled)
        return self._summands[compiled.handle]

    @cached_property
    def page_size(self) -> int:
        """The most keys of a page, such that every page lies in one stretch of the sequence and of the cache."""
        first = np.flatnonzero(np.diff(self.positions, prepend=-2) != 1)
        return gcd(*first.tolist(), *self.positions[first].tolist(), len(self.positions)) or 1

    def _paged(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The cache in pages, [pages, heads, page size, dim], and the table, int32 [batch, pages of the sequence].

        Heads stay where they are: a page begins where its first head does, and the memory of the other heads is counted
        in pages that the table does not name. Caches are copied if entries are apart by no whole number of pages.
        """
        batch, heads, tokens, _ = k.shape
        if not tokens:
            absent = torch.full((batch, self.length), -1, dtype=torch.int32, device=k.device)
            return k.new_zeros(1, heads, 1, k.shape[3]), v.new_zeros(1, heads, 1, v.shape[3]), absent
        if batch == 1:
            apart = tokens // self.page_size
        else:
            strides = {x.stride(0) / (x.stride(2) * self.page_size) for x in (k, v)}
            if len(strides) > 1 or not min(strides).is_integer():
                k, v = k.contiguous(), v.contiguous()
            apart = k.stride(0) // (k.stride(2) * self.page_size)
        first = torch.arange(batch, dtype=torch.int32, device=k.device)[:, None] * apart
        table = self._table.to(k.device)
        pages = (batch - 1) * apart + tokens // self.page_size
        return self._pages(k, pages), self._pages(v, pages), torch.where(table < 0, table, table + first)

    def _pages(self, x: Tensor, pages: int) -> Tensor:
        _, head, token, number = x.stride()
        size = self.page_size
        return x.as_strided((pages, x.shape[1], size, x.shape[3]), (size * token, head, token, number))

    @cached_property
    def _table(self) -> Tensor:
        """int32 [pages of the sequence]: the number of each page in the cache, or -1."""
        size = self.page_size
        table = torch.full((-(-self.length // size),), -1, dtype=torch.int32)
        table[torch.from_numpy(self.positions[::size] // size)] = torch.arange(
            len(self.positions) // size, dtype=torch.int32
        )
        return table
