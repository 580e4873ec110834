"""The dual-tree descent: classifies all tiles as empty, partial or full. Exact; work follows the size of the answer.

Pairs of a query node and a key node are classified a whole frontier at a time, by intervals. A pair of nodes that never
or always attends is done at its level; the others are split. Tiles that intervals leave open are shown to be partial by
sampled token pairs, or split further and at last evaluated token by token.
"""

from collections.abc import Iterator
from dataclasses import field
from functools import cached_property, partial
from math import inf

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, TileMap, merge_segments
from maskdsl.analysis.tiles.interval_program import Column, IntervalProgram
from maskdsl.analysis.tiles.listed_pairs import Cover, ListedPairs, list_pairs
from maskdsl.analysis.tiles.matches import MatchTerm
from maskdsl.analysis.tiles.separation import Separation
from maskdsl.analysis.tiles.trees import Nodes, Points, Tree
from maskdsl.base.progress import Area
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.intervals import Interval, point

_START = 256
"""The descent starts at the lowest level with at most this many pairs of nodes."""
_FRONTIER = 1 << 20
"""Longer frontiers are halved and the halves done one after the other, to bound memory."""
_CHUNK = 1 << 15
"""Pairs evaluated at once, so that intermediate results stay in the cache."""
_TILES = 1 << 12
"""Open tiles split at once."""
_OPEN = 32
"""Pairs of nodes that cost about what an open tile does."""
_SAMPLED = 9
"""Pairs of tokens of a tile that are evaluated first."""
_GOLDEN = 0x9E3779B1
"""Multiples of it are spread evenly (Knuth)."""
_CROWDED = 0.5
"""If more than this share of a frontier stays open, only query nodes are split, until they are blocks.

If each query block attends random key blocks, a group of query blocks attends almost all key blocks, and a single query
block few. If the final answer is dense too, splitting one side first costs next to nothing.
"""


