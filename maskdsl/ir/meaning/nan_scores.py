"""Route scores that are NaN, by the reference semantics: an error in debug mode, else never selected."""

from collections.abc import Iterator, Mapping

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import whole_arrays
from maskdsl.ir.meaning.pooling import all_tokens
from maskdsl.ir.meaning.route_meaning import RouteSearch
from maskdsl.ir.ops import Array
from maskdsl.ir.routes import Balanced, Draw, Nearest, OfInputs, Pools, Rank, Route, Routed
from maskdsl.ir.values.group_scores import GroupScores, route_of


@dataclass(frozen=True)
class NanScores:
    """The NaN scores of one route in one head: the first pair of groups and the number of pairs.

    For `nearest` and `balanced`, `query` is a token and `key` a centroid.
    """

    route: str
    batch: int
    head: int
    query: int
    key: int
    count: int
    span: Span | None


def nan_scores(mask: MaskIR, inputs: Mapping[str, Array], q: Array, k: Array) -> Iterator[NanScores]:
    """Yields the NaN scores of all routes and heads.

    `inputs` has the results of routes; q is [batch, heads, given queries, dim], k [batch, key heads, given keys, dim].
    """
    inputs = whole_arrays(mask, inputs, len(q), q.shape[-1])
    q, k = (all_tokens(mask, side, x, inputs) for side, x in ((Side.QUERY, q), (Side.KEY, k)))
    for routed in (each for each in mask.routed if each.name in inputs):
        for batch, head in np.ndindex(*q.shape[:2]):
            wrong = _is_nan(RouteSearch(mask, inputs, q, k, batch, head), routed)
            if wrong.any():
                query, key = (int(position) for position in np.argwhere(wrong)[0])
                count = int(np.count_nonzero(wrong))
                yield NanScores(_route_name(routed), batch, head, query, key, count, routed.span)


def _route_name(routed: Routed) -> str:
    """The route's name in the pattern: a clustering of both sides has one route a side, with the side in its name."""
    if isinstance(routed, GroupScores):
        return route_of(routed.name)
    return routed.name if isinstance(routed, Route | OfInputs) else routed.name.removesuffix(f"_{routed.side.plural}")


def _is_nan(search: RouteSearch, routed: Routed) -> Array:
    """bool [query groups, key groups] or [tokens, centroids]: which scores are NaN."""
    match routed:
        case Route() | GroupScores():
            score, candidates = search.scored(routed)
            tables = {each.name for each in search.mask.routed if isinstance(each, GroupScores)}
            made = not tables.isdisjoint(reads(routed.score).inputs)  # NaN where nothing was a candidate
            return np.isnan(score) & candidates & (not made)
        case Nearest():
            return np.isnan(search.distances(routed))
        case Balanced():
            return np.isnan(search.products_of(routed)).T
        case Rank() | Pools() | Draw():
            return np.zeros((0, 0), dtype=bool)
