"""The lists of a plan: which tokens each rank holds, sends and receives, as laid-out positions."""

from functools import cached_property

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, ranges
from maskdsl.base.records import dataclass
from maskdsl.distributed.block_work import BlockWork
from maskdsl.distributed.exchange import Homes, needed, shares


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

    def query_counts(self, team: int) -> Array:
        """int64 [groups]: the queries of each rank of a team, in order."""
        return np.asarray(shares(np.array([len(self.queries_of[team])]), self.homes.groups)[0])

    def key_counts(self, team: int) -> Array:
        """int64 [groups]: the keys of each rank of a team, in order."""
        return np.asarray(shares(np.array([len(self.keys_of[team])]), self.homes.groups)[0])

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
