"""`ShardedCall`: the attention of one rank, between what moves to it and what moves away."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.runtime.calls.chosen import attend_chosen
from maskdsl.runtime.calls.summand import Summand, sum_of
from maskdsl.runtime.compiled_mask import register
from maskdsl.runtime.decode.regrouped import merge_partials
from maskdsl.sharding.layer_exchange import LayerExchange


class ShardedCall:
    """One call: the tensors of a rank, [tokens, batch, heads, dim] each.

    `orders` are the declared positions of laid-out queries and keys, or None where tokens are laid out as declared.
    """

    def __init__(self, exchange: LayerExchange, orders: tuple[Array | None, Array | None]) -> None:
        self.exchange, self.orders = exchange, orders

    def attended(
        self, summands: Sequence[tuple[Summand, list[Tensor]]], q: Tensor, k: Tensor, v: Tensor, wants_lse: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output, and each summand's log-sum-exp, which has all heads only if somebody wants it."""
        exchange = self.exchange
        first = exchange.head_group * (q.shape[2] // exchange.groups)
        q, k, v = exchange.queries_with_heads(q), exchange.keys_with_heads(k), exchange.keys_with_heads(v)
        keys, positions = exchange.with_needed_keys(torch.cat([k, v], dim=-1))
        needed_k, needed_v = torch.split(keys, [k.shape[-1], v.shape[-1]], dim=-1)
        results = []
        for summand, inputs in summands:
            handle = self._handle(summand)
            out, lse = self._computed(handle, inputs, q, (k, v), (needed_k, needed_v, positions), first)
            results.append((out, exchange.with_all_heads(lse[..., None])[..., 0] if wants_lse else lse))
        outs, lses = zip(*results, strict=True)
        return exchange.with_all_heads(sum_of(list(outs))), lses

    def _computed(
        self,
        handle: str,
        inputs: list[Tensor],
        q: Tensor,
        held: tuple[Tensor, Tensor],
        needed: tuple[Tensor, Tensor, Array],
        first: int,
    ) -> tuple[Tensor, Tensor]:
        """The results of the team's queries: those that stay to all keys that they need, those that travel to all."""
        exchange = self.exchange
        k, v, keys = needed
        stays = ~exchange.travels
        staying, leaving = (torch.from_numpy(np.flatnonzero(each)).to(q.device) for each in (stays, exchange.travels))
        here = self._chosen(handle, inputs, (q[staying], k, v), exchange.queries[stays], keys, first)
        if not len(exchange.travelling):
            return here
        visiting = exchange.visiting(q[leaving]), *held
        results = self._chosen(handle, inputs, visiting, exchange.travelling, exchange.keys, first)
        partials = (exchange.to_merge(x.movedim(2, 1).flatten(0, 1)) for x in results)
        merged, heads = merge_partials(list(zip(*partials, strict=True))), q.shape[2]
        back = torch.argsort(torch.cat([staying, leaving]))
        homes = (exchange.home(x, heads) for x in merged)
        there = (x.view(len(leaving), heads, *x.shape[1:]).movedim(1, 2) for x in homes)
        out, lse = (torch.cat(pair)[back] for pair in zip(here, there, strict=True))
        return out, lse

    def _chosen(
        self,
        handle: str,
        inputs: list[Tensor],
        tensors: tuple[Tensor, Tensor, Tensor],
        queries: Array,
        keys: Array,
        first: int,
    ) -> tuple[Tensor, Tensor]:
        """The results of queries to keys at these laid-out positions."""
        query_at, key_at = (
            torch.from_numpy(tokens if order is None else order[tokens]).to(tensors[0].device)
            for tokens, order in zip((queries, keys), self.orders, strict=True)
        )
        q, k, v = (x.movedim(0, 2) for x in tensors)
        out, lse = attend_chosen(handle, q, k, v, inputs, query_at, key_at, first)
        return out.movedim(2, 0), lse.movedim(2, 0)

    def _handle(self, summand: Summand) -> str:
        """That of the summand's mask at the plan's lengths."""
        work = self.exchange.moves.work
        compiled = summand.compiled.bound(work.query_length, work.key_length)
        register(compiled)
        return compiled.handle
