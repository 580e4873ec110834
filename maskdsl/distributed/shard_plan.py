"""A plan of a mask, or of several layers, for many processes: what each holds, computes and receives, and the time."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.arguments import FLAG, INDEX, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.arguments import OutsideMap
from maskdsl.base.records import dataclass
from maskdsl.distributed.homes import ShardScheme
from maskdsl.distributed.moves import Moves
from maskdsl.distributed.pricing import Cluster, LayerShape
from maskdsl.distributed.scheme_search import PricedScheme
from maskdsl.ir.mask import MaskIR


@dataclass(frozen=True, eq=False, repr=False)
class RankPlan(Displayed):
    """Which process holds which tokens and heads, what each computes, and what it receives.

    Rank `team * head_groups + group` holds an equal share of the tokens of its team, and computes a group of heads for
    all tokens of the team. Figures are of a forward pass, of one batch entry unless entries differ.
    """

    cluster: Cluster
    layer: LayerShape
    block: int
    """Queries and keys of a block that stays together."""
    best: PricedScheme
    """The scheme that was chosen."""
    table: tuple[PricedScheme, ...]
    """The best scheme of each rule, with and without groups of heads and rows that travel; the fastest first."""
    orders: tuple[Array | None, Array | None]
    """Of queries and of keys, int64 [tokens]: maps laid-out positions to declared ones; None for declared order."""
    masks: tuple[MaskIR, ...]
    """The different layers, as they were planned."""
    inputs: tuple[Mapping[str, Array], ...]
    """The inputs that decide the tiles of each."""

    @property
    def ranks(self) -> int:
        """The number of processes."""
        return self.cluster.ranks

    @property
    def scheme(self) -> ShardScheme:
        """The scheme that was chosen; `str` says it in words."""
        return self.best.scheme

    @property
    def head_groups(self) -> int:
        """In how many groups the heads are cut."""
        return self.best.scheme.groups

    @property
    def work(self) -> Array:
        """int64 [ranks]: the pairs that each computes, of tiles that are not empty, over its heads and all layers."""
        return self.best.total("operations") // (4 * self.layer.head_dim)

    @property
    def received(self) -> Array:
        """int64 [ranks]: the bytes that each receives, over all layers."""
        return self.best.total("inside") + self.best.total("between")

    @property
    def sent(self) -> Array:
        """int64 [ranks]: the bytes that each sends, over all layers."""
        return self.best.total("sent")

    @property
    def time(self) -> float:
        """Predicted milliseconds of the slowest rank: the mean of overlapped and serial time."""
        return self.best.seconds * 1e3

    @property
    def score(self) -> float:
        """Predicted time over the mean compute time of all ranks; 1 is best."""
        return self.best.score

    @takes(rank=INDEX, keys=FLAG)
    def positions(self, rank: int, keys: bool = False) -> Array:
        """int64 [tokens of the rank]: the declared positions of its tokens, for labels and rotary positions.

        In cross-attention of its queries, or of its `keys`. Where some are pooled, of the tokens that a call gives.
        Raises `AttnError` if there is no such rank.
        """
        given = self._moves.given_of[keys]
        return self._share(rank, self._laid_out(keys) if given is None else given)

    @takes(rank=INDEX)
    def outputs(self, rank: int) -> Array:
        """int64 [rows of the rank]: the declared positions of the queries whose output it returns, pools among them.

        They are those of its tokens, unless queries are pooled. Raises `AttnError` if there is no such rank.
        """
        return self._share(rank, self._laid_out(keys=False))

    def _share(self, rank: int, of_teams: Sequence[Array]) -> Array:
        if rank >= self.ranks:
            raise AttnError(OutsideMap(what="rank", number=rank, last=self.ranks - 1))
        team, group = divmod(rank, self.head_groups)
        tokens = of_teams[team]
        edges = len(tokens) * np.arange(self.head_groups + 1) // self.head_groups
        return tokens[edges[group] : edges[group + 1]]

    def _laid_out(self, keys: bool) -> list[Array]:
        """For each team, the declared positions of its queries, or of its keys, in laid-out order."""
        order = self.orders[keys]
        tokens = self._moves.keys_of if keys else self._moves.queries_of
        return [each if order is None else np.asarray(order[each]) for each in tokens]

    @cached_property
    def _moves(self) -> Moves:
        return Moves(self.best.works[0], self.best.homes[0])

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        return {
            "ranks": self.ranks,
            "per_node": self.cluster.per_node,
            "block": self.block,
            "scheme": str(self.scheme),
            "milliseconds": self.time,
            "score": self.score,
            "work": self.work.tolist(),
            "received": self.received.tolist(),
            "sent": self.sent.tolist(),
            "table": [
                {"scheme": str(each.scheme), "milliseconds": each.seconds * 1e3, "score": each.score}
                for each in self.table
            ],
        }

    def _shown_(self) -> tuple[object, ...]:
        return (self,)

    def __repr__(self) -> str:
        most = self.received.max(initial=0) / 2**20
        figures = f"{self.time:.3g} ms, score {self.score:.2f}, at most {most:.4g} MiB received"
        return f"ShardPlan({self.ranks} ranks, {self.scheme}: {figures})"
