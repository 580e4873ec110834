"""`ShardedCall`: the attention of one rank, while keys and queries are on their way between ranks.

Keys that others hold are fetched while queries attend those of the rank. Then the queries attend the fetched ones, and
both results are merged by their log-sum-exps. Queries that travel attend the keys of every team, whose results are
merged likewise. Sinks count in one of the results that are merged. Autograd runs what was recorded last first, so that
gradients travel while others are computed, too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.ir.mask import MaskIR
from maskdsl.runtime.calls.chosen import attend_chosen
from maskdsl.runtime.calls.summand import Summand, sum_of
from maskdsl.runtime.compiled.compiled_mask import Bound, register
from maskdsl.runtime.decode.regrouped import merge_partials
from maskdsl.sharding.layer_exchange import LayerExchange
from maskdsl.sharding.moved_rows import Moving

_Result = tuple[Tensor, Tensor]
"""An output [tokens, batch, heads, dim] and its log-sum-exp [tokens, batch, heads]."""


def merged_results(compiled: Bound, partials: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp over all keys, of those over some of them; added where no sum divides them."""
    if len(partials) == 1:
        return partials[0]
    if compiled.plan.mask.has_sums:
        return merge_partials(partials)
    return sum_of([out for out, _ in partials]), partials[0][1]


class _Keys(NamedTuple):
    """Some keys and values, [tokens, batch, heads, dim] each, and their laid-out positions, sorted."""

    k: Tensor
    v: Tensor
    positions: Array


