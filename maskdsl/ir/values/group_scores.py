"""Scores of groups: what routes score and select, and what later scores are made of.

`ir/meaning/scoring` evaluates them on NumPy arrays.
"""

from collections.abc import Iterator
from dataclasses import field, replace
from enum import StrEnum, auto
from typing import assert_never

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import PAIR, Coordinate, Expression, Side
from maskdsl.ir.values.token_vectors import (
    Pool,
    PoolKind,
    Rewrite,
    TableRow,
    Vector,
    group_expressions,
    mapped,
    plain_pool,
    reads_tokens,
    table_rows,
)

GROUP = "(group)"
"""The coordinate that holds a group's number in scores and candidates, where no coordinate of a token gives it."""


@dataclass(frozen=True)
class Product:
    """Dot products of vectors of groups: the table `name`, float [query groups, key groups].

    It lacks a side that neither vector depends on: products of vectors of one side are [groups].
    """

    name: str
    left: Vector
    """Of a group of queries, if either vector is."""
    right: Vector
    queries: "Grouping | None"
    keys: "Grouping | None"

    def grouping(self, side: Side) -> "Grouping | None":
        """The groups of a side; None if the product does not depend on it."""
        return self.keys if side is Side.KEY else self.queries

    @property
    def groupings(self) -> "dict[Side, Grouping]":
        """The groups of each side that the product depends on."""
        pairs = ((side, self.grouping(side)) for side in PAIR)
        return {side: grouping for side, grouping in pairs if grouping is not None}

    @property
    def reads_tokens(self) -> bool:
        """Whether its vectors are made of queries or keys."""
        return any(reads_tokens(each) for each in (self.left, self.right))

    @property
    def indices(self) -> tuple[Coordinate, ...]:
        """What scores read the table by."""
        return tuple(grouping.index(side) for side, grouping in self.groupings.items())

    @property
    def is_plain(self) -> bool:
        """Whether it is of a query or a pool of queries, and of a key or a pool of keys."""
        return plain_pool(self.left, Side.QUERY) is not None and plain_pool(self.right, Side.KEY) is not None

    def pool(self, side: Side) -> Pool:
        """How the vectors of a side of a plain product are pooled."""
        pool = plain_pool(self.right if side is Side.KEY else self.left, side)
        assert pool is not None, "of plain products"
        return pool

    @property
    def rows(self) -> Iterator[TableRow]:
        """The rows of inputs among its vectors."""
        for vector in (self.left, self.right):
            yield from table_rows(vector)

    def mapped(self, rewrite: Rewrite) -> "Product":
        """The product with its expressions rewritten."""
        return replace(self, left=mapped(self.left, rewrite), right=mapped(self.right, rewrite))

    def over_token(self, side: Side) -> Iterator[Expression]:
        """The expressions over a token of one side that its vectors read."""
        for vector in (self.left, self.right):
            yield from group_expressions(vector, side)


@dataclass(frozen=True)
class Grouping:
    """The groups of the tokens of one side, numbered from 0.

    Tokens with the same value of the coordinate `by` form a group; `i` makes each token a group. Without a coordinate,
    groups are only numbers, such as the distance of two tokens; a single group has all tokens.
    """

    by: str | None
    count: int
    """The number of groups."""
    span: int = 1
    """How many values of `by` a group has: more than one for groups that overlap, each with its own and the next."""

    def index(self, side: Side) -> Coordinate:
        """The coordinate that holds the group's number in scores and candidates."""
        return Coordinate(side, self.by or GROUP)


class Extent(StrEnum):
    """Which pairs of groups compete in a selection, or share a normalization."""

    QUERY = auto()  # those of a query group
    KEY = auto()  # those of a key group
    KEY_OF_ALL_HEADS = auto()  # those of a key group in all heads
    HEAD = auto()  # all of a head
    BATCH = auto()  # all of a batch entry


OF_ALL_HEADS = (Extent.BATCH, Extent.KEY_OF_ALL_HEADS)
"""The extents in which pairs of several heads compete."""


