"""Tiles whose tokens match: of relations such as `q.window == k.window and q.inner`, by joining both sides' values.

A relation has them if it is a union of terms, each of which asks that columns of both sides are equal, and of either
side alone what it likes. For each value the blocks that hold it are known, and how many of their tokens do: so pairs
are counted for each tile, in time of the blocks of each value and not of the tokens.
"""

from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import chain, product
from math import prod
from operator import and_

import numpy as np

from maskdsl.analysis.tiles.block_map import ranges
from maskdsl.analysis.tiles.interval_program import Column
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Apply, Expression, Side
from maskdsl.ir.facts.intervals import Array
from maskdsl.ir.ops import Op, Type

_TERMS = 64
"""Relations of more terms have none."""
_MOST = 1 << 17
_MOST_EACH = 4
"""With more pairs of blocks, or of those that share a value for each value of a block, the descent is faster."""
_WIDEST = 2.0**53
"""Floats hold whole numbers up to this one."""


@dataclass(frozen=True)
class MatchTerm:
    """Pairs of tokens for which these columns, booleans of one side, are true, and these two by two are equal."""

    query: tuple[int, ...] = ()
    key: tuple[int, ...] = ()
    equal: tuple[tuple[int, int], ...] = ()
    """Columns of queries and of keys."""

    def __and__(self, other: "MatchTerm") -> "MatchTerm":
        return MatchTerm(self.query + other.query, self.key + other.key, self.equal + other.equal)


@dataclass(frozen=True, eq=False)
class MatchedTiles:
    """Tiles with matching pairs, once each."""

    row: Array
    column: Array
    is_full: Array
    """bool: whether all pairs match."""
    is_partial: Array
    """bool: whether it is certain that not all do."""


def find_terms(relation: Expression, column: Callable[[Expression], Column | None]) -> tuple[MatchTerm, ...] | None:
    """Terms of which one holds for exactly the pairs that attend; None if there are none, or many.

    The expressions of a relation over one side are columns.
    """
    terms: list[MatchTerm] | None = None
    match relation:
        case _ if relation.type is Type.BOOL and (alone := column(relation)) is not None:
            is_query = alone.side is Side.QUERY
            terms = [MatchTerm(query=(alone.index,)) if is_query else MatchTerm(key=(alone.index,))]
        case Apply(op=Op.EQUAL, arguments=operands):
            match tuple(map(column, operands)):
                case (Column(side=Side.QUERY, index=query), Column(side=Side.KEY, index=key)):
                    terms = [MatchTerm(equal=((query, key),))]
                case (Column(side=Side.KEY, index=key), Column(side=Side.QUERY, index=query)):
                    terms = [MatchTerm(equal=((query, key),))]
        case Apply(op=Op.AND | Op.OR as op, arguments=operands):
            known = [each for each in (find_terms(one, column) for one in operands) if each is not None]
            if len(known) == len(operands):
                terms = [*chain(*known)] if op is Op.OR else _each_with_each(known)
    return None if terms is None or len(terms) > _TERMS else tuple(terms)


def _each_with_each(factors: Sequence[tuple[MatchTerm, ...]]) -> list[MatchTerm] | None:
    if prod(map(len, factors)) > _TERMS:
        return None
    return [reduce(and_, each) for each in product(*factors)]


def matched_tiles(terms: tuple[MatchTerm, ...], query: Tree, key: Tree) -> MatchedTiles | None:
    """The tiles in which pairs match; None if blocks that share values are too many, or columns are not of integers."""
    shared, held = [], cache(_BlockValues.of_column)
    for term in terms:
        match term.equal:
            case ((a, b),):
                queries, keys = held(query, term.query, a), held(key, term.key, b)
            case _:
                queries, keys = _of_columns(term, query, key)
        if queries is None or keys is None:
            return None
        shared.append(_SharedValues.of(queries, keys))
    if sum(each.size for each in shared) > _MOST + _MOST_EACH * sum(each.values for each in shared):
        return None
    counted = [each.counted(key.count) for each in shared]
    tile, counts, most = _summed(counted)
    row, column = np.divmod(tile, key.count)
    sizes = _tokens(query, row) * _tokens(key, column)
    return MatchedTiles(row, column, most == sizes, counts < sizes)


def _summed(counted: list[tuple[Array, Array]]) -> tuple[Array, Array, Array]:
    """Tiles, the sum of their counts, and the largest one."""
    tile, counts = map(np.concatenate, zip(*counted, strict=True))
    order = np.argsort(tile, kind="stable")  # of sorted pieces
    tile, counts = tile[order], counts[order]
    first = np.flatnonzero(np.diff(tile, prepend=-1))
    if not len(first):
        return tile, counts, counts
    return tile[first], np.add.reduceat(counts, first), np.maximum.reduceat(counts, first)


