"""Masks to a plan: the work of each layer, every scheme with and without rows that travel, and the best."""

from collections.abc import Mapping, Sequence

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.distributed.block_work import BlockWork, block_work, with_travelling
from maskdsl.distributed.gathered_tokens import GatheredTokens
from maskdsl.distributed.homes import ShardScheme
from maskdsl.distributed.pricing import Cluster, LayerShape
from maskdsl.distributed.scheme_search import of_heads, priced, search
from maskdsl.distributed.shard_plan import RankPlan
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.facts.trace import pooling_trace, token_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs

BLOCK = 128
"""Queries and keys of a block that stays together, unless somebody says otherwise."""

Arrays = Mapping[str, Array]


def shard(
    masks: Sequence[MaskIR],
    inputs: Sequence[Arrays],
    gathered: Sequence[GatheredTokens],
    times: Sequence[int],
    cluster: Cluster,
    layer: LayerShape,
    block: int = BLOCK,
    only: ShardScheme | None = None,
    here: tuple[slice, LayerShape] | None = None,
) -> RankPlan:
    """The best plan for layers of the same tokens, each so many `times`; with `only`, that of this scheme.

    `gathered` says which tokens all processes receive, of each layer.
    `here` are some of the heads and their shape, if other processes compute the others (tensor parallelism). Homes are
    then chosen by all heads, so that they are the same whichever heads are here; all else is of these heads.
    Raises `AttnError` as `tiles` does.
    """
    masks = _in_one_order(masks)
    layers = zip(masks, inputs, gathered, strict=True)
    works = [block_work(mask, given, block, of_all) for mask, given, of_all in layers]
    apart = works
    if only is None or only.travelling:
        several = zip(masks, inputs, works, strict=True)
        apart = [
            (_can_travel(mask, work) and with_travelling(mask, given, work)) or work for mask, given, work in several
        ]
    if only is not None:
        one = priced(only, apart, times, layer, cluster)
        assert one is not None
        results = [one]
    else:
        shared = layer if here is None else here[1]
        results = [*search(works, times, layer, cluster, shared)]
        if any(each.travelling is not None for each in apart):
            results += search(apart, times, layer, cluster, shared)
        results.sort(key=lambda each: each.seconds)
    decide = [_deciding(mask, given) for mask, given in zip(masks, inputs, strict=True)]
    queries, keys = (Coordinates(masks[0], each, decide[0]).permutation() for each in masks[0].sequences.values())
    if here is not None:
        heads, layer = here
        results = [of_heads(each, heads, layer, cluster) for each in results]
    return RankPlan(cluster, layer, block, results[0], tuple(results), (queries, keys), tuple(masks), tuple(decide))


def _deciding(mask: MaskIR, given: Arrays) -> dict[str, Array]:
    """Copies of the inputs that decide tiles, orders and pools, as the mask reads them: callers may write into them."""
    needed = relation_inputs(mask, given) | pooling_trace(mask.groupings).inputs
    return {name: x.copy() for name, x in input_arrays(mask, given, needed).items() if name in needed}


def _can_travel(mask: MaskIR, work: BlockWork) -> bool:
    """Whether results of some of a query's keys can be merged by their log-sum-exps.

    Where a process selects for the queries that it holds, others know nothing of them.
    """
    if work.gathered.values or (work.gathered.keys and not work.gathered.queries):
        return False
    return all(each.has_sums for each in (mask, *mask.branches))


def _in_one_order(masks: Sequence[MaskIR]) -> list[MaskIR]:
    """The masks, in declared order unless all heads, batch entries and layers have one order of tokens."""
    varied = {kind for each in masks for kind in token_trace(each, (), ordered=True).varies(each)}
    orders = [[sequence.order for sequence in each.sequences.values()] for each in masks]
    differ = any(each != orders[0] for each in orders)
    if differ or varied & {DimensionKind.HEADS, DimensionKind.BATCH}:
        return [each.declared for each in masks]
    return list(masks)
