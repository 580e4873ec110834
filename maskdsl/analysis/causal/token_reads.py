"""The last token that vectors and expressions of a query, a key, or a group of them read. Linear in the tokens.

A token has its query, its key, and its entries of inputs with a dimension of tokens. Other inputs belong to no token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind, said
from maskdsl.ir.declared.sequences import Space
from maskdsl.ir.expressions import PAIR, Apply, Constant, Coordinate, Expression, Read, Side, walk
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import Trace, pooling_trace, trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.pooling import PoolMeaning
from maskdsl.ir.meaning.route_meaning import RouteSearch
from maskdsl.ir.ops import Array, Op
from maskdsl.ir.routes import Nearest, PoolFact, Pools, Rank
from maskdsl.ir.values.group_scores import Grouping, Product
from maskdsl.ir.values.token_vectors import (
    OfGroup,
    OfToken,
    TableRow,
    Vector,
    reads_tokens,
    vector_expressions,
    vector_leaves,
)

NOTHING = -1
"""The last token of what reads none."""
_UNKNOWN = 1 << 40
"""From here on, numbers stand for reasons why nobody can say which tokens are read."""


@dataclass(frozen=True, eq=False)
class TokenReads:
    """The last tokens that are read in one head and batch entry, as positions among the tokens of the queries."""

    mask: MaskIR
    inputs: Mapping[str, Array]
    """Those that are known, with ranks and facts about pools."""
    batch: int
    head: int
    reasons: list[str] = field(default_factory=list)
    known: dict[Side, Array] = field(default_factory=dict)

    @cached_property
    def of_callers(self) -> frozenset[str]:
        """The inputs that are given, and those made of them."""
        return frozenset(each.name for each in self.mask.passed)

    @cached_property
    def search(self) -> RouteSearch:
        """Finds groups without queries and keys."""
        return RouteSearch(self.mask, self.inputs, None, None, self.batch, self.head)

    @cached_property
    def coordinates(self) -> dict[Side, Coordinates]:
        """The coordinates of the tokens of each side."""
        return {side: self.search.coordinates(side) for side in PAIR}

    def unknown(self, reason: str) -> int:
        """A number that is greater than any position, and stands for a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return _UNKNOWN + self.reasons.index(reason)

    def reason(self, number: int) -> str | None:
        """The reason that a number stands for; None for a position."""
        return self.reasons[number - _UNKNOWN] if number >= _UNKNOWN else None

    def is_known(self, side: Side, name: str) -> bool:
        """Whether the values of a coordinate are known."""
        return self.traced(side, [Coordinate(Side.TOKEN, name)]).inputs <= self.inputs.keys()

    def has_groups(self, side: Side, grouping: Grouping) -> bool:
        """Whether it is known which tokens are in which group."""
        counts = self.mask.sequences[side].counts
        known = counts is None or self.is_known(side, counts)
        return grouping.by is None or (known and self.is_known(side, grouping.by))

    def unknown_groups(self, grouping: Grouping) -> str:
        """Why it is not known which tokens are in which group."""
        return f"which tokens have which `{grouping.by}` is known in calls alone"

    def traced(self, side: Side, expressions: Sequence[Expression]) -> Trace:
        """The trace of expressions over tokens of a side."""
        return trace(self.mask.sequences[side], expressions)

    def positions(self, side: Side) -> Array:
        """int64 [tokens]: the position of each token, of a pooled one the last that it is pooled from."""
        if side not in self.known:
            self.known[side] = np.concatenate([*map(self._of_space, self.mask.sequences[side].spaces)])
        return self.known[side]

    def _of_space(self, space: Space) -> Array:
        given, start = self.mask.queries.given, 0
        for root in given:
            if root == space.root:
                break
            start += root.size
        else:
            return np.full(space.size, self.unknown(f"`{space.root.name}` has other tokens than the queries"))
        needed = pooling_trace(space.groupings).inputs
        if not needed <= self.inputs.keys():
            return np.full(space.size, self.unknown(f"the pools of `{space.name}` are known in calls alone"))
        last = PoolMeaning(self.mask, self.inputs, self.batch).facts(space)[PoolFact.LAST]
        return np.where(last < 0, NOTHING, last + start)

    # Expressions

    def of_tokens(self, side: Side, expression: Expression) -> Array:
        """int64 [tokens]: the last token read where each token of a side is read."""
        coordinates = reads(expression).of(side)
        traced = self.traced(side, coordinates)
        result = np.full(self.mask.sequences[side].length, NOTHING)
        inner = (node for each in traced.expressions for node in walk(each))
        indexed = (each for each in (*walk(expression), *inner) if isinstance(each, Read))
        for last in (*(self._of_coordinate(side, name) for name in traced.given), *self._of_reads(side, indexed)):
            result = np.maximum(result, last)
        return result

    def _of_coordinate(self, side: Side, name: str) -> Array | int:
        """The last token that decides a coordinate that is an input, or is found by a route."""
        routed = next((each for each in self.mask.routed if each.name == name), None)
        match routed:
            case None | Nearest():
                return self.positions(side)
            case Rank(side=of, keys=keys):
                fixed = not self.traced(of, list(keys)).inputs
                return NOTHING if fixed else self.unknown("a rank depends on all tokens")
            case Pools():
                fixed = not pooling_trace(self.mask.groupings).inputs
                return NOTHING if fixed else self.unknown("pools by an input depend on all tokens")
            case _:
                return self.unknown(f"`{name.rpartition('_')[0]}` is found among all tokens")

    def _of_reads(self, side: Side, nodes: Iterator[Read]) -> Iterator[Array | int]:
        """The last tokens of the entries of inputs that are read for a token of a side."""
        for node in nodes:
            declared = self.mask.input(node.input)
            if declared is None or node.input not in self.of_callers:
                continue
            for index, dimension in zip(node.indices, declared.dimensions, strict=True):
                if dimension.kind is not DimensionKind.TOKENS or isinstance(index, Constant):
                    continue
                sides = {each.side for each in reads(index).coordinates}
                if _is_position(index):
                    if sides <= {side, Side.TOKEN}:
                        yield self.positions(side)
                elif sides == {side} or (side is Side.QUERY and sides != {Side.KEY}):
                    yield self.unknown(f"`{said(node.input)}` is read at other tokens")

    def of_expression(self, side: Side, expression: Expression, grouping: Grouping) -> Array:
        """int64 [groups]: the last token read where an expression over groups reads a side."""
        last = self.of_tokens(side, expression)
        if grouping.by is None:
            return np.full(grouping.count, last.max(initial=NOTHING))
        return self.first(last, side, grouping)

    def first(self, values: Array, side: Side, grouping: Grouping) -> Array:
        """[groups]: the value of the first token of each group."""
        return values if grouping.by == "i" and grouping.span == 1 else self.search.of_groups(values, side, grouping)

    # Vectors

    def of_vector(self, vector: Vector, side: Side, grouping: Grouping) -> Array:
        """int64 [groups]: the last token of a side that the vectors of groups are made of."""
        result = np.full(grouping.count, NOTHING)
        rows = (each.read for each in vector_leaves(vector) if isinstance(each, TableRow))
        for read in (*vector_expressions(vector), *rows):
            result = np.maximum(result, self.of_expression(side, read, grouping))
        for leaf in vector_leaves(vector):
            match leaf:
                case OfToken(side=of) if of is side:
                    result = np.maximum(result, self.first(self.positions(side), side, grouping))
                case OfGroup(side=of) if of is side:
                    result = np.maximum(result, self.of_pool(leaf, grouping))
        return result

    def of_pool(self, group: OfGroup, grouping: Grouping) -> Array:
        """int64 [groups]: the last token that is pooled for each group."""
        side, pool, pooled = group.side, group.pool, Grouping(group.by, group.count, group.pool.span)
        if not self.has_groups(side, pooled):
            return np.full(grouping.count, self.unknown(self.unknown_groups(pooled)))
        expressions = [Coordinate(side, group.by), *(() if pool.among is None else (pool.among,))]
        if pool.of is not None:
            expressions += vector_expressions(pool.of)
            expressions += (each.read for each in vector_leaves(pool.of) if isinstance(each, TableRow))
        token = np.full(self.mask.sequences[side].length, NOTHING)
        for each in expressions:
            token = np.maximum(token, self.of_tokens(side, each))
        if pool.of is None or reads_tokens(pool.of):
            token = np.maximum(token, self.positions(side))
        groups, tokens = self.search.having(side, pooled)
        if pool.among is not None and self._is_known_among(side, pool.among):
            among = self.coordinates[side].evaluate(pool.among)[tokens]
            groups, tokens = groups[among], tokens[among]
        lasts = np.full(group.count, NOTHING)
        np.maximum.at(lasts, groups, token[tokens])
        return self.renumbered(lasts, pooled, side, grouping)

    def _is_known_among(self, side: Side, among: Expression) -> bool:
        read = reads(among)
        return not read.inputs and all(self.is_known(side, each.name) for each in read.coordinates)

    def renumbered(self, lasts: Array, read: Grouping, side: Side, grouping: Grouping) -> Array:
        """[groups]: the values of the groups of one kind that groups of another read."""
        if read == grouping:
            return lasts
        if read.by is None:
            return np.full(grouping.count, lasts.max(initial=NOTHING))
        if not self.has_groups(side, read):
            return np.full(grouping.count, self.unknown(self.unknown_groups(read)))
        numbers = self.first(self.coordinates[side].values(read.by), side, grouping)
        return np.asarray(lasts[np.clip(numbers, 0, read.count - 1)])

    def of_product(self, product: Product, side: Side, grouping: Grouping) -> Array:
        """int64 [groups]: the last token of a side that a product is made of."""
        read = product.grouping(side)
        if read is None:
            return np.full(grouping.count, NOTHING)
        if not self.has_groups(side, read):
            return np.full(grouping.count, self.unknown(self.unknown_groups(read)))
        lasts = np.full(read.count, NOTHING)
        for vector in (product.left, product.right):
            lasts = np.maximum(lasts, self.of_vector(vector, side, read))
        return self.renumbered(lasts, read, side, grouping)


def _is_position(index: Expression) -> bool:
    """Whether an index is the position of one token, in the sequence or in a space of it, or of an earlier one."""
    match index:
        case Coordinate(name="i") | Apply(op=Op.SUBTRACT, arguments=(Coordinate(name="i"), Constant())):
            return True
        case _:
            return False
