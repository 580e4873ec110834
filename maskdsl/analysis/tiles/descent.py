"""The dual-tree descent: which tiles are empty, partial and full. Exact, and the work follows the size of the answer.

Pairs of a query node and a key node are judged a whole frontier at a time. A pair that never or always attends is
done, whole, at its level; the others are cut further. Tiles that stay open are proven partial by a few sampled pairs,
or cut into parts and at last looked at token by token.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, TileMap, merge_segments
from maskdsl.analysis.tiles.interval_program import Column, IntervalProgram
from maskdsl.analysis.tiles.intervals import Interval, point
from maskdsl.analysis.tiles.trees import Bounds, Points, Tree
from maskdsl.base.progress import Area
from maskdsl.ir.expressions import Side

_START = 256
"""The descent begins at the lowest level with at most so many pairs of nodes."""
_FRONTIER = 1 << 20
"""Longer frontiers are halved, and one half is done before the other, to bound memory."""
_CHUNK = 1 << 15
"""Pairs judged at once, so that intermediate results stay in the cache."""
_TILES = 1 << 12
"""Open tiles cut at once."""
_CROWDED = 0.5
"""Where more than this share of a frontier stays open, only query nodes are cut further, until they are blocks.

A random choice of key blocks for each query block is met by a group of query blocks almost everywhere, but by a
single one in few places. Where the answer itself is crowded, this costs next to nothing.
"""


@dataclass(frozen=True, eq=False)
class Problem:
    """The relation of one head class and the columns of its two sides."""

    program: IntervalProgram
    query: Tree
    key: Tree

    @property
    def steps(self) -> Iterator[tuple[int, int, int, int]]:
        """How tiles are cut: the levels of query and key nodes, and into how many parts either is cut to get there.

        Queries go first, one level ahead: what each query asks for is often one thing, and groups ask for many.
        """
        query, key = self.query, self.key
        for level in range(-1, min(query.bottom, key.bottom) - 1, -1):
            if level >= query.bottom:
                yield level, max(level + 1, key.bottom), query.parts(level + 1), 1
            if level >= key.bottom:
                yield max(level, query.bottom), level, 1, key.parts(level + 1)

    def chunk(self, pairs: int = 1) -> int:
        """How many nodes of so many pairs are judged at once: fewer where many results are alive."""
        return max(1, min(_CHUNK, 16 * _CHUNK // self.program.width) // pairs)

    def judge(self, query_level: int, key_level: int, rows: Array, columns: Array) -> tuple[Array, Array]:
        """For each pair of a query node and a key node: do all of its token pairs attend, may any?"""
        query, key = self.query.bounds(query_level), self.key.bounds(key_level)
        always, possible = np.empty(len(rows), dtype=bool), np.empty(len(rows), dtype=bool)
        for part in chunks(len(rows), self.chunk()):
            result = self.program.run(partial(_pick, query, rows[part], key, columns[part]))
            always[part], possible[part] = result.low, result.high
        return always, possible

    def look(self, query: Points, key: Points, rows: Array, columns: Array) -> Array:
        """bool [pairs, tokens of a row, tokens of a column]: which token pairs attend. Where no column of a side is
        read, one token stands for all.
        """

        def load(column: Column) -> Interval:
            if column.side is Side.QUERY:
                return point(query[column.index][rows][:, :, None])
            return point(key[column.index][columns][:, None, :])

        return self.program.run(load).low


def _pick(query: Bounds, rows: Array, key: Bounds, columns: Array, column: Column) -> Interval:
    bounds, nodes = (query, rows) if column.side is Side.QUERY else (key, columns)
    interval = bounds[column.index]
    return point(interval.low[nodes]) if interval.is_point else Interval(interval.low[nodes], interval.high[nodes])


def chunks(length: int, size: int) -> Iterator[slice]:
    return (slice(begin, begin + size) for begin in range(0, length, size))


def cut(rows: Array, columns: Array, row_parts: int, column_parts: int) -> tuple[Array, Array]:
    """Each pair cut into so many by so many."""
    shape = len(rows), row_parts, column_parts
    rows = rows[:, None, None] * row_parts + np.arange(row_parts)[:, None]
    columns = columns[:, None, None] * column_parts + np.arange(column_parts)
    return np.broadcast_to(rows, shape).reshape(-1), np.broadcast_to(columns, shape).reshape(-1)


@dataclass(frozen=True, slots=True)
class _Frontier:
    """Pairs of a query node and a key node, each side on one level."""

    query_level: int
    key_level: int
    rows: Array
    columns: Array

    @staticmethod
    def first(query: Tree, key: Tree) -> "_Frontier":
        """All pairs, at the lowest level where they are few."""
        levels = range(max(query.top, key.top) + 1)
        level = next(level for level in levels if query.nodes(level) * key.nodes(level) <= _START)
        rows, columns = np.indices((query.nodes(level), key.nodes(level))).reshape(2, -1)
        return _Frontier(min(level, query.top), min(level, key.top), rows, columns)

    def select(self, kept: Array) -> "_Frontier":
        return _Frontier(self.query_level, self.key_level, self.rows[kept], self.columns[kept])

    def halves(self) -> "tuple[_Frontier, _Frontier]":
        order = np.argsort(self.rows, kind="stable")
        return self.select(order[: len(order) // 2]), self.select(order[len(order) // 2 :])

    def down(self, query: Tree, key: Tree, crowded: bool) -> "_Frontier":
        """The next level of either tree, or of the queries' alone."""
        query_level = max(self.query_level - 1, 0)
        key_level = self.key_level if crowded and self.query_level > 0 else max(self.key_level - 1, 0)
        parts = 1 + (query_level < self.query_level), 1 + (key_level < self.key_level)
        child = _Frontier(query_level, key_level, *cut(self.rows, self.columns, *parts))
        real = (child.rows < query.nodes(query_level)) & (child.columns < key.nodes(key_level))
        return child if real.all() else child.select(real)


