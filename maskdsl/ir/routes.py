"""Routes: inputs that are computed from the queries and keys of a call. Selected groups, nearest centroids, ranks.

The result of a route is a table or a coordinate, under the name of an `Input` of the mask that the caller does not
give. The relation reads it like any input, so tiles and kernels know inputs only. `ir/meaning/route_meaning.py`
evaluates routes on NumPy arrays.
"""

from collections.abc import Iterator
from dataclasses import field, replace
from enum import StrEnum, auto
from functools import cached_property
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import FALSE, Constant, Coordinate, Expression, Side
from maskdsl.ir.values.group_scores import Extent, Grouping, GroupScores, Product, Softmax
from maskdsl.ir.values.token_vectors import (
    Rewrite,
    vector_expressions,
)


@dataclass(frozen=True)
class TopCount:
    """Selects the `count` pairs of the highest score."""

    count: Expression
    per: Extent = Extent.QUERY


@dataclass(frozen=True)
class TopMass:
    """Selects the fewest pairs whose share of the weights of all candidates reaches `mass`, by descending weight.

    The weight of a pair is the exponential of its score, or (`weighs`) the score, none where that is negative; all
    candidates are selected if no weight is positive. Without `reach`: the most pairs whose share stays within `mass`,
    at least one.
    """

    mass: Expression
    per: Extent = Extent.QUERY
    weighs: bool = False
    reach: bool = True


@dataclass(frozen=True)
class Above:
    """Selects all pairs whose score exceeds the threshold."""

    threshold: Expression
    per: Extent = Extent.QUERY
    """Every pair is selected by itself."""


Selector = TopCount | TopMass | Above


def selector_argument(selector: Selector) -> Expression:
    """The argument of a selector: its count, mass or threshold."""
    match selector:
        case TopCount(count=value) | TopMass(mass=value) | Above(threshold=value):
            return value
        case _:
            assert_never(selector)


def _with_argument(selector: Selector, value: Expression) -> Selector:
    """The same selector with another argument."""
    match selector:
        case TopCount():
            return replace(selector, count=value)
        case TopMass():
            return replace(selector, mass=value)
        case Above():
            return replace(selector, threshold=value)
        case _:
            assert_never(selector)


@dataclass(frozen=True)
class Route:
    """Computes the table `name`, bool [batch, heads, query groups, key groups]: which key groups are selected.

    Where its input is sparse (`ir/rewrites/listed_routes.py`), it is a list with the same entries.
    """

    name: str
    queries: Grouping
    keys: Grouping
    products: tuple[Product, ...]
    score: Expression
    """Float, over a query group and a key group: reads the coordinates of their first tokens, and products by group."""
    selector: Selector
    candidates: Expression
    """Boolean, likewise. Groups that it excludes are never selected, nor are groups without tokens, nor scores of minus
    infinity or NaN."""
    always: Expression = FALSE
    """Boolean, likewise: groups that are selected before all others, candidates or not."""
    span: Span | None = field(default=None, compare=False, repr=False)

    def grouping(self, side: Side) -> Grouping:
        """The groups of a side."""
        return self.keys if side is Side.KEY else self.queries

    @property
    def reads_tokens(self) -> bool:
        """Whether its products read queries or keys."""
        return any(each.reads_tokens for each in self.products)

    @property
    def levels(self) -> Iterator[tuple[Grouping, Grouping]]:
        """The groups that are scored."""
        yield self.queries, self.keys

    @property
    def most(self) -> int:
        """The key groups that a query group selects at most, of a constant count."""
        assert isinstance(self.selector, TopCount) and isinstance(self.selector.count, Constant), self.selector
        return min(max(int(self.selector.count.value), 0), self.keys.count)

    @property
    def is_plain(self) -> bool:
        """Whether each query group selects for itself, by products of pools, and a mass as softmaxes fill it."""
        match self.selector:
            case TopMass(weighs=weighs, reach=reach):
                plain = self.always == FALSE and reach and not weighs
            case TopCount() | Above():
                plain = True
        plain = plain and all(each.is_plain for each in self.products)
        return plain and self.selector.per is Extent.QUERY and self.queries.span == self.keys.span == 1

    def mapped(self, rewrite: Rewrite) -> "Route":
        """The route with all of its expressions rewritten."""
        return replace(
            self,
            products=tuple(each.mapped(rewrite) for each in self.products),
            score=rewrite(self.score),
            selector=_with_argument(self.selector, rewrite(selector_argument(self.selector))),
            candidates=rewrite(self.candidates),
            always=rewrite(self.always),
        )

    def over_token(self, side: Side) -> Iterator[Expression]:
        """The expressions over a token of one side: its group, and what its products read."""
        by = self.grouping(side).by
        if by is not None:
            yield Coordinate(Side.TOKEN, by)
        for each in self.products:
            yield from each.over_token(side)


