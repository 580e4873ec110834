"""The attending pairs of a relation that lists of entries bound, one by one: in time of the lists, not of tiles.

A relation has a cover if every pair that attends is in one of a few joins: an entry of a sparse input is stored, two
columns are equal, or a token is one of a few, as in `edge[q, k] or k == near[q] or k < 4`. The joins give candidates,
on which the relation is evaluated.
"""

from collections.abc import Callable, Mapping

import numpy as np

from maskdsl.analysis.tiles.block_map import Runs, TileMap
from maskdsl.analysis.tiles.interval_program import Column, IntervalProgram
from maskdsl.analysis.tiles.list_bounds import Bounded, BoundedList
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Apply, Constant, Expression, Read, Side
from maskdsl.ir.facts.intervals import Array, Interval, point
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.values.entries import distinct

_CHUNK = 1 << 18
"""Candidates that are evaluated at once."""
_MOST_EQUAL = 1 << 29
"""With more steps of the program for all candidates of equal columns, the descent through tiles is faster."""
_MOST_A_TOKEN = 64
"""With more candidates a token or entry, as of lists of blocks, the descent through tiles is faster."""


@dataclass(frozen=True)
class Join:
    """The pairs in which columns of both sides are the row and the column of an entry; equal, if there is no list.

    With the column of one side, the pairs of its tokens for which that column, a boolean, is true.
    """

    query: int | None
    key: int | None
    entries: BoundedList | None
    is_transposed: bool = False
    """Whether the row of an entry is read from the key."""


@dataclass(frozen=True)
class Cover:
    """Joins that hold every attending pair."""

    joins: tuple[Join, ...]
    is_exact: bool
    """Whether all pairs of the joins attend."""

    def costs(self) -> tuple[int, int]:
        """Less for covers with fewer pairs, as far as their form says so: joins of one side, then those of no list."""
        one_sided = sum(join.query is None or join.key is None for join in self.joins)
        return one_sided, sum(join.entries is None for join in self.joins)

    @property
    def has_lists(self) -> bool:
        """Whether some join is of the entries of a list, and not of equal columns alone."""
        return any(join.entries is not None for join in self.joins)


def find_cover(
    relation: Expression, tables: Mapping[str, Bounded], column: Callable[[Expression], Column | None]
) -> Cover | None:
    """The cover of a relation whose expressions over one side are columns; None if there is none."""
    join: Join | None
    match relation:
        case _ if relation.type is Type.BOOL and (alone := column(relation)) is not None:
            is_query = alone.side is Side.QUERY
            join = Join(alone.index if is_query else None, None if is_query else alone.index, None)
        case Apply(op=Op.AND, arguments=operands):
            covers = [each for each in (find_cover(one, tables, column) for one in operands) if each is not None]
            least = min(covers, key=Cover.costs, default=None)
            return None if least is None else Cover(least.joins, False)
        case Apply(op=Op.OR, arguments=operands):
            either = [find_cover(one, tables, column) for one in operands]
            known = [each for each in either if each is not None]
            if len(known) < len(either):
                return None
            return Cover(tuple(join for each in known for join in each.joins), all(each.is_exact for each in known))
        case Apply(op=Op.LESS_EQUAL, arguments=(Constant(value=0), Read(input=name, sparse=True, indices=indices))):
            entries = tables[name]
            assert isinstance(entries, BoundedList)
            join = _join(tuple(map(column, indices)), entries)
        case Apply(op=Op.EQUAL, arguments=operands):
            join = _join(tuple(map(column, operands)), None)
        case _:
            join = None
    return None if join is None else Cover((join,), True)


def _join(columns: tuple[Column | None, ...], entries: BoundedList | None) -> Join | None:
    match columns:
        case (Column(side=Side.QUERY, index=query), Column(side=Side.KEY, index=key)):
            return Join(query, key, entries)
        case (Column(side=Side.KEY, index=key), Column(side=Side.QUERY, index=query)):
            return Join(query, key, entries, is_transposed=True)
        case _:
            return None


