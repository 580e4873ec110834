"""Attention of a rank's queries by tokens that it gathers: products of vectors, and one softmax for each key."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.runtime.calls.summand import CallOptions, Summand, sum_of
from maskdsl.runtime.decode.paging import CallPositions, call_positions
from maskdsl.sharding.moved_rows import moved

Summands = Sequence[tuple[Summand, list[Tensor]]]


class GatheredCall:
    """One call: a rank's tensors are [tokens, batch, heads, dim], and results have heads before tokens."""

    def __init__(
        self, positions: tuple[list[Array], list[Array]], outputs: list[Array], group: dist.ProcessGroup
    ) -> None:
        """The declared positions of each rank's queries and keys, and of the rows of its output."""
        self.positions, self.outputs, self.group = positions, outputs, group
        self.rank = dist.get_rank(group)

    def of_all_queries(self, summands: Summands, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The rank's rows of the output and of log-sum-exps, where every rank computes all of them."""
        q, k, v = self._whole(q, keys=False), self._whole(k, keys=True), self._whole(v, keys=True)
        rows = torch.tensor(self.outputs[self.rank], device=q.device)
        results = (each.attended(q, k, v, inputs, _options(None)) for each, inputs in summands)
        return _summed([(out[:, :, rows], lse[:, :, rows]) for out, lse in results])

    def by_stretches(self, summands: Summands, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output and log-sum-exps of the rank's queries: each stretch is a call with some of the queries."""
        k, v = (self._whole(x, keys=True) for x in (k, v))
        positions = self.positions[0][self.rank]
        order = np.argsort(positions)
        q = q.movedim(0, 2)[:, :, torch.tensor(order, device=q.device)]
        edges = np.flatnonzero(np.diff(positions[order]) != 1) + 1
        starts = [int(each[0]) if len(each) else 0 for each in np.split(positions[order], edges)]
        chunks = list(zip(starts, torch.tensor_split(q, edges.tolist(), dim=2), strict=True))
        back = torch.tensor(np.argsort(order), device=q.device)
        results: list[tuple[Tensor, Tensor]] = []
        for each, inputs in summands:
            calls = [(chunk, call_positions(chunk, start, None, None, None)) for start, chunk in chunks]
            partials = [each.attended(chunk, k, v, inputs, _options(at)) for chunk, at in calls]
            out, lse = (torch.cat(pieces, dim=2)[:, :, back] for pieces in zip(*partials, strict=True))
            results.append((out, lse))
        return _summed(results)

    def _whole(self, x: Tensor, keys: bool) -> Tensor:
        """All tokens in declared order, [batch, heads, tokens, dim]; gradients are summed over the ranks."""
        positions = self.positions[keys]
        every = torch.arange(len(x), device=x.device)
        rows = moved(x, [every] * len(positions), [len(each) for each in positions], self.group)
        return rows[torch.tensor(np.argsort(np.concatenate(positions)), device=x.device)].movedim(0, 2)


def _options(positions: CallPositions | None) -> CallOptions:
    return CallOptions("declared", True, False, positions, None, None, None)


def _summed(results: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """The output, the sum over summands, and each one's log-sum-exp."""
    outs, lses = zip(*results, strict=True)
    return sum_of(list(outs)), list(lses)
