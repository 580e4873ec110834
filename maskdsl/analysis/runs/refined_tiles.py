"""Partial tiles to what every single query of them attends, as segments and leaves of strips.

A strip is a lowest node of the query tree. In the order of keys it attends *segments*, runs of keys that all of its
queries attend, and *leaves*, lowest nodes of the key tree of which each query attends the keys in a word of bits. Tiles
that repeat with a period are refined once.
"""

from collections.abc import Sequence

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, merge_segments, ranges
from maskdsl.analysis.tiles.descent import Problem, chunks, cut
from maskdsl.analysis.tiles.interval_program import Column
from maskdsl.analysis.tiles.translations import block_hashes, find_periods, find_translation
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.intervals import Interval, point

_TILES = 1 << 8
"""Partial tiles that are refined at once, to bound memory."""
_CHUNK = 8
"""How many more pairs are evaluated at once than elsewhere: most are of few columns."""
_REPEATED = 1 << 6
"""With fewer partial tiles, no period is looked for."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """What strips attend, in any order. Segments of a strip are disjoint, and so are its leaves."""

    strip: Array
    """int64: the strip of each piece."""
    start: Array
    """int64: its first key."""
    end: Array
    """int64: its end, exclusive; of a leaf the end of the node."""
    word: Array
    """int64: a leaf's row of `words`; 0 for a segment."""
    words: Array
    """uint16 [rows, queries of a strip]: bit j is set if the query attends the key `start + j`; 1 in row 0."""

    @staticmethod
    def joined(some: "Sequence[Pieces]") -> "Pieces":
        """All of these."""
        words = [each.words[1:] for each in some]
        firsts = np.cumsum([0, *map(len, words)])
        numbers = [np.where(each.word > 0, each.word + first, 0) for each, first in zip(some, firsts, strict=False)]
        strip, start, end = (
            np.concatenate([getattr(each, name) for each in some]) for name in ("strip", "start", "end")
        )
        return Pieces(strip, start, end, np.concatenate(numbers), np.concatenate([some[0].words[:1], *words]))


def refined(problem: Problem, tiles: Runs) -> Pieces:
    """What the strips of these tiles attend in them."""
    rows, columns = (each.astype(np.int64) for each in tiles.expand())
    distinct, which, row, column = _distinct(problem, rows, columns)
    query, key = problem.query, problem.key
    strips = _lowest(query, 0)
    some = [
        _refined(problem, row[chunk], column[chunk], chunk.start * strips) for chunk in chunks(distinct, _TILES)
    ] or [_refined(problem, row, column, 0)]
    pieces = Pieces.joined(some)
    tile = pieces.strip // strips
    order = np.argsort(tile, kind="stable")
    counts = np.bincount(tile, minlength=distinct)
    first = np.cumsum(counts) - counts
    copies = order[ranges(first[which], first[which] + counts[which])]
    number = np.repeat(np.arange(len(which)), counts[which])
    shift = (columns - column[which])[number] * key.sizes[0]
    strip = rows[number] * strips + pieces.strip[copies] % strips
    return Pieces(strip, pieces.start[copies] + shift, pieces.end[copies] + shift, pieces.word[copies], pieces.words)


