"""Partial tiles to what every single query of them attends, as segments and leaves of strips.

A strip is a lowest node of the query tree. In the order of keys it attends *segments*, runs of keys that all of its
queries attend, and *leaves*, lowest nodes of the key tree of which each query attends the keys in a word of bits. Pairs
of nodes that attend alike are refined once, and tiles that repeat with a period.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from maskdsl.analysis.runs.alike_pairs import AlikePairs
from maskdsl.analysis.tiles.block_map import Array, Runs, merge_segments, ranges
from maskdsl.analysis.tiles.descent import Problem, chunks, cut
from maskdsl.analysis.tiles.interval_program import Column
from maskdsl.analysis.tiles.translations import block_hashes, find_periods, find_translation
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.intervals import Interval, point

_TILES = 1 << 9
"""Partial tiles that are refined at once, to bound memory."""
_CHUNK = 8
"""How many more pairs are evaluated at once than elsewhere: most are of few columns."""
_REPEATED = 1 << 6
"""With fewer tiles that differ, no period is looked for."""


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
    def of_segments(strip: Array, start: Array, end: Array, words: Array) -> "Pieces":
        """Segments, beside leaves of these words."""
        return Pieces(strip, start, end, np.zeros(len(strip), dtype=np.int64), words)

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
    alike, strips = AlikePairs(problem), _lowest(problem.query, 0)
    every = np.arange(len(rows))
    chosen, which = alike.distinct(0, rows, columns) or (every, every)
    if len(chosen) > _REPEATED and len(chosen) > len(rows) // 2:
        chosen, which = _periodic(problem, rows, columns) or (chosen, which)
    some = [
        _moved(_refined(problem, alike, 0, rows[chosen[chunk]], columns[chosen[chunk]]), chunk.start * strips)
        for chunk in chunks(len(chosen), _TILES)
    ] or [_refined(problem, alike, 0, rows, columns)]
    pieces = _copied(problem, 0, Pieces.joined(some), columns, chosen, which)
    tile, strip = np.divmod(pieces.strip, strips)
    return replace(pieces, strip=rows[tile] * strips + strip)


def _periodic(problem: Problem, rows: Array, columns: Array) -> tuple[Array, Array] | None:
    """Some of these tiles, and which of them each tile is like, by a period; None if there is none."""
    query, key = problem.query, problem.key
    periods = find_periods(block_hashes(query), block_hashes(key))
    moved = None if periods is None else find_translation(problem.program, query, key, periods)
    if moved is None:
        return None
    sides = (rows, moved.query), (columns, moved.key)
    inside = np.logical_and.reduce([(side.first <= each) & (each < side.end) for each, side in sides])
    back = np.minimum(*((each - side.first) // side.period for each, side in sides)) * inside
    numbers = (rows - back * moved.query.period) * key.count + columns - back * moved.key.period
    return np.unique(numbers, return_index=True, return_inverse=True)[1:]


def _refined(problem: Problem, alike: AlikePairs, level: int, rows: Array, columns: Array) -> Pieces:
    """What the strips of these pairs of nodes attend in them. Strips are numbered pair by pair."""
    distinct = alike.distinct(level, rows, columns) if level < 0 else None
    if distinct is None:
        return _split(problem, alike, level, rows, columns)
    chosen, which = distinct
    pieces = _split(problem, alike, level, rows[chosen], columns[chosen])
    return _copied(problem, level, pieces, columns, chosen, which)


def _split(problem: Problem, alike: AlikePairs, level: int, rows: Array, columns: Array) -> Pieces:
    query, key = problem.query, problem.key
    if level == min(query.bottom, key.bottom):
        return _leaves(problem, rows, columns)
    segments = tuple(np.zeros(0, dtype=np.int64) for _ in range(3))
    nodes = np.arange(len(rows))
    """Nodes of the query tree are numbered pair by pair."""
    for query_level, key_level, query_children, key_children in problem.steps_below(level):
        nodes, columns = cut(nodes, columns, query_children, key_children)
        rows = (rows[:, None] * query_children + np.arange(query_children)).reshape(-1)
        always, possible = problem.judge(query_level, key_level, rows[nodes], columns)
        new = nodes[always], *_keys(key, key_level, columns[always])
        real = new[1] < new[2]
        pairs = zip(_of_children(segments, query_children), new, strict=True)
        segments = merge_segments(*(np.concatenate([old, each[real]]) for old, each in pairs))
        still = possible & ~always
        nodes, columns = nodes[still], columns[still]
    pieces = _refined(problem, alike, level - 1, rows[nodes], columns)
    strips = _lowest(query, level - 1)
    pair, strip = np.divmod(pieces.strip, strips)
    inside = replace(pieces, strip=nodes[pair] * strips + strip)
    node, start, end = _of_children(segments, strips)
    return Pieces.joined([Pieces.of_segments(node, start, end, pieces.words[:1]), inside])


def _leaves(problem: Problem, strips: Array, columns: Array) -> Pieces:
    start, end = _keys(problem.key, problem.key.bottom, columns)
    real = np.flatnonzero(start < end)
    words = _words(problem, strips[real], columns[real])
    return Pieces(real, start[real], end[real], 1 + np.arange(len(real)), words)


def _copied(problem: Problem, level: int, pieces: Pieces, columns: Array, chosen: Array, which: Array) -> Pieces:
    """The pieces of all pairs of nodes, from those of the chosen ones that they are like."""
    if chosen is which:
        return pieces
    strips = _lowest(problem.query, level)
    pair, strip = np.divmod(pieces.strip, strips)
    order = np.argsort(pair, kind="stable")
    counts = np.bincount(pair, minlength=len(chosen))
    first = np.cumsum(counts) - counts
    copies = order[ranges(first[which], first[which] + counts[which])]
    number = np.repeat(np.arange(len(which)), counts[which])
    start, _ = _keys(problem.key, level, columns)
    shift = (start - start[chosen][which])[number]
    start, end = (each[copies] + shift for each in (pieces.start, pieces.end))
    return Pieces(number * strips + strip[copies], start, end, pieces.word[copies], pieces.words)


def _moved(pieces: Pieces, strips: int) -> Pieces:
    return replace(pieces, strip=pieces.strip + strips)


def _of_children(segments: tuple[Array, ...], children: int) -> tuple[Array, ...]:
    if children == 1:
        return segments
    node, start, end = (np.repeat(each, children) for each in segments)
    return node * children + np.tile(np.arange(children), len(segments[0])), start, end


def _lowest(tree: Tree, level: int) -> int:
    """Nodes of the lowest level in one of this level."""
    return tree.nodes(tree.bottom) // max(tree.nodes(max(level, tree.bottom)), 1)


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
