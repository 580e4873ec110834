"""The tiles of one mask in many orders: all that orders share is computed once, and long maps are sampled.

Of a map of many rows of tiles only some are classified, each of them exactly and against all keys; the others count as
the nearest of those. The rows are spread evenly, a bit off the beat, so that no period of a grid goes unseen.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from maskdsl.analysis.counts.keys_per_query import keys_per_query, keys_per_row
from maskdsl.analysis.orders.layouts import Layout, laid_out
from maskdsl.analysis.orders.ordered_tokens import Box, SideTokens, in_box
from maskdsl.analysis.tiles.block_map import Array, BlockMap, Runs, TileMap, ranges
from maskdsl.analysis.tiles.descent import Problem, classify
from maskdsl.analysis.tiles.head_classes import (
    HeadClass,
    HeadClasses,
    find_head_classes,
    fix_tables,
    heads_of_tokens,
    token_dependence,
)
from maskdsl.analysis.tiles.separation import Separation, separate
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import DimensionKind, MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates

_GOLDEN = 0.6180339887498949
"""The parts behind the point of its multiples fill 0 .. 1 more evenly than random numbers."""
_MOST_VARIANTS = 8
"""Different relations of heads and batch entries that are looked at."""


@dataclass(frozen=True, eq=False)
class OrderTrial:
    """The tiles of a mask in one layout."""

    tiles: BlockMap
    exact: bool
    """Otherwise some rows or heads stand for others like them."""
    digest: bytes
    """Equal where tokens are in the same order."""


@dataclass(frozen=True, eq=False)
class OrderedClass:
    """One head class of a mask in one layout: the tokens of both sides, and in which order they come."""

    head_class: HeadClass
    query: SideTokens
    key: SideTokens
    query_order: Array
    key_order: Array

    @property
    def digest(self) -> bytes:
        orders = [self.query_order] if self.query_order is self.key_order else [self.query_order, self.key_order]
        return b"".join(blake2b(each.tobytes(), digest_size=16).digest() for each in orders)


@dataclass(frozen=True, eq=False)
class Trials:
    """Of the mask, or of the part of it in a box. At most `rows` rows of tiles are classified, None for all; in haste,
    tiles that are not seen at once to be empty or full are taken for partial.
    """

    mask: MaskIR
    inputs: Mapping[str, Array]
    block: tuple[int, int]
    rows: int | None = None
    box: Box = field(default_factory=dict)
    hasty: bool = False
    coordinates: dict[tuple[Side, int, int], dict[str, Array]] = field(default_factory=dict)
    """Of all tokens, for a head and a batch entry. May be shared with other trials of the mask."""
    tokens: dict[tuple[Side, int, int], SideTokens] = field(default_factory=dict)
    head_classes: dict[tuple[frozenset[DimensionKind], tuple[int, ...]], HeadClasses] = field(default_factory=dict)
    separations: dict[HeadClass, tuple[Separation, dict[str, BoundedTable]]] = field(default_factory=dict)
    maps: dict[tuple[HeadClass, bytes], TileMap] = field(default_factory=dict)
    """By head class and the digest of its tokens' order: many layouts are the same order."""

    def of(self, layout: Layout) -> OrderTrial:
        mask = laid_out(self.mask, layout)
        head_classes = self.head_classes_of(mask)
        lines = list(self.lines(mask, head_classes))
        maps = tuple(self.tile_map(line) for line in lines)
        queries, keys = len(lines[0].query_order), len(lines[0].key_order)
        whole = self.picked_rows(queries) is None and len(lines) == len(head_classes.different)
        exact = whole and not self.box and not self.hasty
        digest = b"".join(line.digest for line in lines)
        return OrderTrial(BlockMap(self.block, queries, keys, maps, _line_of(head_classes)), exact, digest)

    def attended_share(self, layout: Layout) -> float:
        """Of the computed pairs, those that attend: in the rows and heads that are looked at."""
        mask = laid_out(self.mask, layout)
        head_classes = self.head_classes_of(mask)
        attended = computed = 0
        for line, uses in zip(self.lines(mask, head_classes), np.bincount(_line_of(head_classes).ravel()), strict=True):
            problem = self.problem(line)
            tiles = classify(problem)
            attended += int(uses * keys_per_query(problem, tiles).sum())
            keys = keys_per_row(tiles.full, problem.key) + keys_per_row(tiles.partial, problem.key)
            computed += int(uses * (keys @ problem.query.weights(0)))
        return attended / max(computed, 1)

    def head_classes_of(self, mask: MaskIR) -> HeadClasses:
        key = token_dependence(mask), heads_of_tokens(mask)
        if key not in self.head_classes:
            self.head_classes[key] = find_head_classes(mask, self.inputs)
        return self.head_classes[key]

    def lines(self, mask: MaskIR, head_classes: HeadClasses) -> Iterator[OrderedClass]:
        """Of the head classes that are looked at."""
        for number in spread(len(head_classes.different), _MOST_VARIANTS).tolist():
            head_class = head_classes.different[number]
            query, key = (self.side(mask, side, head_class) for side in (Side.QUERY, Side.KEY))
            order = query.order()
            yield OrderedClass(head_class, query, key, order, order if mask.self_attention else key.order())

    def side(self, mask: MaskIR, side: Side, head_class: HeadClass) -> SideTokens:
        """With all that is known of them from other layouts."""
        own = Side.QUERY if mask.self_attention else side
        sequence = mask.sequences[own]
        position = own, head_class.head, head_class.batch
        if position not in self.tokens:
            known = self.coordinates.setdefault(position, {})
            coordinates = Coordinates(mask, sequence, self.inputs, head_class.batch, head_class.head, known)
            self.tokens[position] = SideTokens(coordinates, in_box(sequence, self.box))
        return self.tokens[position].laid_out(mask, sequence)

    def tile_map(self, line: OrderedClass) -> TileMap:
        position = line.head_class, line.digest
        if position not in self.maps:
            tiles = classify(self.problem(line), self.hasty)
            rows = self.picked_rows(len(line.query_order))
            if rows is not None:
                index = nearest(rows, -(-len(line.query_order) // self.block[0]))
                tiles = TileMap(taken(tiles.full, index), taken(tiles.partial, index))
            self.maps[position] = tiles
        return self.maps[position]

    def problem(self, line: OrderedClass) -> Problem:
        """The rows that are looked at, and all keys."""
        if line.head_class not in self.separations:
            relation, tables = fix_tables(line.head_class.relation, self.inputs)
            self.separations[line.head_class] = separate(relation, tables), tables
        parts, tables = self.separations[line.head_class]
        rows, order = self.picked_rows(len(line.query_order)), line.query_order
        if rows is not None:
            begin = rows * self.block[0]
            order = order[ranges(begin, np.minimum(begin + self.block[0], len(order)))]
        query = Tree.of(line.query.columns(parts.query, tables, order), len(order), self.block[0])
        key = Tree.of(line.key.columns(parts.key, tables, line.key_order), len(line.key_order), self.block[1])
        return Problem(parts.program, query, key)

    def picked_rows(self, queries: int) -> Array | None:
        """The rows of tiles that are looked at, None for all of them."""
        count = -(-queries // self.block[0])
        return None if self.rows is None or count <= self.rows else spread(count, self.rows)


def _line_of(head_classes: HeadClasses) -> Array:
    """int32 [batch, heads]: which of the lines that are looked at stands for each."""
    count = len(head_classes.different)
    return nearest(spread(count, _MOST_VARIANTS), count)[head_classes.index].astype(np.int32)


def spread(count: int, most: int) -> Array:
    """int64: some of the numbers 0 .. count, evenly but off the beat; all of them where they are few."""
    if count <= most:
        return np.arange(count)
    slots = np.arange(most)
    return np.unique(((slots + slots * _GOLDEN % 1) * (count / most)).astype(np.int64))


def nearest(picked: Array, count: int) -> Array:
    """int64 [count]: for each number the index of the nearest of those picked."""
    return np.searchsorted((picked[1:] + picked[:-1] + 1) // 2, np.arange(count), side="right")


def taken(runs: Runs, rows: Array) -> Runs:
    """The runs of these rows, which may repeat."""
    begin, end = runs.row_start[rows], runs.row_start[rows + 1]
    chosen = ranges(begin, end)
    row_start = np.concatenate([[0], np.cumsum(end - begin)]).astype(np.int32)
    return Runs(row_start, runs.start[chosen], runs.end[chosen])


# Sums over heads and batch entries


def full_tiles(tiles: BlockMap) -> int:
    return sum(tiles.head_classes[head_class].full.count for head_class in tiles.class_of_head.ravel().tolist())


def partial_tiles(tiles: BlockMap) -> int:
    return sum(tiles.head_classes[head_class].partial.count for head_class in tiles.class_of_head.ravel().tolist())


def computed_pairs(tiles: BlockMap) -> int:
    """Pairs of all tiles that are not empty; a ragged tile has those of its real tokens."""
    heights = np.minimum(tiles.block[0], tiles.query_length - np.arange(tiles.query_blocks) * tiles.block[0])
    pairs = [
        sum(int(_widths(runs, tiles) @ heights[runs.row]) for runs in (each.full, each.partial))
        for each in tiles.head_classes
    ]
    return sum(pairs[head_class] for head_class in tiles.class_of_head.ravel().tolist())


def _widths(runs: Runs, tiles: BlockMap) -> Array:
    """int64: the keys of each run."""
    begin, end = (each.astype(np.int64) * tiles.block[1] for each in (runs.start, runs.end))
    return np.asarray(np.minimum(end, tiles.key_length) - begin)
