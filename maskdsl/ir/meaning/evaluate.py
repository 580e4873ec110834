"""Reference semantics of a mask on NumPy arrays of pairs: the oracle that everything else is tested against.

Takes time and memory for every pair; nothing that users wait for calls it on all pairs.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from functools import cached_property, reduce
from math import sqrt
from typing import assert_never

import numpy as np

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import TableRead
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import said
from maskdsl.ir.expressions import (
    Apply,
    Batch,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Leaf,
    Read,
    Score,
    Side,
    children,
)
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import batch_entries, branch_inputs, whole_arrays
from maskdsl.ir.meaning.pooling import all_tokens
from maskdsl.ir.meaning.probabilities import probabilities, scaled_output
from maskdsl.ir.meaning.product_meaning import HeadVectors, with_products
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Array, Op
from maskdsl.ir.values.token_vectors import ValueTerm


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of tokens in one head and batch entry: `q` and `k` are declared positions that broadcast."""

    mask: MaskIR
    q: Array
    k: Array
    head: int = 0
    batch: int = 0
    inputs: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def query(self) -> Coordinates:
        """The coordinates of all queries."""
        return Coordinates(self.mask, self.mask.queries, self.inputs, self.batch, self.head)

    @cached_property
    def key(self) -> Coordinates:
        """The coordinates of all keys."""
        return Coordinates(self.mask, self.mask.keys, self.inputs, self.batch, self.head)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape that `q` and `k` broadcast to."""
        return np.broadcast_shapes(self.q.shape, self.k.shape)

    def lengths(self, read: Read) -> tuple[int, ...]:
        """The length of each dimension of a table; of the rows and columns of a sparse input."""
        declared = self.mask.input(read.input)
        shape = tuple(self.inputs[read.input].shape)
        if declared is None or not declared.sparse:
            return shape
        return *shape[:-1], *(each.size or 0 for each in declared.dimensions[-2:])

    def allowed(self) -> Array:
        """bool: which of the pairs attend. Raises `TableRead` if one of them reads outside a table."""
        return self.evaluate(self.mask.relation, np.asarray(True))

    def evaluate(self, expression: Expression, asked: Array, score: Array | None = None) -> Array:
        """The expression's values. Raises `TableRead` if a pair in `asked` depends on an element outside a table."""

        def leaf(node: Leaf) -> Array:
            match node:
                case Coordinate(side=side, name=name):
                    return self.query.values(name)[self.q] if side is Side.QUERY else self.key.values(name)[self.k]
                case InSpace(side=side, space=space):
                    return self.query.member(space)[self.q] if side is Side.QUERY else self.key.member(space)[self.k]
                case Head():
                    return np.asarray(self.head)
                case Batch():
                    return np.asarray(self.batch)
                case Score():
                    assert score is not None, "a relation reads no score"
                    return score
                case _:
                    assert_never(node)

        def value(node: Expression) -> Array:
            return evaluate(node, leaf, self.inputs)

        reads: list[tuple[Read, Array, int, Array]] = []

        def wrong(node: Expression) -> Array:
            """bool: where the value depends on an element outside a table, which the other operands do not decide."""
            match node:
                case Apply(op=Op.AND | Op.OR as op, arguments=operands):
                    faults = [wrong(each) for each in operands]
                    if not any(fault.any() for fault in faults):
                        return faults[0]
                    values = ((value(each) if op is Op.AND else ~value(each)) for each in operands)
                    decided = [fault | each for fault, each in zip(faults, values, strict=True)]
                    return np.asarray(reduce(np.logical_or, faults) & reduce(np.logical_and, decided))
                case Apply(op=Op.SELECT, arguments=(condition, then, otherwise)):
                    return np.asarray(wrong(condition) | np.where(value(condition), wrong(then), wrong(otherwise)))
                case Read(indices=indices):
                    fault = reduce(np.logical_or, map(wrong, indices), np.asarray(False))
                    for index, length in zip(indices, self.lengths(node), strict=True):
                        at = value(index)
                        outside = (at < 0) | (at >= length)
                        reads.append((node, at, length, outside))
                        fault = fault | outside
                    return np.asarray(fault)
                case _:
                    return reduce(np.logical_or, map(wrong, children(node)), np.asarray(False))

        def check() -> None:
            """Raises for the first pair that is asked for and reads outside a table."""
            pairs = asked & wrong(expression)
            if pairs.any():
                pair = tuple(np.argwhere(np.broadcast_to(pairs, self.shape))[0])

                def there(values: Array) -> Array:
                    return np.asarray(np.broadcast_to(values, self.shape)[pair])

                read, index, length, _ = next(each for each in reads if there(each[3]))
                query, key = (int(there(each)) for each in (self.q, self.k))
                name, at = said(read.input), int(there(index))
                raise AttnError(TableRead(span=read.span, name=name, index=at, length=length, query=query, key=key))

        with np.errstate(all="ignore"):  # pairs that a guard excludes may divide by zero
            check()
            return np.broadcast_to(value(expression), self.shape)


def allowed(
    mask: MaskIR, q: Array, k: Array, head: int = 0, batch: int = 0, inputs: Mapping[str, Array] | None = None
) -> Array:
    """bool: which pairs attend; `q` and `k` are declared positions that broadcast. Raises as `Pairs.allowed`."""
    return Pairs(mask, q, k, head, batch, _whole(mask, batch, inputs or {})).allowed()


