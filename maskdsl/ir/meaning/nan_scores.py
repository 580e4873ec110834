"""Scores of routes that are NaN, found by their plain meaning: in debugging an error, else never selected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from maskdsl.base.source import Span
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.pooling import all_tokens
from maskdsl.ir.meaning.route_meaning import RouteSearch
from maskdsl.ir.ops import Array
from maskdsl.ir.routes import Balanced, Nearest, Rank, Route, Routed


@dataclass(frozen=True)
class NanScores:
    """Those of one route in one head, and the first of them. Of `nearest` and `balanced`, tokens and centroids."""

    route: str
    batch: int
    head: int
    query: int
    key: int
    count: int
    span: Span | None


def nan_scores(mask: MaskIR, inputs: Mapping[str, Array], q: Array, k: Array) -> Iterator[NanScores]:
    """From the inputs with what is found, q [batch, heads, queries, dim] and k [batch, key heads, keys, dim]."""
    k = all_tokens(mask.keys, k)
    for found in (each for each in mask.routed if each.name in inputs):
        for batch, head in np.ndindex(*q.shape[:2]):
            wrong = _is_nan(RouteSearch(mask, inputs, q, k, batch, head), found)
            if wrong.any():
                query, key = (int(position) for position in np.argwhere(wrong)[0])
                count = int(np.count_nonzero(wrong))
                yield NanScores(_route_name(found), batch, head, query, key, count, found.span)


def _route_name(found: Routed) -> str:
    """What is found for both sides apart has the side in its name."""
    return found.name if isinstance(found, Route | Rank) else found.name.removesuffix(f"_{found.side.plural}")


def _is_nan(finding: RouteSearch, found: Routed) -> Array:
    """bool [query groups, key groups], or [tokens, centroids]."""
    match found:
        case Route():
            score, candidates = finding.scored(found)
            return np.isnan(score) & candidates
        case Nearest():
            return np.isnan(finding.distances(found))
        case Balanced():
            return np.isnan(finding.products_of(found)).T
        case Rank():
            return np.zeros((0, 0), dtype=bool)