def _distinct(problem: Problem, rows: Array, columns: Array) -> tuple[int, Array, Array, Array]:
    """How many tiles differ, which of them each tile is like, and the rows and columns of these."""
    query, key = problem.query, problem.key
    periods = find_periods(block_hashes(query), block_hashes(key)) if len(rows) >= _REPEATED else None
    moved = None if periods is None else find_translation(problem.program, query, key, periods)
    if moved is None:
        return len(rows), np.arange(len(rows)), rows, columns
    sides = (rows, moved.query), (columns, moved.key)
    inside = np.logical_and.reduce([(side.first <= each) & (each < side.end) for each, side in sides])
    back = np.minimum(*((each - side.first) // side.period for each, side in sides)) * inside
    numbers = (rows - back * moved.query.period) * key.count + columns - back * moved.key.period
    different, which = np.unique(numbers, return_inverse=True)
    return len(different), which, *np.divmod(different, key.count)


def _refined(problem: Problem, row: Array, column: Array, before: int) -> Pieces:
    """The same, where strips are numbered tile by tile; there are `before` strips of other tiles."""
    key = problem.key
    nodes, columns = np.arange(len(row)), column
    segments = tuple(np.zeros(0, dtype=np.int64) for _ in range(3))
    inside = 1
    """Nodes of the query tree in a tile, at this level. `nodes` and `segments` count through those of all tiles."""
    for query_level, key_level, query_children, key_children in problem.steps:
        inside *= query_children
        nodes, columns = cut(nodes, columns, query_children, key_children)
        segments = _of_children(segments, query_children)
        tile, offset = np.divmod(nodes, inside)
        always, possible = problem.judge(query_level, key_level, row[tile] * inside + offset, columns)
        new = nodes[always], *_keys(key, key_level, columns[always])
        real = new[1] < new[2]
        pairs = zip(segments, new, strict=True)
        segments = merge_segments(*(np.concatenate([old, each[real]]) for old, each in pairs))
        still = possible & ~always
        nodes, columns = nodes[still], columns[still]
    start, end = _keys(key, key.bottom, columns)
    nodes, columns, start, end = (each[start < end] for each in (nodes, columns, start, end))
    tile, offset = np.divmod(nodes, inside)
    words = _words(problem, row[tile] * inside + offset, columns)
    size = len(segments[0])
    number = np.concatenate([np.zeros(size, dtype=np.int64), 1 + np.arange(len(nodes))])
    strip, start, end = (np.concatenate([*both]) for both in zip(segments, (nodes, start, end), strict=True))
    return Pieces(strip + before, start, end, number, words)


def _of_children(segments: tuple[Array, ...], children: int) -> tuple[Array, ...]:
    if children == 1:
        return segments
    node, start, end = (np.repeat(each, children) for each in segments)
    return node * children + np.tile(np.arange(children), len(segments[0])), start, end


def _lowest(tree: Tree, level: int) -> int:
    """Nodes of the lowest level in one of this level."""
    return tree.nodes(tree.bottom) // max(tree.nodes(level), 1)


def _keys(key: Tree, level: int, nodes: Array) -> tuple[Array, Array]:
    """The first key of each node of level 0 or below, and its end; empty if a node repeats keys of others."""
    level = max(level, key.bottom)
    if key.positions is None:
        size = key.length // max(key.nodes(level), 1)
        return nodes * size, (nodes + 1) * size
    start = key.positions[nodes * _lowest(key, level), 0]
    return start, start + key.weights(level)[nodes]


def _words(problem: Problem, strips: Array, columns: Array) -> Array:
    """uint16 [1 + leaves, queries of a strip]: the words of leaves, below those of segments."""
    query, key = problem.query, problem.key
    height, width = query.sizes[-1], key.sizes[-1]
    words = np.ones((1 + len(strips), height), dtype=np.uint16)
    for chunk in chunks(len(strips), _CHUNK * problem.chunk(height * width)):

        def load(column: Column, chunk: slice = chunk) -> Interval:
            """Leaves are the last axis, so that operators run over many of them at once."""
            if column.side is Side.QUERY:
                return point(np.ascontiguousarray(query.points[column.index][strips[chunk]].T)[:, None])
            return point(np.ascontiguousarray(key.points[column.index][columns[chunk]].T)[None])

        attended = np.zeros((height, 16, len(strips[chunk])), dtype=np.uint8)
        attended[:, :width] = problem.program.run(load).low
        if key.real is not None:
            attended[:, :width] &= key.real[columns[chunk]].T
        words[1:][chunk] = _packed(attended).T
    return words


def _packed(bits: Array) -> Array:
    """uint16 [a, b]: the words of bits [a, 16, b]."""
    for shift in (1, 2, 4):
        bits = bits[:, ::2] | bits[:, 1::2] << np.uint8(shift)
    return np.asarray(bits[:, 0] | bits[:, 1].astype(np.uint16) << np.uint16(8))