@dataclass(frozen=True, eq=False)
class ListedPairs:
    """All attending pairs of a head class: positions in memory order, sorted by query, then by key."""

    counts: Array
    """int64 [queries]: the keys of each query."""
    column: Array
    """int32: the key of each pair."""

    @staticmethod
    def of(row: Array, column: Array, queries: int) -> "ListedPairs":
        """These pairs."""
        return ListedPairs(np.bincount(row, minlength=queries), column.astype(np.int32))

    @property
    def row(self) -> Array:
        """int64: the query of each pair."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def tiles(self, query_length: int, key_length: int, block: tuple[int, int]) -> TileMap:
        """The tiles with these pairs, of blocks of so many queries and keys."""
        lengths = query_length, key_length
        shape = tuple(-(-length // size) for length, size in zip(lengths, block, strict=True))
        tile, counts = _counted(self.row // block[0] * shape[1] + self.column // block[1], shape[0] * shape[1])
        row, column = np.divmod(tile, shape[1])
        heights, widths = (
            np.minimum(block[axis], lengths[axis] - each * block[axis]) for axis, each in enumerate((row, column))
        )
        full = counts == heights * widths
        runs = (Runs.of_segments(shape[0], row[which], column[which], column[which] + 1) for which in (full, ~full))
        return TileMap(*runs)


def _counted(numbers: Array, most: int) -> tuple[Array, Array]:
    """The different ones of numbers below `most`, sorted, and how often each is there."""
    if most > len(numbers):
        values, counts = np.unique(numbers, return_counts=True)
        return values, counts
    counts = np.bincount(numbers, minlength=most)
    values = np.flatnonzero(counts)
    return values, counts[values]


def list_pairs(
    cover: Cover, program: IntervalProgram, query: tuple[Array, ...], key: tuple[Array, ...], lengths: tuple[int, int]
) -> ListedPairs | None:
    """The attending pairs of a relation with this cover; `query` and `key` are the columns of all tokens.

    None if the joins have too many pairs, or if there are no lists and columns are equal to no position.
    """
    if not (cover.has_lists or all(_has_positions(join, query, key) for join in cover.joins)):
        return None
    tokens = [_joined(join, query, key, lengths) for join in cover.joins]
    listed = sum(len(join.entries.entries.columns) for join in cover.joins if join.entries is not None)
    most = _MOST_A_TOKEN * listed + 2 * sum(lengths) if cover.has_lists else _MOST_EQUAL // len(program.steps)
    if sum(each.size for each in tokens) > most:
        return None
    codes = np.concatenate([each.codes(lengths[1]) for each in tokens])
    if (codes[1:] < codes[:-1]).any():
        codes.sort()
    codes = distinct(codes)
    row, column = np.divmod(codes, lengths[1])
    if not cover.is_exact:
        attends = np.empty(len(row), dtype=bool)
        for begin in range(0, len(row), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            attends[chunk] = _evaluated(program, query, key, row[chunk], column[chunk])
        row, column = row[attends], column[attends]
    return ListedPairs.of(row, column, lengths[0])


def _evaluated(
    program: IntervalProgram, query: tuple[Array, ...], key: tuple[Array, ...], row: Array, column: Array
) -> Array:
    """bool: which of these pairs attend."""

    def load(each: Column) -> Interval:
        return point(query[each.index][row] if each.side is Side.QUERY else key[each.index][column])

    return np.broadcast_to(program.run(load).low, row.shape)


@dataclass(frozen=True, eq=False)
class _JoinedTokens:
    """The values of a join, and the tokens of both sides that have each: `order` sorts tokens by their values."""

    orders: tuple[Array, Array]
    firsts: tuple[Array, Array]
    counts: tuple[Array, Array]

    @property
    def size(self) -> int:
        """The number of pairs."""
        return int((self.counts[0] * self.counts[1]).sum())

    def codes(self, width: int) -> Array:
        """int64: query and key of each pair in one number; `width` is the number of keys."""
        total = self.counts[0] * self.counts[1]
        value = np.repeat(np.arange(len(total)), total)
        number = np.arange(len(value)) - np.repeat(np.cumsum(total) - total, total)
        numbers = np.divmod(number, np.maximum(self.counts[1], 1)[value])
        sides = zip(self.orders, self.firsts, numbers, strict=True)
        query, key = (order[first[value] + each] for order, first, each in sides)
        return np.asarray(query * width + key)


@dataclass(frozen=True, eq=False)
class _EntryPairs:
    """The pairs of a join of a list whose rows and columns are the positions of tokens."""

    row: Array
    column: Array

    @property
    def size(self) -> int:
        """The number of pairs."""
        return len(self.row)

    def codes(self, width: int) -> Array:
        """int64: as of `_JoinedTokens`."""
        return np.asarray(self.row * width + self.column)


def _joined(
    join: Join, queries: tuple[Array, ...], keys: tuple[Array, ...], lengths: tuple[int, int]
) -> _JoinedTokens | _EntryPairs:
    if join.query is None or join.key is None:
        orders = _chosen(join.query, queries, lengths[0]), _chosen(join.key, keys, lengths[1])
        first, counts = np.zeros(1, dtype=np.int64), [np.array([len(each)]) for each in orders]
        return _JoinedTokens(orders, (first, first), (counts[0], counts[1]))
    query, key = queries[join.query], keys[join.key]
    if join.entries is None:
        pairs = _equal(query, key)
        if pairs is not None:
            return pairs
        wanted = np.intersect1d(query, key)
        values = wanted, wanted
    else:
        codes = join.entries.entries.distinct
        values = codes >> 31, codes & (2**31 - 1)
        values = values[::-1] if join.is_transposed else values
        if all(map(_are_positions, (query, key))):
            inside = (values[0] < lengths[0]) & (values[1] < lengths[1])
            return _EntryPairs(*values) if inside.all() else _EntryPairs(*(each[inside] for each in values))
    orders = np.argsort(query, kind="stable"), np.argsort(key, kind="stable")
    firsts, counts = [], []
    for order, column, each in zip(orders, (query, key), values, strict=True):
        in_order = column[order]
        firsts.append(np.searchsorted(in_order, each))
        counts.append(np.searchsorted(in_order, each, side="right") - firsts[-1])
    return _JoinedTokens(orders, (firsts[0], firsts[1]), (counts[0], counts[1]))


def _equal(query: Array, key: Array) -> _EntryPairs | None:
    """The pairs of equal values, if each value from 0 on is that of one token of a side; else None."""
    for values, others in ((query, key), (key, query)):
        tokens = _tokens_by_value(values)
        if tokens is not None:
            known = np.flatnonzero((others >= 0) & (others < len(tokens)))
            equal = tokens[others[known]]
            return _EntryPairs(equal, known) if others is key else _EntryPairs(known, equal)
    return None


def _has_positions(join: Join, queries: tuple[Array, ...], keys: tuple[Array, ...]) -> bool:
    """Whether each value of one of the columns is that of one token; so it is where a join has one column."""
    if join.query is None or join.key is None:
        return True
    return any(_tokens_by_value(values) is not None for values in (queries[join.query], keys[join.key]))


def _tokens_by_value(values: Array) -> Array | None:
    """The token of each value, if the values of all tokens are 0, 1, 2, ... in some order."""
    if not len(values) or values.dtype.kind != "i" or values.min() < 0 or values.max() >= len(values):
        return None
    tokens = np.zeros(len(values), dtype=np.int64)
    tokens[values] = np.arange(len(values))
    return tokens if (tokens[values] == np.arange(len(values))).all() else None


def _are_positions(values: Array) -> bool:
    """Whether a column holds the position of each token."""
    return bool((values == np.arange(len(values))).all())


def _chosen(column: int | None, columns: tuple[Array, ...], length: int) -> Array:
    """The tokens for which a column is true; all without a column."""
    return np.arange(length) if column is None else np.flatnonzero(columns[column])
