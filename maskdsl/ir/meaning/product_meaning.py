"""Reference semantics of products of vectors on NumPy arrays: the oracle for what computes them faster."""

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Batch, Coordinate, Expression, Head, InSpace, Leaf, Score, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.numpy_operators import apply_operator, evaluate
from maskdsl.ir.ops import Array
from maskdsl.ir.values.token_vectors import (
    Elementwise,
    Multiple,
    OfGroup,
    OfToken,
    OfValue,
    PoolKind,
    Sum,
    TableRow,
    ValueTerm,
    Vector,
    VectorProduct,
    Window,
)


def with_products(mask: MaskIR, inputs: Mapping[str, Array], q: Array, k: Array) -> dict[str, Array]:
    """The inputs together with the tables of the mask's products, by name.

    q is [batch, heads, queries, dim], k is [batch, key heads, keys, dim], pooled keys included.
    """
    tables: dict[str, Array] = {}
    for product in mask.products:
        rows = [
            [HeadVectors(mask, inputs, q, k, batch, head).table(product) for head in range(q.shape[1])]
            for batch in range(len(q))
        ]
        tables[product.name] = np.asarray(rows)
    return {**inputs, **tables}


@dataclass(frozen=True, eq=False)
class HeadVectors:
    """The vectors of one head of one batch entry, in float64."""

    mask: MaskIR
    inputs: Mapping[str, Array]
    q: Array
    k: Array
    batch: int
    head: int
    v: Array | None = None
    """[batch, key heads, keys, dim], pooled keys included: needed for values alone."""

    def values(self) -> Array:
        """[keys, dim]: the values of keys."""
        vector = OfValue() if self.mask.key_value is None else self.mask.key_value
        result = self.vector(vector, Side.KEY)
        return np.broadcast_to(result, (self.lengths[1], result.shape[-1]))

    def rows(self, term: ValueTerm) -> Array:
        """[queries, entries of windows, dim]: the vectors that pairs of a query choose from."""
        rows = self.vector(term.vector, Side.QUERY)
        return np.broadcast_to(rows, (self.lengths[0], *rows.shape[1:]))

    def pairs(self) -> Array:
        """[queries, keys]: what the mask's attention multiplies, before any scale."""
        if not self.mask.pairs:
            return self.of_token(Side.QUERY) @ self.of_token(Side.KEY).T
        products = (
            self.vector(each.query, Side.QUERY) @ np.swapaxes(self.vector(each.key, Side.KEY), 0, 1)
            for each in self.mask.pairs
        )
        return np.asarray(sum(np.broadcast_to(each, self.lengths) for each in products))

    @property
    def lengths(self) -> tuple[int, int]:
        """The numbers of queries and of keys."""
        return self.mask.queries.length, self.mask.keys.length

    def table(self, product: VectorProduct) -> Array:
        """The product for all tokens and entries of windows."""
        left, right = (self.vector(each, product.per) for each in (product.left, product.right))
        flat = [each.reshape(len(each), -1, each.shape[-1]) for each in (left, right)]
        with np.errstate(invalid="ignore"):
            result = (flat[0][:, :, None] * flat[1][:, None, :]).sum(axis=-1)
        sizes = [each.count for each in product.windows]
        if product.per is None:
            return np.asarray(result.reshape(sizes))
        count = self.mask.sequences[product.per].length
        return np.broadcast_to(result, (count, *result.shape[1:])).reshape(count, *sizes)

    def vector(self, vector: Vector, side: Side | None) -> Array:
        """[tokens of the side or 1, entries of windows, dim]."""
        match vector:
            case OfToken(side=of, scaled=scaled):
                tokens = self.of_token(of)
                return tokens / np.sqrt(tokens.shape[-1]) if scaled else tokens
            case OfValue():
                assert self.v is not None
                return np.asarray(self.v[self.batch, self.head * self.v.shape[1] // self.q.shape[1]], dtype=np.float64)
            case TableRow():
                return self.row(vector, side)
            case Multiple(factor=factor, vector=inner):
                vectors, factors = self.vector(inner, side), np.atleast_1d(self.evaluate(factor, side))
                return np.asarray(factors.reshape(-1, *(1,) * (vectors.ndim - 1)) * vectors)
            case Sum(terms=terms):
                return np.asarray(sum(self.vector(each, side) for each in terms))
            case Elementwise(op=op, operands=operands):
                values = (
                    self.vector(each, side)
                    if isinstance(each, Vector)
                    else np.atleast_1d(self.evaluate(each, side))[:, None]
                    for each in operands
                )
                return np.asarray(apply_operator(op, *values))
            case OfGroup():
                return self.pooled(vector)
            case _:
                assert_never(vector)

    def pooled(self, group: OfGroup) -> Array:
        """[tokens, dim]: the pooled vector of the group of each token; zeros where it has none."""
        numbers = self.coordinates(group.side).values(group.by)
        among = np.ones(len(numbers), dtype=bool)
        if group.pool.among is not None:
            among = np.broadcast_to(self.evaluate(group.pool.among, group.side), numbers.shape)
        heads = [self.at(head).of_token(group.side) for head in self.heads_of(group)]
        result = np.zeros((len(numbers), heads[0].shape[-1]))
        for number in np.unique(numbers[numbers >= 0]):
            members = np.concatenate([each[among & (numbers == number)] for each in heads])
            if len(members):
                result[numbers == number] = pooled_vector(group.pool.kind, members)
        return result

    def at(self, head: int) -> "HeadVectors":
        """The vectors of another head."""
        return replace(self, head=head)

    def heads_of(self, group: OfGroup) -> list[int]:
        """The heads that are pooled together with this one."""
        count, pool = self.q.shape[1], group.pool
        if pool.by_key_head:
            numbers = [head * self.k.shape[1] // count for head in range(count)]
        elif pool.heads is not None:
            numbers = [int(self.at(head).evaluate(pool.heads, None)) for head in range(count)]
        else:
            return [self.head]
        return [head for head in range(count) if numbers[head] == numbers[self.head]]

    def of_token(self, side: Side) -> Array:
        """[tokens, dim]: the given vectors."""
        if side is Side.QUERY:
            return np.asarray(self.q[self.batch, self.head], dtype=np.float64)
        return np.asarray(self.k[self.batch, self.head * self.k.shape[1] // self.q.shape[1]], dtype=np.float64)

    def row(self, row: TableRow, side: Side | None) -> Array:
        """The vectors of a table; NaN where an index is outside."""
        table = np.asarray(self.inputs[row.input], dtype=np.float64)
        kept = [axis for axis, index in enumerate(row.indices) if isinstance(index, Window)]
        for axis, window in zip(kept, row.windows, strict=True):
            table = table.take(range(window.first, window.first + window.count), axis=axis)
        chosen = [index for index in row.indices if not isinstance(index, Window)]
        axes = [axis for axis in range(len(row.indices)) if axis not in kept]
        table = np.moveaxis(table, axes, range(len(axes)))
        indices = np.broadcast_arrays(np.zeros(1, dtype=int), *(self.evaluate(each, side) for each in chosen))[1:]
        if not indices:
            return table[None]
        pairs = list(zip(indices, table.shape, strict=False))
        inside = np.logical_and.reduce([(index >= 0) & (index < size) for index, size in pairs])
        result = table[tuple(index.clip(0, size - 1) for index, size in pairs)]
        return np.where(inside.reshape(-1, *(1,) * (result.ndim - 1)), result, np.nan)

    def evaluate(self, expression: Expression, side: Side | None) -> Array:
        """An expression over the tokens of one side, [tokens], or over none."""

        def leaf(node: Leaf) -> Array:
            match node:
                case Coordinate(side=of, name=name):
                    return self.coordinates(of).values(name)
                case InSpace(side=of, space=space):
                    return self.coordinates(of).member(space)
                case Head():
                    return np.asarray(self.head)
                case Batch():
                    return np.asarray(self.batch)
                case Score():
                    raise AssertionError("a vector reads no score")

        with np.errstate(all="ignore"):
            return np.asarray(evaluate(expression, leaf, self.inputs))

    def coordinates(self, side: Side) -> Coordinates:
        """The coordinates of one side's tokens."""
        return Coordinates(self.mask, self.mask.sequences[side], self.inputs, self.batch, self.head)


def pooled_vector(kind: PoolKind | None, members: Array) -> Array:
    """[dim]: what vectors [members, dim] become."""
    match kind:
        case PoolKind.MAX:
            return np.asarray(members.max(axis=0))
        case PoolKind.MIN:
            return np.asarray(members.min(axis=0))
        case PoolKind.MEAN:
            return np.asarray(members.mean(axis=0))
        case PoolKind.ROOT:
            return np.asarray(members.sum(axis=0) / np.sqrt(len(members)))
        case _:
            return np.asarray(members.sum(axis=0))
