"""A search for later tokens that decide what earlier queries select, or get: in one batch entry and head.

Followed backwards: a query may read tokens up to its own position. So the row that it reads of a route may, and so may
what is compared to make the row, down to the vectors of groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import field
from functools import reduce
from typing import assert_never

import numpy as np

from maskdsl.analysis.causal.group_pairs import GroupPairs, Level
from maskdsl.analysis.causal.token_reads import NOTHING, TokenReads
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import FALSE, PAIR, TRUE, Expression, Side, apply
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Array, Op
from maskdsl.ir.routes import (
    Above,
    Route,
    Scored,
    TopCount,
    selector_argument,
)
from maskdsl.ir.values.group_scores import (
    Extent,
    Extreme,
    Gather,
    GatherHeads,
    Grouping,
    GroupScores,
    Product,
    Softmax,
    route_of,
)
from maskdsl.ir.values.token_vectors import Vector

_FREE = 1 << 39
"""The limit of what no query reads."""
_TOKENS = "i"


@dataclass(frozen=True)
class Later:
    """Why an earlier query depends on a later token, and whether it certainly does."""

    reason: str
    certain: bool


@dataclass(frozen=True, eq=False)
class LaterTokens:
    """Looks for tokens that are read although they are later than a query that they decide for."""

    mask: MaskIR
    tokens: TokenReads
    seen: set[tuple[str, bytes, Expression]] = field(default_factory=set)
    """The tables, and the limits of the queries that read them, that are known."""

    def of_pattern(self) -> Iterator[Later]:
        """Why queries get something of later tokens."""
        mask, limits, pairs = self.mask, self.tokens.positions(Side.QUERY), self._attending
        level = pairs.level
        yield from self.attended()
        yield from self._deeper([mask.relation], limits, level[0])
        vectors = [each for pair in mask.pairs for each in (pair.query, pair.key)]
        vectors += (each for product in mask.products for each in (product.left, product.right))
        vectors += (each.vector for each in mask.values)
        vectors += () if mask.key_value is None else (mask.key_value,)
        read = [*mask.expressions, *(each.weight for each in mask.values)]
        lasts = self._lasts(level, read, (), vectors)
        yield from self._told(pairs, limits, lasts, "a score or a value of query {query} depends on token {token}")

    def attended(self) -> Iterator[Later]:
        """Later tokens that queries attend."""
        limits, lasts = (self.tokens.positions(side) for side in PAIR)
        yield from self._beyond(self._attending, limits, lasts, "query {query} attends token {token}")

    @property
    def _attending(self) -> GroupPairs:
        level = Grouping(_TOKENS, self.mask.queries.length), Grouping(_TOKENS, self.mask.keys.length)
        return GroupPairs(self.tokens, level, self.mask.relation)

    def of_routed(self, name: str, limits: Array, spared: Expression = FALSE) -> Iterator[Later]:
        """Why rows of a table depend on later tokens; queries have these limits, int64 [queries].

        Scores of the pairs of groups that are `spared` do not matter.
        """
        routed = next(each for each in self.mask.routed if each.name == name)
        known = name, limits.tobytes(), spared
        if known in self.seen:
            return
        self.seen.add(known)
        match routed:
            case Route():
                yield from self._of_route(routed, limits)
            case GroupScores():
                yield from self._of_scores(routed, limits, spared)
            case _:
                pass

    def _of_route(self, route: Route, limits: Array) -> Iterator[Later]:
        level, others = (route.queries, route.keys), [route.candidates, route.always, selector_argument(route.selector)]
        if (reason := self._unknown_groups([level])) is not None:
            yield Later(reason, False)
            return
        rows = self._of_groups(limits, route.queries)
        if not isinstance(route.selector, Above):
            rows = _shared(rows, route.selector.per)
        # What is selected always is so whatever its score, but for its share of a mass.
        spared = route.always if isinstance(route.selector, TopCount | Above) else FALSE
        needed = apply(Op.AND, route.candidates, apply(Op.NOT, spared))
        possible = apply(Op.OR, route.candidates, route.always)
        for read, relation, products in (([route.score], needed, route.products), (others, possible, ())):
            pairs = GroupPairs(self.tokens, level, relation)
            yield from self._told(pairs, rows, self._lasts(level, read, products), _selecting(route.name))
        yield from self._deeper([route.score], rows, route.queries, spared)
        yield from self._deeper(others, rows, route.queries)

    def _of_scores(self, made: GroupScores, limits: Array, spared: Expression) -> Iterator[Later]:
        level, said = (made.queries, made.keys), _selecting(route_of(made.name))
        levels = [level, *((each.queries, each.keys) for each in made.steps if isinstance(each, Gather))]
        if (reason := self._unknown_groups([*levels, made.wider])) is not None:
            yield Later(reason, False)
            return
        rows = self._of_groups(limits, levels[-1][0])
        for step in reversed(made.steps):
            match step:
                case Gather(queries=queries):
                    levels.pop()
                    rows = self._of_groups(self._of_queries(rows, queries), levels[-1][0])
                case Softmax(per=per) | Extreme(per=per):
                    rows = _shared(rows, per)
                case GatherHeads():
                    pass
                case _:
                    assert_never(step)
        among = _among(made)
        if any(isinstance(each, Softmax | Extreme) for each in made.steps) or not self._tells(level, spared):
            spared = FALSE
        among = apply(Op.AND, among, apply(Op.NOT, spared))
        lasts, of_candidates = (
            self._lasts(level, [made.score, among], made.products),
            self._lasts(made.wider, [made.candidates]),
        )
        if made.wider == level:
            pairs = GroupPairs(self.tokens, level, apply(Op.AND, among, made.candidates))
            for each in (lasts, of_candidates):
                yield from self._told(pairs, rows, each, said)
        else:
            pairs, finer = (GroupPairs(self.tokens, *each) for each in ((level, among), (made.wider, made.candidates)))
            limits = self._of_groups(self._of_queries(rows, level[0]), made.wider[0])
            yield from self._told(finer, limits, of_candidates, said)
            whole = self._of_keys(lasts[1], level[1], made.wider[1])
            if pairs.beyond(rows, lasts[1]) is not None:
                yield from self._told(finer, limits, (np.full(len(limits), NOTHING), whole), said)
            yield from self._told(pairs, rows, (lasts[0], np.full(len(lasts[1]), NOTHING)), said)
        yield from self._deeper([made.score], rows, made.queries, spared)
        yield from self._deeper([made.candidates, among], rows, made.queries)

    def _tells(self, level: Level, spared: Expression) -> bool:
        """Whether each group has one value of each coordinate that is read, so that the groups of a pair decide."""
        read = reads(spared)
        return not read.spaces and all(
            self.tokens.is_known(side, name) and self._is_constant(side, grouping, name)
            for side, grouping in zip(PAIR, level, strict=True)
            for name in read.names(side)
        )

    def _is_constant(self, side: Side, grouping: Grouping, name: str) -> bool:
        groups, tokens = self.tokens.search.having(side, grouping)
        values = self.tokens.coordinates[side].values(name)
        return bool(np.all(values[tokens] == self.tokens.first(values, side, grouping)[groups]))

    def _deeper(
        self, expressions: Sequence[Expression], rows: Array, grouping: Grouping, spared: Expression = FALSE
    ) -> Iterator[Later]:
        """Why the tables that are read depend on later tokens."""
        limits = self._of_queries(rows, grouping)
        names = {each.name for each in self.mask.routed if isinstance(each, Scored)}
        for name in reads(*expressions).inputs:
            if name in names:
                yield from self.of_routed(name, limits, spared)

    def _lasts(
        self,
        level: Level,
        expressions: Sequence[Expression],
        products: Sequence[Product] = (),
        vectors: Sequence[Vector] = (),
    ) -> tuple[Array, Array]:
        """int64 [query groups], [key groups]: the last token that is read where each group is read."""
        queries, keys = (
            reduce(
                np.maximum,
                (
                    *(self.tokens.of_expression(side, each, grouping) for each in expressions),
                    *(self.tokens.of_product(each, side, grouping) for each in products),
                    *(self.tokens.of_vector(each, side, grouping) for each in vectors),
                ),
                np.full(grouping.count, NOTHING),
            )
            for side, grouping in zip(PAIR, level, strict=True)
        )
        return queries, keys

    def _told(self, pairs: GroupPairs, limits: Array, lasts: tuple[Array, Array], said: str) -> Iterator[Later]:
        """Why query groups read tokens beyond their limits, themselves or in a key group of one of the pairs."""
        queries, keys = lasts
        beyond = np.flatnonzero(queries > limits)
        if len(beyond):
            yield self._later(int(limits[beyond[0]]), int(queries[beyond[0]]), said)
        yield from self._beyond(pairs, limits, keys, said)

    def _beyond(self, pairs: GroupPairs, limits: Array, keys: Array, said: str) -> Iterator[Later]:
        pair = pairs.beyond(limits, keys)
        if pair is not None:
            yield self._later(int(limits[pair[0]]), int(keys[pair[1]]), said, pairs.is_certain)

    def _later(self, query: int, last: int, said: str, certain: bool = True) -> Later:
        unknown = self.tokens.reason(last)
        if unknown is not None:
            return Later(unknown, False)
        return Later(said.format(query=query, token=last), certain)

    def _unknown_groups(self, levels: Sequence[Level]) -> str | None:
        """Why the groups of a level are not known, if they are not."""
        for level in levels:
            for side, grouping in zip(PAIR, level, strict=True):
                if not self.tokens.has_groups(side, grouping):
                    return self.tokens.unknown_groups(grouping)
        return None

    def _of_groups(self, limits: Array, grouping: Grouping) -> Array:
        """int64 [groups]: the least limit of the queries of each group."""
        groups, tokens = self.tokens.search.having(Side.QUERY, grouping)
        result = np.full(grouping.count, _FREE)
        np.minimum.at(result, groups, limits[tokens])
        return result

    def _of_queries(self, rows: Array, grouping: Grouping) -> Array:
        """int64 [queries]: the least limit of the groups of each query."""
        groups, tokens = self.tokens.search.having(Side.QUERY, grouping)
        result = np.full(self.mask.queries.length, _FREE)
        np.minimum.at(result, tokens, rows[groups])
        return result

    def _of_keys(self, lasts: Array, pooled: Grouping, other: Grouping) -> Array:
        """int64 [other groups]: the last token of all groups that share keys with each other group."""
        groups, tokens = self.tokens.search.having(Side.KEY, pooled)
        of_tokens = np.full(self.mask.keys.length, NOTHING)
        np.maximum.at(of_tokens, tokens, lasts[groups])
        others, tokens = self.tokens.search.having(Side.KEY, other)
        result = np.full(other.count, NOTHING)
        np.maximum.at(result, others, of_tokens[tokens])
        return result


def _selecting(route: str) -> str:
    return f"what query {{query}} selects by `{route}` depends on token {{token}}"


def _shared(rows: Array, per: Extent) -> Array:
    """The limits of query groups, those of all together where they compete."""
    return rows if per is Extent.QUERY or not len(rows) else np.full(len(rows), rows.min())


def _among(made: GroupScores) -> Expression:
    """The condition without which no score of a table matters: that of a softmax before any other step but heads."""
    first = next((each for each in made.steps if not isinstance(each, GatherHeads)), None)
    return first.among if isinstance(first, Softmax) and first.among is not None else TRUE
