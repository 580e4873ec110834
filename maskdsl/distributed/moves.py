"""The lists of a plan: which tokens each rank holds, sends and receives, as laid-out positions."""

from functools import cached_property

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, ranges
from maskdsl.base.records import dataclass
from maskdsl.distributed.block_work import BlockWork
from maskdsl.distributed.exchange import Homes, needed, shares
from maskdsl.distributed.given_tokens import GivenTokens


@dataclass(frozen=True, eq=False)
class Moves:
    """What moves in a layer under given homes. Positions are laid out, int64, and sorted."""

    work: BlockWork
    homes: Homes

    @cached_property
    def queries_of(self) -> tuple[Array, ...]:
        """For each team, its queries."""
        return _tokens_of(self.homes.queries, self.work.query_length, self.work.block, self.homes.teams)

    @cached_property
    def keys_of(self) -> tuple[Array, ...]:
        """For each team, its keys."""
        return _tokens_of(self.homes.keys, self.work.key_length, self.work.block, self.homes.teams)

    @cached_property
    def given_of(self) -> tuple[tuple[Array, ...] | None, tuple[Array, ...] | None]:
        """For each team, the given tokens of its queries, and of its keys, by declared positions, in its order.

        None where none are pooled.
        """
        queries, keys = (None if each is None else self._held(each) for each in self.work.given)
        return queries, keys

    def _held(self, given: GivenTokens) -> tuple[Array, ...]:
        team = self.homes.of_given(given)[given.order]
        edges = np.cumsum(np.bincount(team, minlength=self.homes.teams))[:-1]
        return tuple(np.split(given.order[np.argsort(team, kind="stable")], edges))

    def result_counts(self, team: int) -> Array:
        """int64 [groups]: the queries whose results each rank of a team gets, in order."""
        return self._shares(self.queries_of[team])

    def query_counts(self, team: int) -> Array:
        """int64 [groups]: the queries that each rank of a team is given, in order."""
        given = self.given_of[0]
        return self._shares(self.queries_of[team] if given is None else given[team])

    def key_counts(self, team: int) -> Array:
        """int64 [groups]: the keys that each rank of a team is given, in order."""
        given = self.given_of[1]
        return self._shares(self.keys_of[team] if given is None else given[team])

    def _shares(self, tokens: Array) -> Array:
        return np.asarray(shares(np.array([len(tokens)]), self.homes.groups)[0])

    def given_for(self, source: int, team: int, keys: bool) -> Array:
        """The given tokens that another team needs for its tokens and pools, in the order that `source` has."""
        given, held = self.work.given[keys], self.given_of[keys]
        assert given is not None and held is not None
        if source == team:
            return np.zeros(0, dtype=np.int64)
        of_team = np.append((self.homes.keys if keys else self.homes.queries) == team, False)
        return held[source][of_team[given.needed[held[source]]].any(axis=1)]

    def keys_for(self, source: int, team: int, group: int) -> Array:
        """The keys that a team needs of another one, for a group of heads; none of its own."""
        if source == team:
            return np.zeros(0, dtype=np.int64)
        runs = self._needed(group)
        of_team = slice(runs.row_start[team], runs.row_start[team + 1])
        blocks = ranges(runs.start[of_team].astype(np.int64), runs.end[of_team].astype(np.int64))
        blocks = blocks[self.homes.keys[blocks] == source]
        block = self.work.block
        return ranges(blocks * block, np.minimum((blocks + 1) * block, self.work.key_length))

    @cached_property
    def travelling(self) -> tuple[Array, ...]:
        """For each team, those of its queries that travel."""
        rows = np.zeros(0, dtype=np.int64) if self.work.travelling is None else self.work.travelling.rows
        team = self.homes.queries[rows // self.work.block]
        return tuple(rows[team == each] for each in range(self.homes.teams))

    @cached_property
    def _runs(self) -> dict[int, Runs]:
        return {}

    def _needed(self, group: int) -> Runs:
        if group not in self._runs:
            self._runs[group] = needed(self.work, self.homes, group)
        return self._runs[group]


def _tokens_of(team: Array, length: int, block: int, teams: int) -> tuple[Array, ...]:
    by_token = np.repeat(team, block)[:length]
    edges = np.cumsum(np.bincount(by_token, minlength=teams))[:-1]
    return tuple(np.split(np.argsort(by_token, kind="stable"), edges))
