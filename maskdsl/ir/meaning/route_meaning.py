"""Reference semantics of routes on NumPy arrays: the oracle for everything that computes them faster.

Scores are float64. Takes time and memory for each pair of groups.
"""

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import GroupRange
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import KEY_HEADS, DimensionKind
from maskdsl.ir.expressions import PAIR, Batch, Constant, Coordinate, Expression, Head, InSpace, Leaf, Score, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import batch_entries, whole_arrays
from maskdsl.ir.meaning.pooling import PoolMeaning, all_tokens
from maskdsl.ir.meaning.scoring.draw_meaning import drawn
from maskdsl.ir.meaning.scoring.group_vectors import GroupVectors
from maskdsl.ir.meaning.scoring.score_steps import extreme, gathered, of_heads, selected, softmax
from maskdsl.ir.numpy_operators import DTYPES, evaluate
from maskdsl.ir.ops import Array
from maskdsl.ir.routes import Balanced, Draw, Nearest, OfInputs, Pools, Rank, Route, Routed, TopCount, selector_argument
from maskdsl.ir.values.entries import held_rows
from maskdsl.ir.values.group_scores import GROUP, Extreme, Gather, GatherHeads, Grouping, GroupScores, Product, Softmax

Level = tuple[Grouping, Grouping]
"""Groups of queries and of keys."""


def with_routes(
    mask: MaskIR,
    inputs: Mapping[str, Array],
    q: Array | None = None,
    k: Array | None = None,
    wanted: Container[str] | None = None,
) -> dict[str, Array]:
    """The inputs together with the results of the mask's routes, by name.

    q is [batch, heads, queries, dim], k is [batch, key heads, given keys, dim]; without them only ranks and
    facts about pools are computed.
    `wanted` restricts the routes to these names. Raises `GroupRange` if a coordinate has a group number out of range.
    """
    sizes = (batch_entries(mask, inputs), None) if q is None else (len(q), q.shape[-1])
    known, results = whole_arrays(mask, inputs, *sizes), dict(inputs)
    if q is not None and k is not None and mask.routed:
        q, k = (all_tokens(mask, side, x, known) for side, x in ((Side.QUERY, q), (Side.KEY, k)))
    for each in mask.routed:
        if each.name in known or (wanted is not None and each.name not in wanted):
            continue
        if isinstance(each, Draw):
            known[each.name] = results[each.name] = drawn(mask, each) if each.lists is None else each.lists.array
        elif isinstance(each, OfInputs) or (q is not None and k is not None):
            known[each.name] = results[each.name] = _all_heads(mask, each, known, q, k)
    return results