@dataclass(frozen=True, slots=True)
class _Segments:
    """Collects tiles as segments of rows."""

    parts: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def add(self, frontier: _Frontier, query: Tree, key: Tree) -> None:
        """All tiles of pairs of nodes."""
        height, width = 1 << frontier.query_level, 1 << frontier.key_level
        rows, columns = cut(frontier.rows, frontier.columns, height, 1)
        real = rows < query.count
        begin = columns[real] * width
        self.parts.append(merge_segments(rows[real], begin, np.minimum(begin + width, key.count)))

    def runs(self, rows: int) -> Runs:
        empty = np.zeros(0, dtype=np.int64)
        return Runs.of_segments(rows, *(np.concatenate(each) for each in zip((empty,) * 3, *self.parts, strict=True)))


def classify(problem: Problem, hasty: bool = False) -> TileMap:
    """The exact class of every tile. In haste those that intervals leave open are partial without a closer look."""
    query, key = problem.query, problem.key
    full, mixed, area = _Segments(), _Segments(), Area(query.count * key.count)
    stack = [_Frontier.first(query, key)]
    while stack:
        frontier = stack.pop()
        if len(frontier.rows) > _FRONTIER:
            stack.extend(frontier.halves())
            continue
        always, possible = problem.judge(frontier.query_level, frontier.key_level, frontier.rows, frontier.columns)
        full.add(frontier.select(always), query, key)
        still = frontier.select(possible & ~always)
        area.add((len(frontier.rows) - len(still.rows)) << (frontier.query_level + frontier.key_level))
        if not len(still.rows):
            continue
        if frontier.query_level or frontier.key_level:
            stack.append(still.down(query, key, crowded=len(still.rows) > _CROWDED * len(frontier.rows)))
        elif hasty:
            mixed.add(still, query, key)
        else:
            some, every = _settle(problem, still.rows, still.columns, area)
            full.add(still.select(every), query, key)
            mixed.add(still.select(some & ~every), query, key)
    return TileMap(full.runs(query.count), mixed.runs(query.count))


def _settle(problem: Problem, rows: Array, columns: Array, area: Area) -> tuple[Array, Array]:
    """For tiles that intervals leave open: does any of the pairs attend, do all?"""
    some, every = _sample(problem, rows, columns)
    doubtful = np.flatnonzero(some == every)
    area.add(len(rows) - len(doubtful))
    for part in chunks(len(doubtful), _TILES):
        tiles = doubtful[part]
        some[tiles], every[tiles] = _search(problem, rows[tiles], columns[tiles], some[tiles], every[tiles])
        area.add(len(tiles))
    return some, every


def _sample(problem: Problem, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Whether any and all of nine pairs attend: first, middle and last token of either block."""
    sides = []
    for tree in (problem.query, problem.key):
        blocks = [column.reshape(tree.count, -1) for column in tree.points]
        sides.append(tuple(block[:, [0, block.shape[1] // 2, -1]] for block in blocks))
    some, every = np.empty(len(rows), dtype=bool), np.empty(len(rows), dtype=bool)
    for part in chunks(len(rows), problem.chunk(9)):
        attended = problem.look(sides[0], sides[1], rows[part], columns[part])
        some[part], every[part] = attended.any(axis=(1, 2)), attended.all(axis=(1, 2))
    return some, every


def _search(problem: Problem, rows: Array, columns: Array, some: Array, every: Array) -> tuple[Array, Array]:
    """Goes on cutting tiles until some pair attends and some doesn't, or all have been looked at.

    Of the last parts of a tile one is looked at first, which mostly is enough; then another, two more, four more.
    """
    query, key = problem.query, problem.key
    owner = np.arange(len(rows))
    for query_level, key_level, *parts in problem.steps:
        owner = np.repeat(owner, parts[0] * parts[1])
        rows, columns = cut(rows, columns, *parts)
        always, possible = problem.judge(query_level, key_level, rows, columns)
        some[owner[always]] = True
        every[owner[~possible]] = False
        still = possible & ~always & (some == every)[owner]
        rows, columns, owner = rows[still], columns[still], owner[still]
    turn = np.arange(len(owner)) - np.searchsorted(owner, owner)
    turns = 1
    while len(owner):
        now = np.flatnonzero(turn < turns)
        for part in chunks(len(now), problem.chunk(query.sizes[-1] * key.sizes[-1])):
            pairs = now[part]
            attended = problem.look(query.points, key.points, rows[pairs], columns[pairs])
            some[owner[pairs[attended.any(axis=(1, 2))]]] = True
            every[owner[pairs[~attended.all(axis=(1, 2))]]] = False
        later = (turn >= turns) & (some == every)[owner]
        rows, columns, owner, turn = rows[later], columns[later], owner[later], turn[later]
        turns *= 2
    return some, every