@dataclass(frozen=True)
class Nearest:
    """Computes the coordinate `name`, int [batch, heads, tokens of `side`]: the centroid nearest to each vector.

    By Euclidean distance, ties to the lower row. `centroids` names an input, float [heads, clusters, dim].
    """

    name: str
    side: Side
    centroids: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Balanced:
    """Computes the coordinate `name`, int [batch, heads, tokens of `side`]: which centroids chose each token, as bits.

    Each centroid chooses the `size` tokens of the largest dot product, ties to the lower position. Bit 0 is the
    centroid `first`. `centroids` names an input, float [heads, clusters, dim].
    """

    name: str
    side: Side
    centroids: str
    size: int
    first: int
    last: int
    """Exclusive."""
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Rank:
    """Computes the coordinate `name`, int [batch, heads, tokens]: each token's rank when its space is sorted by `keys`.

    Ties keep declared order. If both sides have the space, its tokens are the same on both.
    """

    name: str
    side: Side
    space: str
    keys: tuple[Expression, ...]
    span: Span | None = field(default=None, compare=False, repr=False)


class PoolFact(StrEnum):
    """What is known of a pool: its first and its last token, as positions in the given space, and their number."""

    FIRST = auto()
    LAST = auto()
    COUNT = auto()


@dataclass(frozen=True)
class Pools:
    """Computes the coordinate `name`, int [batch, pools]: a fact about each pool of a space that is pooled by group.

    Pools without tokens have first 0, last -1 and count 0.
    """

    name: str
    side: Side
    space: str
    fact: PoolFact
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class DrawnLists:
    """The tensor of a sparse input, by value: see `ir/values/entries.py`."""

    shape: tuple[int, ...]
    numbers: bytes
    """int64"""

    @cached_property
    def array(self) -> NDArray[Any]:
        """int64, of this shape."""
        return np.frombuffer(self.numbers, dtype=np.int64).reshape(self.shape)


@dataclass(frozen=True)
class Draw:
    """Computes the sparse table `name`, [heads, query groups, key groups] or without heads: groups drawn at random.

    Each query group draws the first `count` candidates in the order of a permutation of the key groups, which
    `ir/values/drawing.py` makes from the seed, the numbers and the query group. All of it is known without a call.
    """

    name: str
    queries: Grouping
    keys: Grouping
    count: Expression
    seed: int
    numbers: tuple[Expression, ...]
    """Integers over the head, as is the count."""
    candidates: Expression
    """Boolean over a query group and a key group: reads the coordinates of their first tokens, and the head."""
    lists: DrawnLists | None = None
    """What is drawn, once it is known."""
    span: Span | None = field(default=None, compare=False, repr=False)

    def grouping(self, side: Side) -> Grouping:
        """The groups of a side."""
        return self.keys if side is Side.KEY else self.queries


Routed = GroupScores | Route | Nearest | Balanced | Rank | Pools | Draw
Scored = GroupScores | Route
"""Routes that score groups."""
OfInputs = Rank | Pools | Draw
"""Routes that read inputs or nothing, but no queries and keys."""


def route_expressions(routed: Routed) -> Iterator[Expression]:
    """All expressions that are evaluated to compute a route."""
    yield from pair_expressions(routed)
    if isinstance(routed, Scored):
        for product in routed.products:
            for vector in (product.left, product.right):
                yield from vector_expressions(vector)


def pair_expressions(routed: Routed) -> Iterator[Expression]:
    """The expressions of a route but those of its vectors."""
    match routed:
        case Route(score=score, candidates=candidates, selector=selector, always=always):
            yield from (score, candidates, selector_argument(selector), always)
        case GroupScores(score=score, candidates=candidates, steps=steps):
            yield from (score, candidates)
            yield from (each.among for each in steps if isinstance(each, Softmax) and each.among is not None)
        case Rank(keys=keys):
            yield from keys
        case Draw(count=count, numbers=numbers, candidates=candidates):
            yield from (count, *numbers, candidates)
        case Nearest() | Balanced() | Pools():
            pass
        case _:
            assert_never(routed)
