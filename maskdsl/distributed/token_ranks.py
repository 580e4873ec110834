"""Which ranks hold each token of a plan, and which compute its pairs: what pictures show."""

from collections.abc import Iterable

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.distributed.shard_plan import RankPlan


@dataclass(frozen=True, eq=False)
class TokenRanks:
    """The teams of a plan's tokens, by declared positions. A team is the `groups` ranks that hold tokens together.

    Pairs of a query are computed by its team, but those of a row that travels by the teams of the keys.
    """

    teams: int
    groups: int
    """Groups of heads: each rank of a team computes one."""
    heads: int
    queries: Array
    """int32 [queries]: the team that holds each."""
    keys: Array
    """int32 [keys]"""
    travels: Array
    """bool [queries]: whether the query travels to the keys."""

    @staticmethod
    def of(plan: RankPlan, number: int = 0) -> "TokenRanks":
        """Those of a plan, for the layer of this number among `plan.masks`."""
        work, homes = plan.best.works[number], plan.best.homes[number]
        queries, keys = (
            _declared(np.repeat(team, work.block)[:length], order)
            for team, length, order in zip(
                (homes.queries, homes.keys), (work.query_length, work.key_length), plan.orders, strict=True
            )
        )
        travels = np.zeros(work.query_length, dtype=bool)
        if work.travelling is not None:
            travels[work.travelling.rows] = True
        return TokenRanks(
            homes.teams, homes.groups, plan.layer.heads, queries, keys, _declared(travels, plan.orders[0])
        )

    def group_of(self, head: int) -> int:
        """The group of a head: rank `team * groups + group` computes it."""
        return head // (self.heads // self.groups)

    def ranks_of(self, teams: Iterable[int]) -> list[int]:
        """All ranks of some teams."""
        return [team * self.groups + group for team in teams for group in range(self.groups)]


def _declared(values: Array, order: Array | None) -> Array:
    """Values at laid-out positions, by declared ones."""
    if order is None:
        return values
    declared = np.empty_like(values)
    declared[order] = values
    return declared