def _all_heads(mask: MaskIR, routed: Routed, inputs: Mapping[str, Array], q: Array | None, k: Array | None) -> Array:
    """The result of a route for all batch entries and heads, in the shape that its input declares."""
    declared = mask.input(routed.name)
    assert declared is not None
    kinds = [each.kind for each in declared.dimensions]
    batches = 1
    if DimensionKind.BATCH in kinds:
        batches = len(q) if q is not None else batch_entries(mask, inputs)
    heads = mask.heads if q is None else q.shape[1]
    whole = np.stack([_of_all_heads(mask, routed, inputs, q, k, batch, heads) for batch in range(batches)])
    if DimensionKind.BATCH not in kinds:
        whole = whole[0]
    axis = kinds.index(DimensionKind.BATCH) + 1 if DimensionKind.BATCH in kinds else 0
    entries = next((each.size for each in declared.dimensions if each.text == KEY_HEADS), None)
    if entries is not None:
        whole = whole.take(range(0, heads, heads // entries), axis=axis)
    elif DimensionKind.HEADS not in kinds:
        whole = whole.take(0, axis=axis)
    if declared.sparse:
        assert isinstance(routed, Route)
        return held_rows(whole, routed.most)
    return whole.reshape([len(whole) if n is None else n for n in (each.size for each in declared.dimensions)]).astype(
        DTYPES[declared.type]
    )


def _of_all_heads(
    mask: MaskIR,
    routed: Routed,
    inputs: Mapping[str, Array],
    q: Array | None,
    k: Array | None,
    batch: int,
    heads: int,
) -> Array:
    """The result of a route for one batch entry, [heads, ...]."""
    searches = [RouteSearch(mask, inputs, q, k, batch, head) for head in range(heads)]
    match routed:
        case Route(selector=selector):
            scores, candidates, always, arguments = (
                np.stack(each) for each in zip(*(each.selection(routed) for each in searches), strict=True)
            )
            return selected(scores, candidates, always, selector, arguments)
        case GroupScores():
            return _after_steps(routed, searches)
        case _:
            return np.stack([each.result(routed) for each in searches])


def _after_steps(made: GroupScores, searches: "list[RouteSearch]") -> Array:
    """The table of scores of one batch entry, [heads, query groups, key groups]."""
    scores, candidates = map(np.stack, zip(*(each.scored(made) for each in searches), strict=True))
    level, first = (made.queries, made.keys), searches[0]
    for step in made.steps:
        match step:
            case Softmax(per=per, among=among):
                shared = candidates
                if among is not None:
                    shared = candidates & np.stack([each.evaluate(among, level) for each in searches])
                scores = softmax(scores, shared, per)
            case Extreme(kind=kind, per=per):
                scores = extreme(scores, candidates, kind, per)
            case Gather(kind=kind, queries=queries, keys=keys):
                together = [each.incidence(level, (queries, keys)) for each in searches]
                of_heads_alone = [
                    gathered(scores[[head]], candidates[[head]], kind, *each) for head, each in enumerate(together)
                ]
                scores, candidates = (np.concatenate(each) for each in zip(*of_heads_alone, strict=True))
                level = queries, keys
            case GatherHeads(kind=kind, by_key_head=by_key_head):
                numbers = np.zeros(len(searches), dtype=np.int64)
                if by_key_head:
                    assert first.q is not None and first.k is not None
                    numbers = np.arange(len(searches)) * first.k.shape[1] // first.q.shape[1]
                scores, candidates = of_heads(scores, candidates, kind, numbers)
            case _:
                assert_never(step)
    return np.where(candidates, scores, np.nan)


@dataclass(frozen=True, eq=False)
class RouteSearch:
    """Evaluates routes for one head of one batch entry."""

    mask: MaskIR
    inputs: Mapping[str, Array]
    q: Array | None
    k: Array | None
    batch: int
    head: int

    def result(self, routed: Routed) -> Array:
        """The coordinate that a route computes, int64 [tokens]."""
        match routed:
            case Nearest():
                distances = self.distances(routed)
                return np.asarray(np.where(np.isnan(distances), np.inf, distances).argmin(axis=1))
            case Balanced(size=size):
                products = self.products_of(routed)
                largest = TopCount(Constant(size))
                fitting, nothing = np.ones_like(products, dtype=bool), np.zeros_like(products, dtype=bool)
                members = selected(
                    products[None], fitting[None], nothing[None], largest, np.full_like(products[None], size)
                )
                return np.asarray((members[0].astype(np.int64) << np.arange(len(products))[:, None]).sum(axis=0))
            case Rank(side=side, space=name, keys=keys):
                return self.ranks(side, name, keys)
            case Pools(side=side, space=name, fact=fact):
                space = self.mask.sequences[side].space(name)
                assert space is not None
                return PoolMeaning(self.mask, self.inputs, self.batch).facts(space)[fact]
            case Route() | GroupScores() | Draw():
                raise AssertionError("not of one head of one batch entry")
            case _:
                assert_never(routed)

    def coordinates(self, side: Side) -> Coordinates:
        """The coordinates of one side's tokens."""
        return Coordinates(self.mask, self.mask.sequences[side], self.inputs, self.batch, self.head)

    def vectors(self, side: Side, head: int) -> Array:
        """float64 [tokens, dim]: the queries of a query head, or the keys of the key head that it reads."""
        assert self.q is not None and self.k is not None
        if side is Side.QUERY:
            return np.asarray(self.q[self.batch, head], dtype=np.float64)
        return np.asarray(self.k[self.batch, head * self.k.shape[1] // self.q.shape[1]], dtype=np.float64)

    def centroids(self, clustered: Nearest | Balanced) -> Array:
        """float [clusters, dim]: the centroids of this head."""
        return np.asarray(self.inputs[clustered.centroids][self.mask.here][self.head])

    def distances(self, nearest: Nearest) -> Array:
        """float64 [tokens, clusters]: squared distances between vectors and centroids."""
        rows = self.centroids(nearest).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(((self.vectors(nearest.side, self.head)[:, None] - rows) ** 2).sum(axis=-1))

    def products_of(self, balanced: Balanced) -> Array:
        """float64 [last - first, tokens]: dot products of the centroids with the vectors."""
        rows = self.centroids(balanced)[balanced.first : balanced.last].astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(rows @ self.vectors(balanced.side, self.head).T)

    def ranks(self, side: Side, space: str, keys: tuple[Expression, ...]) -> Array:
        """int64 [tokens of the space]: each token's rank when they are sorted by `keys`, ties in declared order."""
        tokens = self.coordinates(side)
        member = tokens.member(space)
        order = np.lexsort([tokens.evaluate(key)[member] for key in reversed(keys)])
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        return ranks

    # Selection

    def scored(self, routed: Route | GroupScores) -> tuple[Array, Array]:
        """Scores, float64, and which groups are candidates, bool, both [query groups, key groups]."""
        level, search = (routed.queries, routed.keys), self
        with np.errstate(invalid="ignore"):
            for each in routed.products:  # vectors may read products before them
                search = replace(search, inputs={**search.inputs, each.name: search.product(each)})
        return search.evaluate(routed.score, level), self.candidates(routed) & self.existing(level)

    def candidates(self, routed: Route | GroupScores) -> Array:
        """bool [query groups, key groups]: for which the condition holds, or for others that share tokens with them."""
        level = routed.queries, routed.keys
        if isinstance(routed, Route) or routed.wider == level:
            return self.evaluate(routed.candidates, level)
        holds = self.evaluate(routed.candidates, routed.wider) & self.existing(routed.wider)
        queries, keys = self.incidence(routed.wider, level)
        return np.asarray((queries.T.astype(int) @ holds @ keys) > 0)

    def existing(self, level: Level) -> Array:
        """bool [query groups, key groups]: whether both groups have tokens."""
        queries, keys = (self.exists(side, grouping) for side, grouping in zip(PAIR, level, strict=True))
        return np.asarray(queries[:, None] & keys[None, :])

    def selection(self, route: Route) -> tuple[Array, Array, Array, Array]:
        """Scores, candidates, what is always selected, and arguments of the selector, [query groups, key groups]."""
        level = route.queries, route.keys
        always = self.evaluate(route.always, level) & self.existing(level)
        return *self.scored(route), always, self.evaluate(selector_argument(route.selector), level)

    def product(self, product: Product) -> Array:
        """float64 [query groups, key groups], or [groups] of one side."""
        vectors = GroupVectors(self)
        left, right = (vectors.of(each, product.groupings) for each in (product.left, product.right))
        if len(product.groupings) == len(PAIR):
            return np.asarray(left @ right.T)
        (grouping,) = product.groupings.values()
        return np.broadcast_to((left * right).sum(axis=-1), grouping.count)

    def incidence(self, level: Level, other: Level) -> tuple[Array, Array]:
        """Which groups of two levels share tokens, bool [groups, other groups], of queries and of keys."""
        one, two = (self.shared(side, *each) for side, each in zip(PAIR, zip(level, other, strict=True), strict=True))
        return one, two

    def shared(self, side: Side, one: Grouping, two: Grouping) -> Array:
        """bool [groups of one, groups of two]: which share a token."""
        result = np.zeros((one.count, two.count), dtype=bool)
        if one == two:
            np.fill_diagonal(result, self.exists(side, one))
            return result
        groups, tokens = self.having(side, one)
        others = np.full(self.mask.sequences[side].length, -1)
        numbers, members = self.having(side, replace(two, span=1))
        others[members] = numbers
        for behind in range(two.span):
            columns = others[tokens] - behind
            fits = columns >= 0
            result[groups[fits], columns[fits]] = True
        return result

    def groups(self, side: Side, grouping: Grouping) -> Array:
        """int [tokens]: the number of each token's group. Raises `GroupRange` if one is out of range."""
        assert grouping.by is not None
        numbers = self.coordinates(side).values(grouping.by)
        outside = numbers[(numbers < 0) | (numbers >= grouping.count)]
        if outside.size:
            raise AttnError(GroupRange(name=grouping.by, value=int(outside[0]), count=grouping.count))
        return numbers

    def exists(self, side: Side, grouping: Grouping) -> Array:
        """bool [groups]: whether the group has a token."""
        numbers = np.arange(grouping.count)
        return np.isin(numbers, self.having(side, grouping)[0]) if grouping.by else np.full(grouping.count, True)

    def having(self, side: Side, grouping: Grouping) -> tuple[Array, Array]:
        """Group numbers and positions of the tokens that have a group, by position; all tokens, without a coordinate.

        A token of overlapping groups is there once for each. Pools without tokens have none.
        """
        sequence = self.mask.sequences[side]
        if grouping.by is None:
            return np.zeros(sequence.length, dtype=np.int64), np.arange(sequence.length)
        has = np.repeat(sequence.having(grouping.by), [space.size for space in sequence.spaces])
        if sequence.counts is not None:
            has = has & (self.coordinates(side).values(sequence.counts) > 0)
        tokens = np.flatnonzero(has)
        numbers = self.groups(side, grouping)[tokens, None] - np.arange(grouping.span)
        return numbers[numbers >= 0], np.repeat(tokens, (numbers >= 0).sum(axis=1))

    def evaluate(self, expression: Expression, level: Level) -> Array:
        """[query groups, key groups]: an expression over the first tokens of two groups."""
        groupings = dict(zip(PAIR, level, strict=True))

        def column(values: Array, side: Side) -> Array:
            of_groups = self.of_groups(values, side, groupings[side])
            return of_groups[None, :] if side is Side.KEY else of_groups[:, None]

        def leaf(node: Leaf) -> Array:
            match node:
                case Coordinate(name=name) if name == GROUP:
                    return np.arange(groupings[Side.KEY].count)[None, :]
                case Coordinate(side=side, name=name) if name == groupings[side].by:
                    numbers = np.arange(groupings[side].count)
                    return numbers[None, :] if side is Side.KEY else numbers[:, None]
                case Coordinate(side=side, name=name):
                    return column(self.coordinates(side).values(name), side)
                case Head():
                    return np.asarray(self.head)
                case Batch():
                    return np.asarray(self.batch)
                case InSpace(side=side, space=space):
                    return column(self.coordinates(side).member(space), side)
                case Score():
                    raise AssertionError("the score of a route reads no other")
                case _:
                    assert_never(node)

        with np.errstate(all="ignore"):
            values = evaluate(expression, leaf, self.inputs)
        return np.broadcast_to(values, [each.count for each in level])

    def of_groups(self, values: Array, side: Side, grouping: Grouping) -> Array:
        """[groups]: the value of each group's first token; zero for an empty group."""
        result = np.zeros(grouping.count, dtype=values.dtype)
        groups, tokens = self.having(side, grouping)
        result[groups[::-1]] = values[tokens[::-1]]  # the first of a group is written last
        return result