def dense(mask: MaskIR, head: int = 0, batch: int = 0, inputs: Mapping[str, Array] | None = None) -> Array:
    """bool [queries, keys], in declared order: which pairs attend. Raises as `Pairs.allowed`."""
    return _all_pairs(mask, head, batch, inputs or {}).allowed()


def _all_pairs(mask: MaskIR, head: int, batch: int, inputs: Mapping[str, Array]) -> Pairs:
    queries, keys = np.arange(mask.queries.length)[:, None], np.arange(mask.keys.length)[None, :]
    return Pairs(mask, queries, keys, head, batch, _whole(mask, batch, inputs))


def _whole(mask: MaskIR, batch: int, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """All inputs that the mask reads, for a batch entry."""
    return whole_arrays(mask, inputs, max(batch_entries(mask, inputs), batch + 1)) if inputs else inputs


def attention(
    mask: MaskIR, q: Array, k: Array, v: Array, inputs: Mapping[str, Array] | None = None
) -> tuple[Array, Array]:
    """Attention in float64, in declared order: the output and the log-sum-exp of the final scores.

    q is [batch, heads, given queries, dim], k and v are [batch, key heads, given keys, dim]. The output is [batch,
    heads, queries, value dim] and the log-sum-exp [batch, heads, queries]: zeros and minus infinity for a query without
    keys. The log-sum-exp is NaN where the pattern has no softmax by query.
    With branches, the sum of their outputs, and a log-sum-exp of each, [batch, branches, heads, queries].
    """
    if mask.branches:
        outs, lses = zip(
            *(attention(each, q, k, v, branch_inputs(each, inputs or {})) for each in mask.branches), strict=True
        )
        return np.sum(outs, axis=0), np.stack(lses, axis=1)
    inputs = whole_arrays(mask, with_routes(mask, inputs or {}, q, k), len(q), q.shape[-1])
    q, k, v = (all_tokens(mask, side, x, inputs) for side, x in ((Side.QUERY, q), (Side.KEY, k), (Side.KEY, v)))
    batches, heads, queries, _ = q.shape
    out = np.zeros((batches, heads, queries, v.shape[-1]))
    lse = np.full((batches, heads, queries), -np.inf)
    inputs = with_products(mask, inputs, q, k)
    for batch, head in np.ndindex(batches, heads):
        pairs = _all_pairs(mask, head if mask.heads > 1 else 0, batch, inputs)
        vectors = HeadVectors(mask, inputs, q, k, batch, head, v)
        rows = {each.name: vectors.rows(each) for each in mask.values}
        out[batch, head], lse[batch, head] = _attend(pairs, vectors.pairs(), vectors.values(), q.shape[-1], rows)
    return out, lse


def _attend(
    pairs: Pairs, products: Array, values: Array, dim: int, rows: Mapping[str, Array] | None = None
) -> tuple[Array, Array]:
    """The output [queries, value dim] and log-sum-exp [queries] of one head; `values` is [keys, value dim].

    `products` are the dot products of queries and keys before any scale, [queries, keys] as `pairs`, of head dim `dim`.
    `rows` are the vectors of the mask's value terms by name, [queries, entries, value dim].
    """
    mask, attends = pairs.mask, pairs.allowed()
    scale = np.asarray(1 / sqrt(dim)) if mask.scale is None else pairs.evaluate(mask.scale, attends)
    score = products * scale
    for expression in mask.scores:
        score = pairs.evaluate(expression, attends, score)
    some = np.asarray(attends.any(axis=1, keepdims=True))
    sinks = [_of_queries(pairs, each, np.ones_like(some)) for each in mask.sinks]
    p, lse = probabilities(score, attends, sinks, mask.normalize)
    if mask.weight is not None:
        p = p * np.where(attends & (p != 0), pairs.evaluate(mask.weight, attends), 0)
    out = p @ values
    for term in mask.values:
        assert rows is not None
        out = out + _by_entry(pairs, term, p, rows[term.name])
    return out if mask.factor is None else scaled_output(out, _of_queries(pairs, mask.factor, some)), lse


def _by_entry(pairs: Pairs, term: ValueTerm, p: Array, rows: Array) -> Array:
    """[queries, dim]: the vectors that pairs choose, each times the probability and the weight of its pair."""
    attends = p != 0
    sizes = [each.count for each in term.windows]
    ones = np.ones((pairs.batch + 1, pairs.head + 1, len(p), *sizes))
    weigh = replace(pairs, inputs={**pairs.inputs, term.name: ones})
    weights = np.where(attends, weigh.evaluate(term.weight, attends), 0)
    counts = attends & (weights != 0)
    entries = [np.broadcast_to(pairs.evaluate(each.shifted, counts), p.shape) for each in term.windows]
    chosen = tuple(np.clip(each, 0, size - 1) for each, size in zip(entries, sizes, strict=True))
    masses = np.zeros((len(p), *sizes))
    queries = np.broadcast_to(np.arange(len(p))[:, None], p.shape)
    np.add.at(masses, (queries, *chosen), p * weights)
    masses, rows = masses.reshape(len(p), -1, 1), rows.reshape(len(p), -1, rows.shape[-1])
    return np.asarray(np.where(masses != 0, masses * np.where(masses != 0, rows, 0), 0).sum(axis=1))


def _of_queries(pairs: Pairs, expression: Expression, asked: Array) -> Array:
    """The values [queries, 1] of an expression over the query alone. Raises as `Pairs.evaluate`."""
    return replace(pairs, k=np.zeros((1, 1), dtype=np.int64)).evaluate(expression, asked)
