"""What a pattern finds in the queries and keys of a call: groups chosen by score, nearest centroids, ranks.

What is found is a table or a coordinate like any input, by the name of an `Input` of the mask that nobody gives: the
relation reads it, and all behind it (tiles, kernels) knows inputs only. `ir/meaning/route_meaning.py` gives the plain
meaning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from typing import assert_never

from maskdsl.base.source import Span
from maskdsl.ir.expressions import Coordinate, Expression, Side

GROUP = "(group)"
"""In scores and candidates, the number of a group that no coordinate of one token gives."""


Rewrite = Callable[[Expression], Expression]


class PoolKind(StrEnum):
    MEAN = auto()
    MAX = auto()
    SUM = auto()
    ROOT = auto()  # the sum over the square root of the number summed


@dataclass(frozen=True, slots=True)
class Pool:
    """A vector for each group of tokens of one side, in each head; without a kind, each token's own vector.

    A group of which no token is `among` those pooled has the vector zero.
    """

    kind: PoolKind | None
    among: Expression | None = None
    """Boolean, over one token: which of the group are pooled."""
    heads: Expression | None = None
    """Integer, over the head: the tokens of all heads of an equal value are pooled together."""
    by_key_head: bool = False
    """The same for the query heads that share a key head, whose number is known at the call."""

    def mapped(self, rewrite: Rewrite) -> "Pool":
        return self if self.among is None else replace(self, among=rewrite(self.among))


@dataclass(frozen=True, slots=True)
class Product:
    """The dot product of two pooled vectors, float: the table `name` [query groups, key groups]."""

    name: str
    query: Pool
    key: Pool

    def pool(self, side: Side) -> Pool:
        return self.key if side is Side.KEY else self.query


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the tokens of one side form groups, numbered from 0.

    Those of an equal coordinate do (`by`; each token alone by `i`). Without one, groups are just numbers, such as the
    distance of two tokens; a single one takes all.
    """

    by: str | None
    count: int
    """All numbers are below."""

    def index(self, side: Side) -> Coordinate:
        """What reads the group's number in scores and candidates."""
        return Coordinate(side, self.by or GROUP)


@dataclass(frozen=True, slots=True)
class TopCount:
    """The `count` best key groups of each query group."""

    count: Expression


@dataclass(frozen=True, slots=True)
class TopMass:
    """The fewest key groups whose share of the softmax over all candidates reaches `mass`.

    Of each query group, or of all pairs of groups of a head together.
    """

    mass: Expression
    over_head: bool


@dataclass(frozen=True, slots=True)
class Above:
    """All key groups that score more than the threshold."""

    threshold: Expression


Selector = TopCount | TopMass | Above


def told(selector: Selector) -> Expression:
    """What a selector is told: a number, a share, a threshold."""
    match selector:
        case TopCount(count=value) | TopMass(mass=value) | Above(threshold=value):
            return value
        case _:
            assert_never(selector)


def _retold(selector: Selector, value: Expression) -> Selector:
    """The same selector, told another value."""
    match selector:
        case TopCount():
            return TopCount(value)
        case TopMass(over_head=over_head):
            return TopMass(value, over_head)
        case Above():
            return Above(value)
        case _:
            assert_never(selector)


@dataclass(frozen=True, slots=True)
class Route:
    """Finds the table `name`: bool [batch, heads, query groups, key groups], which groups were selected."""

    name: str
    queries: Grouping
    keys: Grouping
    products: tuple[Product, ...]
    score: Expression
    """Float, over a query group and a key group: their first tokens' coordinates, and products read by group."""
    selector: Selector
    candidates: Expression
    """Boolean, likewise. What it excludes is never selected, nor are groups without tokens, nor scores of minus
    infinity or NaN."""
    span: Span | None = field(default=None, compare=False, repr=False)

    def grouping(self, side: Side) -> Grouping:
        return self.keys if side is Side.KEY else self.queries

    def mapped(self, rewrite: Rewrite) -> "Route":
        """With everything rewritten that is evaluated to find it."""
        return replace(
            self,
            products=tuple(
                Product(each.name, each.query.mapped(rewrite), each.key.mapped(rewrite)) for each in self.products
            ),
            score=rewrite(self.score),
            selector=_retold(self.selector, rewrite(told(self.selector))),
            candidates=rewrite(self.candidates),
        )

    def over_token(self, side: Side) -> Iterator[Expression]:
        """Everything that is evaluated for a token of one side: its group, and whether it is pooled."""
        by = self.grouping(side).by
        if by is not None:
            yield Coordinate(Side.TOKEN, by)
        pools = (each.pool(side) for each in self.products)
        yield from (pool.among for pool in pools if pool.among is not None)


@dataclass(frozen=True, slots=True)
class Nearest:
    """Finds the coordinate `name`, int [batch, heads, queries or keys]: the row of the centroids nearest to the vector.

    By Euclidean distance, ties to the lower row. `side` says whose tokens, `centroids` names float
    [heads, clusters, dim].
    """

    name: str
    side: Side
    centroids: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Balanced:
    """Finds the coordinate `name`, int [batch, heads, queries or keys]: which centroids, `first` to `last`, chose it.

    A bit for each, the first one lowest. Each takes the `size` tokens of the largest dot product, ties to the lower.
    """

    name: str
    side: Side
    centroids: str
    size: int
    first: int
    last: int
    """Not included."""
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rank:
    """Finds the coordinate `name`, int [batch, heads, tokens]: each token's place when its space is sorted by `keys`.

    Ties in declared order. `space` may be on both sides, whose tokens are then the same.
    """

    name: str
    side: Side
    space: str
    keys: tuple[Expression, ...]
    span: Span | None = field(default=None, compare=False, repr=False)


Routed = Route | Nearest | Balanced | Rank


def found_expressions(found: Routed) -> Iterator[Expression]:
    """Everything that is evaluated to find it."""
    match found:
        case Route(products=products, score=score, candidates=candidates, selector=selector):
            yield from (score, candidates, told(selector))
            pools = (pool for product in products for pool in (product.query, product.key))
            yield from (pool.among for pool in pools if pool.among is not None)
        case Rank(keys=keys):
            yield from keys
        case Nearest() | Balanced():
            return
        case _:
            assert_never(found)
