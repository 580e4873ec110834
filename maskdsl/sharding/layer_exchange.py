"""What one rank sends and receives in a layer, as tensors with tokens first: [tokens, batch, heads, dim]."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.distributed.moves import Moves
from maskdsl.sharding.moved_rows import Moving, moved, moving
from maskdsl.sharding.pooled_tokens import PooledTokens


class LayerExchange:
    """The moves of one layer by one rank of a group; all ranks call its methods alike."""

    def __init__(
        self, moves: Moves, group: dist.ProcessGroup, pooled: Callable[[Array, Array, bool], PooledTokens]
    ) -> None:
        """`pooled` makes given tokens, sorted, those at laid-out positions, of queries or of keys."""
        self.moves, self.group, self.pooled = moves, group, pooled
        self.teams, self.groups = moves.homes.teams, moves.homes.groups
        self.team, self.head_group = divmod(dist.get_rank(group), self.groups)

    @cached_property
    def queries(self) -> Array:
        """int64: the laid-out positions of this team's queries."""
        return self.moves.queries_of[self.team]

    @cached_property
    def keys(self) -> Array:
        """int64: the laid-out positions of this team's keys."""
        return self.moves.keys_of[self.team]

    def queries_with_heads(self, q: Tensor) -> Tensor:
        """The rank's given queries with all heads to the team's queries with the heads of this group."""
        return self._with_pools(self._with_heads(q, self.moves.query_counts(self.team)), keys=False)

    def keys_with_heads(self, x: Tensor) -> Tensor:
        """The same for keys or values."""
        return self._with_pools(self._with_heads(x, self.moves.key_counts(self.team)), keys=True)

    def _with_pools(self, x: Tensor, keys: bool) -> Tensor:
        """The team's given tokens to its tokens, pools among them."""
        if self.moves.given_of[keys] is None:
            return x
        rows, counts, order, pools = self._pools[keys]
        received = self._moved(
            x, self._to_teams([torch.tensor(each, device=x.device) for each in rows]), self._of_teams(counts)
        )
        return pools.of(torch.cat([x, received])[torch.tensor(order, device=x.device)])

    @cached_property
    def _pools(self) -> dict[int, tuple[list[Array], list[int], Array, PooledTokens]]:
        """Of each pooled side: rows for each team, how many come of each, what sorts all, and what they become."""
        return {keys: self._pools_of(keys, held) for keys, held in enumerate(self.moves.given_of) if held is not None}

    def _pools_of(self, keys: int, held: tuple[Array, ...]) -> tuple[list[Array], list[int], Array, PooledTokens]:
        here, teams = held[self.team], range(self.teams)
        row = np.argsort(here)
        send = [self.moves.given_for(self.team, each, bool(keys)) for each in teams]
        rows = [row[np.searchsorted(here, each, sorter=row)] for each in send]
        wanted = [self.moves.given_for(each, self.team, bool(keys)) for each in teams]
        given = np.concatenate([here, *wanted])
        order = np.argsort(given)
        pools = self.pooled(given[order], self.keys if keys else self.queries, bool(keys))
        return rows, [len(each) for each in wanted], order, pools

    def _with_heads(self, x: Tensor, counts: Array) -> Tensor:
        if self.groups == 1:
            return x
        tokens, _, heads, _ = x.shape
        if heads < self.groups:  # several groups read one key head
            x = x.repeat_interleave(self.groups // heads, dim=2)
        by_group = torch.unflatten(x, 2, (self.groups, x.shape[2] // self.groups)).movedim(2, 0).flatten(0, 1)
        rows = torch.arange(tokens * self.groups, device=x.device).view(self.groups, tokens)
        return self._moved(by_group, self._to_team(list(rows)), self._of_team(counts.tolist()))

    def with_all_heads(self, x: Tensor) -> Tensor:
        """The team's queries with the heads of this group to the rank's queries with all heads."""
        if self.groups == 1:
            return x
        counts = [int(each) for each in self.moves.result_counts(self.team)]
        here = counts[self.head_group]
        rows = list(torch.split(torch.arange(len(x), device=x.device), counts))
        by_group = self._moved(x, self._to_team(rows), self._of_team([here] * self.groups))
        return by_group.view(self.groups, here, *by_group.shape[1:]).movedim(0, 2).flatten(2, 3)

    def fetching(self, x: Tensor) -> Moving:
        """The keys that the team needs of others, on their way: x are its own."""
        send, wanted = self._needed_keys
        rows = self._to_teams([torch.tensor(each, device=x.device) for each in send])
        return moving(x, rows, self._of_teams([len(each) for each in wanted]), self.group)

    @cached_property
    def fetched(self) -> Array:
        """int64: the laid-out positions of these keys, as they arrive."""
        return np.concatenate(self._needed_keys[1])

    @cached_property
    def _needed_keys(self) -> tuple[list[Array], list[Array]]:
        """The rows of this team for each team, and the positions that it gets of each."""
        teams = range(self.teams)
        send = [self.moves.keys_for(self.team, each, self.head_group) for each in teams]
        wanted = [self.moves.keys_for(each, self.team, self.head_group) for each in teams]
        return [np.searchsorted(self.keys, each) for each in send], wanted

    @cached_property
    def travelling(self) -> Array:
        """int64: the laid-out positions of all queries that travel, team after team."""
        return np.concatenate(self.moves.travelling)

    @cached_property
    def travels(self) -> Array:
        """bool: which of this team's queries travel."""
        return np.isin(self.queries, self.moves.travelling[self.team])

    def visiting(self, q: Tensor) -> Moving:
        """The queries of all teams that travel, on their way: q are this team's."""
        every = torch.arange(len(q), device=q.device)
        counts = [len(each) for each in self.moves.travelling]
        return moving(q, self._to_teams([every] * self.teams), self._of_teams(counts), self.group)

    def to_merge(self, x: Tensor) -> Moving:
        """This team's results of visiting queries, [(query, head), ...], on their way to the teams that merge them."""
        edges = self._edges(len(x))
        rows = [torch.arange(low, high, device=x.device) for low, high in pairwise(edges)]
        here = len(rows[self.team])
        return moving(x, self._to_teams(rows), self._of_teams([here] * self.teams), self.group)

    def home(self, x: Tensor, heads: int) -> Tensor:
        """Results that this team merged, [(query, head), ...], to those of its travelling queries."""
        bounds = np.cumsum([0, *(len(each) * heads for each in self.moves.travelling)]).tolist()
        edges = self._edges(bounds[-1])
        first, end = edges[self.team], edges[self.team + 1]
        spans = [_overlap((first, end), each) for each in pairwise(bounds)]
        rows = [torch.arange(low - first, high - first, device=x.device) for low, high in spans]
        mine = bounds[self.team], bounds[self.team + 1]
        counts = [high - low for low, high in (_overlap(each, mine) for each in pairwise(edges))]
        return self._moved(x, self._to_teams(rows), self._of_teams(counts))

    def _edges(self, pairs: int) -> list[int]:
        """Each team merges the (query, head) from its number to the next one's."""
        return [pairs * each // self.teams for each in range(self.teams + 1)]

    def _moved(self, x: Tensor, rows: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
        return moved(x, rows, counts, self.group)

    def _to_team(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Rows for each rank of the team, as rows for each rank of the group."""
        return self._in_team(rows, rows[0][:0])

    def _of_team(self, counts: Sequence[int]) -> list[int]:
        return self._in_team([int(each) for each in counts], 0)

    def _to_teams(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Rows for each team's rank with the same heads, as rows for each rank of the group."""
        return self._in_teams(rows, rows[0][:0])

    def _of_teams(self, counts: Sequence[int]) -> list[int]:
        return self._in_teams(counts, 0)

    def _in_team(self, values: Sequence[Any], absent: Any) -> list[Any]:
        every = [absent] * (self.teams * self.groups)
        every[self.team * self.groups : (self.team + 1) * self.groups] = values
        return every

    def _in_teams(self, values: Sequence[Any], absent: Any) -> list[Any]:
        every = [absent] * (self.teams * self.groups)
        every[self.head_group :: self.groups] = values
        return every


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    low = max(one[0], other[0])
    return low, max(low, min(one[1], other[1]))