def _tokens(tree: Tree, block: Array) -> Array:
    return np.asarray(np.minimum(tree.sizes[0], tree.length - block * tree.sizes[0]))


@dataclass(frozen=True, eq=False)
class _BlockValues:
    """The values of one side, sorted, with a block that holds each and the number of its tokens that do."""

    value: Array
    block: Array
    count: Array

    @staticmethod
    def of(values: Array, tokens: Array, size: int) -> "_BlockValues":
        """Of the values of these tokens, in blocks of `size` tokens."""
        block = tokens // size
        first = _changes(values, block)
        values, block, count = values[first], block[first], np.diff(first, append=len(values))
        if (values[1:] < values[:-1]).any():
            order = np.lexsort((block, values))
            values, block, count = values[order], block[order], count[order]
            first = _changes(values, block)
            values, block, count = values[first], block[first], np.add.reduceat(count, first)
        return _BlockValues(values, block, count)

    @staticmethod
    def of_column(tree: Tree, filters: tuple[int, ...], number: int) -> "_BlockValues | None":
        """Of the tokens of a tree that pass these filters, by one column; None if it has floats."""
        column, tokens = tree.columns[number], _chosen(tree, filters)
        return None if column.dtype.kind == "f" else _BlockValues.of(column[tokens], tokens, tree.sizes[0])


def _changes(values: Array, blocks: Array) -> Array:
    """Where either is another one than before."""
    return np.flatnonzero(
        np.append(np.ones(min(len(values), 1), dtype=bool), (values[1:] != values[:-1]) | (blocks[1:] != blocks[:-1]))
    )


@dataclass(frozen=True, eq=False)
class _SharedValues:
    """Pairs of a query block and the key blocks `first` to `end` of `key` that hold a value of it."""

    query: _BlockValues
    key: _BlockValues
    first: Array
    end: Array

    @staticmethod
    def of(query: _BlockValues, key: _BlockValues) -> "_SharedValues":
        """Of what both sides hold."""
        first, end = (np.searchsorted(key.value, query.value, side=side) for side in ("left", "right"))
        return _SharedValues(query, key, first, end)

    @property
    def size(self) -> int:
        """The number of pairs of blocks."""
        return int((self.end - self.first).sum())

    @property
    def values(self) -> int:
        """The number of values of all blocks."""
        return len(self.query.value) + len(self.key.value)

    def counted(self, columns: int) -> tuple[Array, Array]:
        """Tiles, row by row in one number, and the pairs of tokens in each; sorted, once each."""
        at, number = np.repeat(np.arange(len(self.first)), self.end - self.first), ranges(self.first, self.end)
        tile = self.query.block[at] * columns + self.key.block[number]
        counts = self.query.count[at] * self.key.count[number]
        first = np.flatnonzero(np.diff(tile, prepend=-1))
        if not len(first):
            return tile, counts
        tile, counts, _ = _summed([(tile[first], np.add.reduceat(counts, first))])
        return tile, counts


def _of_columns(term: MatchTerm, query: Tree, key: Tree) -> tuple[_BlockValues | None, _BlockValues | None]:
    """What both sides hold of a term of any number of columns; None if these are no integers, or too large."""
    trees = query, key
    tokens = _chosen(query, term.query), _chosen(key, term.key)
    values = [np.zeros(len(each), dtype=np.int64) for each in tokens]
    size = 1.0
    for numbers in term.equal if all(map(len, tokens)) else ():
        columns = [tree.columns[number] for tree, number in zip(trees, numbers, strict=True)]
        if any(column.dtype.kind == "f" for column in columns):
            return None, None
        columns = [column[chosen].astype(np.int64) for column, chosen in zip(columns, tokens, strict=True)]
        low = min(int(column.min()) for column in columns)
        width = max(int(column.max()) for column in columns) - low + 1
        size *= width
        if size > _WIDEST:
            return None, None
        values = [value * width + (column - low) for value, column in zip(values, columns, strict=True)]
    queries, keys = (
        _BlockValues.of(value, at, tree.sizes[0]) for value, at, tree in zip(values, tokens, trees, strict=True)
    )
    return queries, keys


def _chosen(tree: Tree, filters: tuple[int, ...]) -> Array:
    """The tokens for which these columns are true."""
    chosen = [tree.columns[number] for number in filters]
    return np.flatnonzero(reduce(np.logical_and, chosen)) if chosen else np.arange(tree.length)
