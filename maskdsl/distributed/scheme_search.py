"""Every scheme priced exactly, for one layer or several that share the homes of tokens, and the best one kept."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.distributed.block_work import BlockWork
from maskdsl.distributed.exchange import Homes, cost, tile_counts
from maskdsl.distributed.homes import ShardScheme, contiguous, homes, schemes
from maskdsl.distributed.pricing import RATE, Cluster, LayerShape, RankCosts


@dataclass(frozen=True, eq=False)
class PricedScheme:
    """A scheme with what it costs."""

    scheme: ShardScheme
    works: tuple[BlockWork, ...]
    """The work of each different layer."""
    homes: tuple[Homes, ...]
    """Where the tokens of each are: the same queries for all."""
    costs: tuple[RankCosts, ...]
    """Of each different layer."""
    times: tuple[int, ...]
    """How many layers there are of each."""
    seconds: float
    """The slowest rank's time, summed over layers."""

    @property
    def queries(self) -> Array:
        """int32 [query blocks]: the team that holds each."""
        return self.homes[0].queries

    @property
    def score(self) -> float:
        """The time over the mean compute time of all ranks; 1 is best."""
        ideal = float(self.total("operations").mean()) / RATE
        return self.seconds / ideal if ideal else 1.0

    def total(self, name: str) -> Array:
        """int64 [ranks]: a figure of `RankCosts`, over all layers."""
        figures = [count * getattr(each, name) for count, each in zip(self.times, self.costs, strict=True)]
        return np.asarray(np.sum(figures, axis=0))


def search(
    works: Sequence[BlockWork], times: Sequence[int], layer: LayerShape, cluster: Cluster, shared: LayerShape
) -> Iterator[PricedScheme]:
    """Yields the best scheme of each rule, with and without groups of heads: of those that ranks have to share."""
    best: dict[tuple[str, bool], PricedScheme] = {}
    travelling = any(each.travelling is not None for each in works)
    blocks, block = len(works[0].query_tokens), works[0].block
    for scheme in schemes(blocks, block, cluster.ranks, cluster.per_node, shared.heads, shared.key_heads):
        family = scheme.rule, scheme.groups > 1
        bound = best[family].seconds if family in best else np.inf
        better = priced(replace(scheme, travelling=travelling), works, times, layer, cluster, bound)
        if better is not None:
            best[family] = better
    yield from best.values()


def priced(
    scheme: ShardScheme,
    works: Sequence[BlockWork],
    times: Sequence[int],
    layer: LayerShape,
    cluster: Cluster,
    bound: float = np.inf,
) -> PricedScheme | None:
    """The scheme with its price for layers that occur so many `times`; None if it takes `bound` seconds or more."""
    teams, block = cluster.ranks // scheme.groups, works[0].block
    best: PricedScheme | None = None
    for queries in homes(
        scheme, np.sum([count * _load(each) for count, each in zip(times, works, strict=True)], axis=0), teams, block
    ):
        keys = [_key_homes(each, queries, teams) for each in works]
        held = [Homes(teams, scheme.groups, queries, each) for each in keys]
        layers = list(zip(times, works, held, strict=True))
        tiles = sum(count * int(tile_counts(work, at).max()) for count, work, at in layers)
        if tiles * (4 * block**2 * layer.head_dim) / RATE >= bound:
            continue
        each = _with_costs(scheme, works, held, times, layer, cluster)
        if each.seconds < bound:
            best, bound = each, each.seconds
    return best


def of_heads(one: PricedScheme, here: slice, layer: LayerShape, cluster: Cluster) -> PricedScheme:
    """A scheme of all heads, in its homes, for those `here`, whose shape is `layer`."""
    works = [replace(each, class_of_head=each.class_of_head[:, here]) for each in one.works]
    return _with_costs(one.scheme, works, one.homes, one.times, layer, cluster)


def _with_costs(
    scheme: ShardScheme,
    works: Sequence[BlockWork],
    held: Sequence[Homes],
    times: Sequence[int],
    layer: LayerShape,
    cluster: Cluster,
) -> PricedScheme:
    costs = tuple(cost(work, at, layer, cluster) for work, at in zip(works, held, strict=True))
    seconds = sum(count * float(each.seconds(cluster).max()) for count, each in zip(times, costs, strict=True))
    return PricedScheme(scheme, tuple(works), tuple(held), costs, tuple(times), seconds)


def _key_homes(work: BlockWork, queries: Array, teams: int) -> Array:
    """int32 [key blocks]: the team that holds each, from those of queries."""
    if work.is_self:
        return queries
    plain, given = contiguous(len(work.key_tokens), teams), work.given[1]
    return plain if given is None else given.key_homes(queries, plain, teams)


def _load(work: BlockWork) -> Array:
    """int64 [query blocks]: what homes balance: the tiles of each block, over all heads."""
    weights = np.bincount(work.class_of_head.reshape(-1), minlength=len(work.tiles))
    counts = [each.counts for each in work.tiles]
    if work.travelling is not None and work.is_self:
        counts = [one + other for one, other in zip(counts, work.travelling.tiles, strict=True)]
    return np.asarray(np.sum([weight * each for weight, each in zip(weights, counts, strict=True)], axis=0))
