"""Routes: inputs that are computed from the queries and keys of a call. Selected groups, nearest centroids, ranks.

The result of a route is a table or a coordinate, under the name of an `Input` of the mask that the caller does not
give. The relation reads it like any input, so tiles and kernels know inputs only. `ir/meaning/route_meaning.py`
evaluates routes on NumPy arrays.
"""

from collections.abc import Callable, Iterator
from dataclasses import field, replace
from enum import StrEnum, auto
from functools import cached_property
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import Coordinate, Expression, Side

GROUP = "(group)"
"""The coordinate that holds a group's number in scores and candidates, where no coordinate of a token gives it."""


Rewrite = Callable[[Expression], Expression]


class PoolKind(StrEnum):
    """How the vectors of a group become one."""

    MEAN = auto()
    MAX = auto()
    SUM = auto()
    ROOT = auto()  # the sum over the square root of the number summed


@dataclass(frozen=True)
class Pool:
    """One vector for each group of tokens of one side, in each head; without a kind, the vector of each token.

    The vector of a group without pooled tokens is zero.
    """

    kind: PoolKind | None
    among: Expression | None = None
    """Boolean over one token: whether the token is pooled. None: all are."""
    heads: Expression | None = None
    """Integer over the head: heads of equal value are pooled together. None: each head alone."""
    by_key_head: bool = False
    """Whether the query heads that share a key head are pooled together; the call decides how many they are."""

    def mapped(self, rewrite: Rewrite) -> "Pool":
        """The pool with its expressions over tokens rewritten."""
        return self if self.among is None else replace(self, among=rewrite(self.among))


@dataclass(frozen=True)
class Product:
    """Dot products of pooled vectors: the table `name`, float [query groups, key groups]."""

    name: str
    query: Pool
    key: Pool

    def pool(self, side: Side) -> Pool:
        return self.key if side is Side.KEY else self.query


@dataclass(frozen=True)
class Grouping:
    """The groups of the tokens of one side, numbered from 0.

    Tokens with the same value of the coordinate `by` form a group; `i` makes each token a group. Without a coordinate,
    groups are only numbers, such as the distance of two tokens; a single group has all tokens.
    """

    by: str | None
    count: int
    """The number of groups."""

    def index(self, side: Side) -> Coordinate:
        """The coordinate that holds the group's number in scores and candidates."""
        return Coordinate(side, self.by or GROUP)


@dataclass(frozen=True)
class TopCount:
    """Selects the `count` key groups of the highest score, for each query group."""

    count: Expression


@dataclass(frozen=True)
class TopMass:
    """Selects the fewest key groups whose share of the softmax over all candidates reaches `mass`.

    For each query group, or (`over_head`) over all pairs of groups of a head together.
    """

    mass: Expression
    over_head: bool


@dataclass(frozen=True)
class Above:
    """Selects all key groups whose score exceeds the threshold."""

    threshold: Expression


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
            return TopCount(value)
        case TopMass(over_head=over_head):
            return TopMass(value, over_head)
        case Above():
            return Above(value)
        case _:
            assert_never(selector)


@dataclass(frozen=True)
class Route:
    """Computes the table `name`, bool [batch, heads, query groups, key groups]: which key groups are selected."""

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
    span: Span | None = field(default=None, compare=False, repr=False)

    def grouping(self, side: Side) -> Grouping:
        """The groups of a side."""
        return self.keys if side is Side.KEY else self.queries

    def mapped(self, rewrite: Rewrite) -> "Route":
        """The route with all of its expressions rewritten."""
        return replace(
            self,
            products=tuple(
                Product(each.name, each.query.mapped(rewrite), each.key.mapped(rewrite)) for each in self.products
            ),
            score=rewrite(self.score),
            selector=_with_argument(self.selector, rewrite(selector_argument(self.selector))),
            candidates=rewrite(self.candidates),
        )

    def over_token(self, side: Side) -> Iterator[Expression]:
        """The expressions over a token of one side: its group, and whether it is pooled."""
        by = self.grouping(side).by
        if by is not None:
            yield Coordinate(Side.TOKEN, by)
        pools = (each.pool(side) for each in self.products)
        yield from (pool.among for pool in pools if pool.among is not None)


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


Routed = Route | Nearest | Balanced | Rank | Pools | Draw
OfInputs = Rank | Pools | Draw
"""Routes that read inputs or nothing, but no queries and keys."""


def route_expressions(routed: Routed) -> Iterator[Expression]:
    """All expressions that are evaluated to compute a route."""
    match routed:
        case Route(products=products, score=score, candidates=candidates, selector=selector):
            yield from (score, candidates, selector_argument(selector))
            pools = (pool for product in products for pool in (product.query, product.key))
            yield from (pool.among for pool in pools if pool.among is not None)
        case Rank(keys=keys):
            yield from keys
        case Draw(count=count, numbers=numbers, candidates=candidates):
            yield from (count, *numbers, candidates)
        case Nearest() | Balanced() | Pools():
            return
        case _:
            assert_never(routed)
