"""Patterns that read tokens by more than their pairs: which tokens every process receives."""

from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.routes import Balanced, Nearest, OfInputs, Route, Routed
from maskdsl.ir.values.group_scores import Extent, Extreme, GroupScores, Softmax
from maskdsl.ir.values.token_vectors import OfGroup, vector_leaves


@dataclass(frozen=True)
class GatheredTokens:
    """Of which tensors each process receives all given tokens: to select, or to compute by them alone."""

    queries: bool = False
    keys: bool = False
    values: bool = False
    """If so, nothing else moves."""

    def in_groups(self, groups: int) -> "GatheredTokens":
        """The same where so many processes share the heads of their queries: each selects for those of all."""
        shares_queries = groups > 1 and self.keys and not self.values
        return replace(self, queries=True) if shares_queries else self


def gathered_tokens(mask: MaskIR) -> GatheredTokens:
    """What a mask, or a branch of it, needs to be gathered."""
    branches = mask.branches or (mask,)
    selecting = [route for each in branches for route in each.routed if not isinstance(route, OfInputs)]
    if any(each.multiplies or each.normalize is Normalize.BY_KEY for each in branches):
        return GatheredTokens(any(bool(selecting) or not _computes_rows(each) for each in branches), True, True)
    queries = not all(map(_selects_by_query, selecting))
    return GatheredTokens(queries, any(not _is_of_queries(each) for each in selecting))


def _computes_rows(mask: MaskIR) -> bool:
    """Whether a process that has all keys computes some of the queries without the others."""
    by_query = mask.normalize is Normalize.BY_QUERY or mask.normalize is Normalize.NONE
    return by_query and not mask.queries.is_pooled and not mask.pooled_vectors


def _is_of_queries(routed: Routed) -> bool:
    """Whether no key has a say in a route."""
    return isinstance(routed, Nearest | Balanced) and routed.side is Side.QUERY


def _selects_by_query(routed: Routed) -> bool:
    """Whether what a query selects depends on it and on keys, and on no other query."""
    match routed:
        case Route() | GroupScores():
            groups = {queries.by for queries, _ in routed.levels}
            vectors = (vector for product in routed.products for vector in (product.left, product.right))
            leaves = (leaf for vector in vectors for leaf in vector_leaves(vector))
            of_others = any(isinstance(leaf, OfGroup) and leaf.side is Side.QUERY and leaf.by != "i" for leaf in leaves)
            return groups == {"i"} and not of_others and all(each is Extent.QUERY for each in _extents(routed))
        case Balanced():
            return routed.side is Side.KEY
        case _:
            return True


def _extents(routed: Route | GroupScores) -> list[Extent]:
    """Among which pairs it compares."""
    if isinstance(routed, Route):
        return [routed.selector.per]
    return [each.per for each in routed.steps if isinstance(each, Softmax | Extreme)]