@dataclass(frozen=True, eq=False)
class Problem:
    """The relation of one head class as a program, and the trees of its queries and keys."""

    program: IntervalProgram
    query: Tree
    key: Tree
    cover: Cover | None = None
    terms: tuple[MatchTerm, ...] | None = None
    """Terms of which one holds for exactly the pairs that attend."""

    @staticmethod
    def of(separated: Separation, query: Tree, key: Tree) -> "Problem":
        """Of the trees of both sides' columns."""
        return Problem(separated.program, query, key, separated.cover, separated.terms)

    @property
    def listed(self) -> ListedPairs | None:
        """All attending pairs, if lists of entries bound them."""
        return self._pairs if self.cover is not None and self.cover.has_lists else None

    @property
    def equal(self) -> ListedPairs | None:
        """All attending pairs, if they are among few of equal columns."""
        return None if self.cover is None or self.cover.has_lists else self._pairs

    @cached_property
    def _pairs(self) -> ListedPairs | None:
        assert self.cover is not None
        lengths = self.query.length, self.key.length
        return list_pairs(self.cover, self.program, self.query.columns, self.key.columns, lengths)

    @cached_property
    def distinct(self) -> "Problem":
        """The problem of the different tokens of each block: a tile has the same class."""
        return Problem(self.program, self.query.distinct, self.key.distinct)

    @property
    def steps(self) -> Iterator[tuple[int, int, int, int]]:
        """Steps of splitting tiles: (query level, key level, children of a query node, children of a key node).

        Queries are split first: a single query often attends one interval of keys, a group of queries many.
        """
        for level in range(0, min(self.query.bottom, self.key.bottom), -1):
            yield from self.steps_below(level)

    def steps_below(self, level: int) -> Iterator[tuple[int, int, int, int]]:
        """The steps from one level to the next."""
        query, key, below = self.query, self.key, level - 1
        if below >= query.bottom:
            yield below, max(level, key.bottom), query.children(level), 1
        if below >= key.bottom:
            yield max(below, query.bottom), below, 1, key.children(level)

    def chunk(self, pairs: int = 1) -> int:
        """How many nodes of `pairs` token pairs are evaluated at once: fewer if the program has many live slots."""
        return max(1, min(_CHUNK, 16 * _CHUNK // self.program.width) // pairs)

    def judge(self, query_level: int, key_level: int, rows: Array, columns: Array) -> tuple[Array, Array]:
        """For each pair of nodes, two bools: whether all of its token pairs attend, and whether any may."""
        always, possible, _ = self.judge_mixed(query_level, key_level, rows, columns)
        return always, possible

    def judge_mixed(self, query_level: int, key_level: int, rows: Array, columns: Array) -> tuple[Array, Array, Array]:
        """`judge`, and where it is certain that some pairs attend and some do not."""
        always, possible, mixed = (np.zeros(len(rows), dtype=bool) for _ in range(3))
        levels = max(query_level, self.query.bottom), max(key_level, self.key.bottom)
        for chunk in chunks(len(rows), self.chunk()):
            result = self.program.run(partial(self.pick, *levels, rows[chunk], columns[chunk]))
            always[chunk], possible[chunk] = result.low, result.high
            if result.mixed is not None:
                mixed[chunk] = result.mixed
        return always, possible, mixed

    def pick(self, query_level: int, key_level: int, rows: Array, columns: Array, column: Column) -> Interval:
        """The bounds of a column over these nodes."""
        is_query, number = column.side is Side.QUERY, column.index
        tree, level, nodes = (self.query, query_level, rows) if is_query else (self.key, key_level, columns)
        interval = tree.bounds(level)[number]
        low = interval.low[nodes]
        high = low if interval.is_point else interval.high[nodes]
        return Nodes(low, high, tree=tree, column=number, level=level, nodes=nodes)

    def evaluate(self, query: Points, key: Points, rows: Array, columns: Array) -> Array:
        """bool [node pairs, tokens of a row, tokens of a column]: which token pairs attend.

        An axis of tokens has length 1 if the program reads no column of that side. Node pairs, which are many, are the
        last axis in memory.
        """

        def load(column: Column) -> Interval:
            if column.side is Side.QUERY:
                return point(query[column.index][rows].T[:, None, :].copy())
            return point(key[column.index][columns].T[None, :, :].copy())

        return np.moveaxis(self.program.run(load).low, -1, 0)


def chunks(length: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover `length`; the last may reach beyond it."""
    return (slice(begin, begin + size) for begin in range(0, length, size))


def cut(rows: Array, columns: Array, row_children: int, column_children: int) -> tuple[Array, Array]:
    """Rows and columns of all pairs of children of these pairs of nodes."""
    shape = len(rows), row_children, column_children
    rows = rows[:, None, None] * row_children + np.arange(row_children)[:, None]
    columns = columns[:, None, None] * column_children + np.arange(column_children)
    return np.broadcast_to(rows, shape).reshape(-1), np.broadcast_to(columns, shape).reshape(-1)


@dataclass(frozen=True)
class _Frontier:
    """Pairs of a query node (row) and a key node (column), each side at one level."""

    query_level: int
    key_level: int
    rows: Array
    columns: Array

    @staticmethod
    def first(query: Tree, key: Tree) -> "_Frontier":
        """All pairs of nodes, at the lowest level with few enough."""
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
        """The children: one level down in both trees, or in the query tree only if `crowded`."""
        query_level = max(self.query_level - 1, 0)
        key_level = self.key_level if crowded and self.query_level > 0 else max(self.key_level - 1, 0)
        children = 1 + (query_level < self.query_level), 1 + (key_level < self.key_level)
        child = _Frontier(query_level, key_level, *cut(self.rows, self.columns, *children))
        real = (child.rows < query.nodes(query_level)) & (child.columns < key.nodes(key_level))
        return child if real.all() else child.select(real)


@dataclass(frozen=True)
class _Segments:
    """Collects tiles as segments (row, start, end)."""

    collected: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def add(self, frontier: _Frontier, query: Tree, key: Tree) -> None:
        """Adds all tiles of these pairs of nodes."""
        height, width = 1 << frontier.query_level, 1 << frontier.key_level
        rows, columns = cut(frontier.rows, frontier.columns, height, 1)
        real = rows < query.count
        begin = columns[real] * width
        self.collected.append(merge_segments(rows[real], begin, np.minimum(begin + width, key.count)))

    def runs(self, rows: int) -> Runs:
        empty = np.zeros(0, dtype=np.int64)
        return Runs.of_segments(
            rows, *(np.concatenate(each) for each in zip((empty,) * 3, *self.collected, strict=True))
        )


def descend(problem: Problem, hasty: bool) -> TileMap:
    """The exact class of every tile. If `hasty`, all tiles that intervals leave open count as partial."""
    tiles = descend_shortly(problem, hasty, inf)
    assert tiles is not None
    return tiles


def descend_shortly(problem: Problem, hasty: bool, most: float) -> TileMap | None:
    """The same; None as soon as more than `most` pairs of nodes would be judged."""
    query, key = problem.query, problem.key
    first = [_Frontier.first(query, key)] if query.count * key.count else []
    return _descend(problem, hasty, most, first, query.count * key.count)


def descend_among(problem: Problem, hasty: bool, rows: Array, columns: Array) -> TileMap:
    """The exact class of some tiles, as of `descend`; all others are taken to be empty."""
    tiles = _descend(problem, hasty, inf, [_Frontier(0, 0, rows, columns)], max(len(rows), 1))
    assert tiles is not None
    return tiles


def _descend(problem: Problem, hasty: bool, most: float, stack: list[_Frontier], total: int) -> TileMap | None:
    query, key = problem.query, problem.key
    full, mixed, area = _Segments(), _Segments(), Area(total)
    judged = 0
    while stack:
        frontier = stack.pop()
        judged += len(frontier.rows)
        if judged > most:
            return None
        if len(frontier.rows) > _FRONTIER:
            stack.extend(frontier.halves())
            continue
        levels = frontier.query_level, frontier.key_level
        always, possible, both = problem.judge_mixed(*levels, frontier.rows, frontier.columns)
        full.add(frontier.select(always), query, key)
        if not any(levels):
            mixed.add(frontier.select(both), query, key)
            possible &= ~both
        still = frontier.select(possible & ~always)
        area.add((len(frontier.rows) - len(still.rows)) << (frontier.query_level + frontier.key_level))
        if not len(still.rows):
            continue
        if frontier.query_level or frontier.key_level:
            stack.append(still.down(query, key, crowded=len(still.rows) > _CROWDED * len(frontier.rows)))
        elif hasty:
            mixed.add(still, query, key)
        else:
            judged += len(still.rows) * _OPEN
            if judged > most:
                return None
            some, every = _settle(problem, still.rows, still.columns, area)
            full.add(still.select(every), query, key)
            mixed.add(still.select(some & ~every), query, key)
    return TileMap(full.runs(query.count), mixed.runs(query.count))


def _settle(problem: Problem, rows: Array, columns: Array, area: Area) -> tuple[Array, Array]:
    """For tiles that intervals leave open, two bools: whether some pair attends, and whether every pair does."""
    some, every = _sample(problem, rows, columns)
    doubtful = np.flatnonzero(some == every)
    area.add(len(rows) - len(doubtful))
    if len(doubtful) > problem.query.count + problem.key.count:
        problem = problem.distinct
    for chunk in chunks(len(doubtful), _TILES):
        tiles = doubtful[chunk]
        some[tiles], every[tiles] = _search(problem, rows[tiles], columns[tiles], some[tiles], every[tiles])
        area.add(len(tiles))
    return some, every


def _sample(problem: Problem, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Whether any and all of some token pairs attend: those of both blocks' ends, and where these agree, of nine."""
    some, every = _attended(problem, _tokens_at(problem, [0.0, 1.0]), rows, columns)
    doubtful = np.flatnonzero(some == every)
    rows, columns = rows[doubtful], columns[doubtful]
    some[doubtful], every[doubtful] = _attended(problem, _tokens_at(problem, [0.0, 0.5, 1.0]), rows, columns)
    return some, every


def _tokens_at(problem: Problem, shares: list[float]) -> tuple[Points, Points]:
    """The tokens of either side's blocks at these shares of their length."""
    sides = []
    for tree in (problem.query, problem.key):
        blocks = [tree.column(number, 0) for number in range(len(tree.columns))]
        sides.append(tuple(block[:, [round(each * (block.shape[1] - 1)) for each in shares]] for block in blocks))
    return sides[0], sides[1]


def _one_token(tree: Tree, level: int) -> Points:
    """A token of each node of a level, here and there: patterns may have any period."""
    nodes = np.arange(tree.nodes(level))
    blocks = [tree.column(number, level) for number in range(len(tree.columns))]
    return tuple(block[nodes, (nodes * _GOLDEN >> 16) % block.shape[1]][:, None] for block in blocks)


def _attended(problem: Problem, tokens: tuple[Points, Points], rows: Array, columns: Array) -> tuple[Array, Array]:
    """Whether any and all pairs attend of these tokens of either node."""
    some, every = np.empty(len(rows), dtype=bool), np.empty(len(rows), dtype=bool)
    for chunk in chunks(len(rows), problem.chunk(_SAMPLED)):
        attended = problem.evaluate(*tokens, rows[chunk], columns[chunk])
        some[chunk], every[chunk] = attended.any(axis=(1, 2)), attended.all(axis=(1, 2))
    return some, every


def _search(problem: Problem, rows: Array, columns: Array, some: Array, every: Array) -> tuple[Array, Array]:
    """Splits tiles further until some pair attends and some does not, or every pair is evaluated.

    Of large nodes one pair of tokens is evaluated before they are split, which mostly decides a tile. Of the smallest
    nodes of a tile one is evaluated first; then 1, 2, 4, ... more.
    """
    query, key = problem.query, problem.key
    owner = np.arange(len(rows))
    for query_level, key_level, *children in problem.steps:
        owner = np.repeat(owner, children[0] * children[1])
        rows, columns = cut(rows, columns, *children)
        always, possible = problem.judge(query_level, key_level, rows, columns)
        some[owner[always]] = True
        every[owner[~possible]] = False
        still = possible & ~always & (some == every)[owner]
        rows, columns, owner = rows[still], columns[still], owner[still]
        if query_level > query.bottom and key_level > key.bottom:
            tokens = _one_token(query, query_level), _one_token(key, key_level)
            attends, _ = _attended(problem, tokens, rows, columns)
            some[owner[attends]] = True
            every[owner[~attends]] = False
            still = (some == every)[owner]
            rows, columns, owner = rows[still], columns[still], owner[still]
    turn = np.arange(len(owner)) - np.searchsorted(owner, owner)
    turns = 1
    while len(owner):
        now = np.flatnonzero(turn < turns)
        for chunk in chunks(len(now), problem.chunk(query.sizes[-1] * key.sizes[-1])):
            pairs = now[chunk]
            attended = problem.evaluate(query.points, key.points, rows[pairs], columns[pairs])
            some[owner[pairs[attended.any(axis=(1, 2))]]] = True
            every[owner[pairs[~attended.all(axis=(1, 2))]]] = False
        later = (turn >= turns) & (some == every)[owner]
        rows, columns, owner, turn = rows[later], columns[later], owner[later], turn[later]
        turns *= 2
    return some, every
