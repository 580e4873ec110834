"""Reference semantics of routes on NumPy arrays: the oracle for everything that computes them faster.

Scores are float64. Takes time and memory for each pair of groups.
"""

from collections.abc import Container, Mapping
from typing import assert_never

import numpy as np

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import GroupRange
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Batch, Coordinate, Expression, Head, InSpace, Leaf, Score, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.draw_meaning import drawn
from maskdsl.ir.meaning.inputs import batch_entries, whole_arrays
from maskdsl.ir.meaning.pooling import PoolMeaning, all_tokens
from maskdsl.ir.numpy_operators import DTYPES, evaluate
from maskdsl.ir.ops import Array
from maskdsl.ir.routes import (
    GROUP,
    Above,
    Balanced,
    Draw,
    Grouping,
    Nearest,
    OfInputs,
    Pool,
    PoolKind,
    Pools,
    Rank,
    Route,
    Routed,
    TopCount,
    TopMass,
)


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
    entries = range(batches), range(heads if DimensionKind.HEADS in kinds else 1)
    whole = np.asarray(
        [[RouteSearch(mask, inputs, q, k, batch, head).result(routed) for head in entries[1]] for batch in entries[0]]
    )
    for axis, kind in (1, DimensionKind.HEADS), (0, DimensionKind.BATCH):
        if kind not in kinds:
            whole = whole.take(0, axis=axis)
    return whole.astype(DTYPES[declared.type])


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
        """The table or coordinate that a route computes: bool [query groups, key groups] or int64 [tokens]."""
        match routed:
            case Route():
                return self.selected(routed)
            case Nearest():
                distances = self.distances(routed)
                return np.asarray(np.where(np.isnan(distances), np.inf, distances).argmin(axis=1))
            case Balanced(size=size):
                products = self.products_of(routed)
                members = [_best(row, row > -np.inf, size) for row in products]  # false for NaN too
                return np.asarray((np.stack(members).astype(np.int64) << np.arange(len(products))[:, None]).sum(axis=0))
            case Rank(side=side, space=name, keys=keys):
                return self.ranks(side, name, keys)
            case Pools(side=side, space=name, fact=fact):
                space = self.mask.sequences[side].space(name)
                assert space is not None
                return PoolMeaning(self.mask, self.inputs, self.batch).facts(space)[fact]
            case Draw():
                raise AssertionError("a draw is no route of a batch entry")
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

    def scored(self, route: Route) -> tuple[Array, Array]:
        """Scores, float64, and which groups are candidates, bool, both [query groups, key groups]."""
        with np.errstate(invalid="ignore"):
            products = {
                each.name: self.pooled(each.query, Side.QUERY, route.queries)
                @ self.pooled(each.key, Side.KEY, route.keys).T
                for each in route.products
            }
        score = self.evaluate(route.score, route, products)
        exists = self.exists(Side.QUERY, route.queries)[:, None] & self.exists(Side.KEY, route.keys)[None, :]
        return score, self.evaluate(route.candidates, route, products) & exists

    def selected(self, route: Route) -> Array:
        """bool [query groups, key groups]: which key groups each query group selects."""
        score, candidates = self.scored(route)
        candidates = candidates & (score > -np.inf)  # false for NaN too
        match route.selector:
            case TopCount(count=count):
                counts = self.evaluate(count, route)
                return np.stack([_best(*row) for row in zip(score, candidates, counts[:, 0], strict=True)])
            case TopMass(mass=mass, over_head=True):
                wanted = self.evaluate(mass, route)[0, 0]
                return _heaviest(score.ravel(), candidates.ravel(), wanted).reshape(score.shape)
            case TopMass(mass=mass):
                masses = self.evaluate(mass, route)
                return np.stack([_heaviest(*row) for row in zip(score, candidates, masses[:, 0], strict=True)])
            case Above(threshold=threshold):
                return np.asarray(candidates & (score > self.evaluate(threshold, route)))
            case other:
                assert_never(other)

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
        """Group numbers and positions of the tokens that have a group."""
        assert grouping.by is not None
        sequence = self.mask.sequences[side]
        has = sequence.having(grouping.by)
        tokens = np.flatnonzero(np.repeat(has, [space.size for space in sequence.spaces]))
        return self.groups(side, grouping)[tokens], tokens

    def pooled(self, pool: Pool, side: Side, grouping: Grouping) -> Array:
        """float64 [groups, dim]: the pooled vector of each group."""
        groups, tokens = self.having(side, grouping)
        if pool.kind is None:
            return self.vectors(side, self.head)
        if pool.among is not None:
            among = self.coordinates(side).evaluate(pool.among)[tokens]
            groups, tokens = groups[among], tokens[among]
        vectors = np.stack([self.vectors(side, head) for head in self.heads_of(pool)])
        result = np.zeros((grouping.count, vectors.shape[-1]))
        for group in np.unique(groups):
            members = vectors[:, tokens[groups == group]].reshape(-1, vectors.shape[-1])
            match pool.kind:
                case PoolKind.MEAN:
                    result[group] = members.mean(axis=0)
                case PoolKind.MAX:
                    result[group] = members.max(axis=0)
                case PoolKind.SUM:
                    result[group] = members.sum(axis=0)
                case PoolKind.ROOT:
                    result[group] = members.sum(axis=0) / np.sqrt(len(members))
        return result

    def heads_of(self, pool: Pool) -> list[int]:
        """The heads that are pooled together with this one."""
        assert self.q is not None and self.k is not None
        heads = np.arange(self.q.shape[1])
        if pool.by_key_head:
            shared = heads * self.k.shape[1] // self.q.shape[1]
        elif pool.heads is not None:
            shared = np.broadcast_to(evaluate(pool.heads, lambda _: heads, {}), heads.shape)
        else:
            return [self.head]
        return [int(head) for head in heads[shared == shared[self.head]]]

    def evaluate(self, expression: Expression, route: Route, products: Mapping[str, Array] | None = None) -> Array:
        """[query groups, key groups]: an expression over the first tokens of two groups."""
        shape = route.queries.count, route.keys.count

        def leaf(node: Leaf) -> Array:
            match node:
                case Coordinate(name=name) if name == GROUP:
                    return np.arange(route.keys.count)[None, :]
                case Coordinate(side=side, name=name):
                    column = self.of_groups(self.coordinates(side).values(name), side, route.grouping(side))
                    return column[None, :] if side is Side.KEY else column[:, None]
                case Head():
                    return np.asarray(self.head)
                case Batch():
                    return np.asarray(self.batch)
                case InSpace(side=side, space=space):
                    column = self.of_groups(self.coordinates(side).member(space), side, route.grouping(side))
                    return column[None, :] if side is Side.KEY else column[:, None]
                case Score():
                    raise AssertionError("the score of a route reads no other")
                case _:
                    assert_never(node)

        with np.errstate(all="ignore"):
            return np.broadcast_to(evaluate(expression, leaf, {**self.inputs, **(products or {})}), shape)

    def of_groups(self, values: Array, side: Side, grouping: Grouping) -> Array:
        """[groups]: the value of each group's first token; zero for an empty group."""
        result = np.zeros(grouping.count, dtype=values.dtype)
        groups, tokens = self.having(side, grouping)
        result[groups[::-1]] = values[tokens[::-1]]  # the first of a group is written last
        return result


def _best(score: Array, candidates: Array, count: int) -> Array:
    """bool [groups]: the `count` candidates of the highest score, ties to the lower number."""
    chosen = np.zeros(len(score), dtype=bool)
    order = np.argsort(-score, kind="stable")
    chosen[order[candidates[order]][: max(count, 0)]] = True
    return chosen


def _heaviest(score: Array, candidates: Array, mass: float) -> Array:
    """bool [groups]: the fewest candidates, by descending score, whose share of the softmax reaches `mass`."""
    chosen = np.zeros(len(score), dtype=bool)
    order = np.argsort(-score, kind="stable")
    order = order[candidates[order]]
    if order.size:
        maximum = score[order[0]]
        with np.errstate(invalid="ignore"):  # infinite scores have equal shares
            weights = np.exp(np.where(score[order] == maximum, 0, score[order] - maximum))
        before = np.cumsum(weights) - weights
        chosen[order[before < mass * weights.sum()]] = True
    return chosen