class ShardedCall:
    """One call: the tensors of a rank, [tokens, batch, heads, dim] each."""

    def __init__(
        self,
        exchange: LayerExchange,
        orders: tuple[Array | None, Array | None],
        summands: Sequence[tuple[Summand, list[Tensor]]],
        mask: MaskIR,
        in_stages: bool,
    ) -> None:
        """`orders` are the declared positions of laid-out queries and keys, or None where they are the same.

        Each summand of the `mask` has its inputs. Without `in_stages` queries wait for fetched keys and attend all of
        them at once.
        """
        self.exchange, self.orders, self.in_stages = exchange, orders, in_stages
        lengths = mask.queries.given_length, mask.keys.given_length
        bounds = [(each.compiled.bound(*lengths), given) for each, given in summands]
        self.summands = [(each, given, _key_numbers(each.plan.mask, mask)) for each, given in bounds]

    def attended(self, q: Tensor, k: Tensor, v: Tensor, wants_lse: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output, and each summand's log-sum-exp, which has all heads only if somebody wants it."""
        exchange = self.exchange
        first = exchange.head_group * (q.shape[2] // exchange.groups)
        q, k, v = exchange.queries_with_heads(q), exchange.keys_with_heads(k), exchange.keys_with_heads(v)
        outs, lses = zip(*self._results(q, _Keys(k, v, exchange.keys), first), strict=True)
        if wants_lse:
            lses = tuple(exchange.with_all_heads(lse[..., None])[..., 0] for lse in lses)
        return exchange.with_all_heads(sum_of(list(outs))), lses

    def _results(self, q: Tensor, held: _Keys, first: int) -> list[_Result]:
        """Each summand's results for the team's queries. All ranks begin to move rows in the same order."""
        exchange, travels = self.exchange, self.exchange.travels
        staying, leaving = (torch.tensor(np.flatnonzero(each), device=q.device) for each in (~travels, travels))
        stays = q[staying], exchange.queries[~travels], first
        fetching = exchange.fetching(torch.cat([held.k, held.v], dim=-1))
        visiting = exchange.visiting(q[leaving]) if len(exchange.travelling) else None
        stages = [self._attended(*stays, held)] if self.in_stages else []
        if visiting is not None:
            visits = visiting.arrived(), exchange.travelling, first
            # Inputs are whole on all ranks, so one team counts the sinks of all visiting queries.
            merging = self._merging(self._attended(*visits, held, has_sinks=exchange.team == 0))
        fetched = _sorted(fetching.arrived(), held.k.shape[-1], exchange.fetched)
        keys = fetched if self.in_stages else _united(held, fetched)
        stages.append(self._attended(*stays, keys, has_sinks=not self.in_stages))
        compiled = (each for each, *_ in self.summands)
        here = [merged_results(each, partials) for each, *partials in zip(compiled, *stages, strict=True)]
        if visiting is None:
            return here
        back = torch.argsort(torch.cat([staying, leaving]))
        pairs = zip(here, self._home(merging, q.shape[2]), strict=True)
        return [(torch.cat([out, x])[back], torch.cat([lse, y])[back]) for (out, lse), (x, y) in pairs]

    def _attended(self, q: Tensor, queries: Array, first: int, keys: _Keys, has_sinks: bool = True) -> list[_Result]:
        """Each summand's results for queries at these laid-out positions, for the heads from `first` on."""
        query_at, key_at = (
            torch.tensor(tokens if order is None else order[tokens], device=q.device)
            for tokens, order in zip((queries, keys.positions), self.orders, strict=True)
        )
        q, k, v = (x.movedim(0, 2) for x in (q, keys.k, keys.v))
        results = []
        for compiled, inputs, numbers in self.summands:
            handle = register(compiled if has_sinks else compiled.without_sinks).handle
            its_k, its_v, at = k, v, key_at
            if numbers is not None:
                here = torch.tensor(numbers, device=q.device)[key_at]
                kept = torch.nonzero(here >= 0)[:, 0]
                its_k, its_v, at = k[:, :, kept], v[:, :, kept], here[kept]
            out, lse = attend_chosen(handle, q, its_k, its_v, inputs, query_at, at, first)
            results.append((out.movedim(2, 0), lse.movedim(2, 0)))
        return results

    def _merging(self, results: Sequence[_Result]) -> list[Moving]:
        """The results of visiting queries, of all summands, on their way to the teams that merge them."""
        stacked = (torch.stack(each, dim=1).movedim(3, 1).flatten(0, 1) for each in zip(*results, strict=True))
        return [self.exchange.to_merge(x) for x in stacked]

    def _home(self, merging: Sequence[Moving], heads: int) -> list[_Result]:
        """Each summand's results for the queries of this team that travelled."""
        arrived = (each.arrived() for each in merging)
        partials = (x.view(self.exchange.teams, -1, *x.shape[1:]).unbind() for x in arrived)
        merged = merge_partials(list(zip(*partials, strict=True)))
        homes = (self.exchange.home(x, heads) for x in merged)
        outs, lses = ([y.movedim(1, 2) for y in x.view(-1, heads, *x.shape[1:]).unbind(dim=2)] for x in homes)
        return list(zip(outs, lses, strict=True))


def _key_numbers(mask: MaskIR, whole: MaskIR) -> Array | None:
    """For each key of a whole mask its position among those of a branch, -1 for keys that the branch lacks.

    None if it has all of them: see `with_attended_keys`.
    """
    if mask.keys.length == whole.keys.length:
        return None
    starts = {each.name: start for each, start in zip(mask.keys.spaces, mask.keys.offsets, strict=True)}
    numbers = [
        np.arange(each.size) + starts[each.name] if each.name in starts else np.full(each.size, -1)
        for each in whole.keys.spaces
    ]
    return np.concatenate(numbers)


def _sorted(rows: Tensor, dim: int, positions: Array) -> _Keys:
    """Keys and values in one tensor, [tokens, batch, heads, dim of both]; `dim` is that of keys."""
    order = np.argsort(positions)
    k, v = torch.split(rows[torch.tensor(order, device=rows.device)], [dim, rows.shape[-1] - dim], dim=-1)
    return _Keys(k, v, positions[order])


def _united(one: _Keys, other: _Keys) -> _Keys:
    """The keys of both."""
    positions = np.concatenate([one.positions, other.positions])
    order = np.argsort(positions)
    back = torch.tensor(order, device=one.k.device)
    return _Keys(torch.cat([one.k, other.k])[back], torch.cat([one.v, other.v])[back], positions[order])