@dataclass(frozen=True)
class Softmax:
    """Each score becomes its share of the softmax over the candidates among which it is; zero elsewhere."""

    per: Extent
    among: Expression | None = None
    """Boolean over a query group and a key group. None: among all candidates."""


@dataclass(frozen=True)
class Extreme:
    """Each score becomes the least or the largest of all candidates."""

    kind: PoolKind
    per: Extent


@dataclass(frozen=True)
class Gather:
    """Scores of pairs of groups become one for each pair of other groups, of all candidates that share tokens with it.

    On both sides. NaN where no candidate does.
    """

    kind: PoolKind
    queries: Grouping
    keys: Grouping


@dataclass(frozen=True)
class GatherHeads:
    """Scores of heads become one, in each pair of groups: of all heads, or of the query heads of a key head."""

    kind: PoolKind
    by_key_head: bool


Step = Softmax | Extreme | Gather | GatherHeads


def _mapped_step(step: Step, rewrite: Rewrite) -> Step:
    """The step with its expression rewritten."""
    match step:
        case Softmax(among=among):
            return step if among is None else replace(step, among=rewrite(among))
        case Extreme() | Gather() | GatherHeads():
            return step
        case _:
            assert_never(step)


def scores_name(route: str, number: int) -> str:
    """The name of a table of scores of a route: one that no input of a pattern can have."""
    return f"{route}: scores {number}"


def route_of(scores: str) -> str:
    """The route that reads the table of scores of this name."""
    return scores.partition(":")[0]


@dataclass(frozen=True)
class GroupScores:
    """Computes the table `name`, float [batch, heads, query groups, key groups]: scores that later scores read.

    A score of groups, and what is made of it step by step. Without a side whose groups are all tokens together.
    """

    name: str
    queries: Grouping
    """The groups of the score, before any step."""
    keys: Grouping
    products: tuple[Product, ...]
    score: Expression
    """As the score of a route."""
    candidates: Expression
    """Boolean over a pair of the groups `wider`. A pair of the score's groups is a candidate if it shares tokens, on
    both sides, with a pair of these for which it holds."""
    wider: tuple[Grouping, Grouping]
    """The groups of the score, where these are enough."""
    steps: tuple[Step, ...]
    span: Span | None = field(default=None, compare=False, repr=False)

    def grouping(self, side: Side) -> Grouping:
        """The groups of a side, before any step."""
        return self.keys if side is Side.KEY else self.queries

    @property
    def result(self) -> tuple[Grouping, Grouping]:
        """The groups of queries and of keys in the table."""
        gathers = [each for each in self.steps if isinstance(each, Gather)]
        return (gathers[-1].queries, gathers[-1].keys) if gathers else (self.queries, self.keys)

    @property
    def reads_tokens(self) -> bool:
        """Whether its products read queries or keys."""
        return any(each.reads_tokens for each in self.products)

    @property
    def levels(self) -> Iterator[tuple[Grouping, Grouping]]:
        """The groups that the table is computed through, and those of its candidates."""
        yield self.queries, self.keys
        yield self.wider
        yield from ((each.queries, each.keys) for each in self.steps if isinstance(each, Gather))

    def mapped(self, rewrite: Rewrite) -> "GroupScores":
        """The scores with all of their expressions rewritten."""
        return replace(
            self,
            products=tuple(each.mapped(rewrite) for each in self.products),
            score=rewrite(self.score),
            candidates=rewrite(self.candidates),
            steps=tuple(_mapped_step(each, rewrite) for each in self.steps),
        )

    def over_token(self, side: Side) -> Iterator[Expression]:
        """The expressions over a token of one side: its groups, and what its products read."""
        names = dict.fromkeys(level[side is Side.KEY].by for level in self.levels)
        yield from (Coordinate(Side.TOKEN, name) for name in names if name is not None)
        for each in self.products:
            yield from each.over_token(side)
