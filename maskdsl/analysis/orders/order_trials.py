"""The tiles of one mask in many orders. Work that orders share is done once; the rows of long maps are sampled.

Sampled rows of tiles are classified exactly, against all keys; each other row counts as its nearest sampled row. Rows
are spread evenly with a jitter, so that samples do not alias with the period of a grid.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from hashlib import blake2b

import numpy as np

from maskdsl.analysis.counts.keys_per_query import keys_per_query, keys_per_row
from maskdsl.analysis.orders.layouts import Layout, laid_out
from maskdsl.analysis.orders.ordered_tokens import Box, SideTokens, in_box
from maskdsl.analysis.tiles.block_map import Array, BlockMap, Runs, TileMap, ranges
from maskdsl.analysis.tiles.descent import Problem
from maskdsl.analysis.tiles.head_classes import (
    HeadClass,
    HeadClasses,
    find_head_classes,
    fix_tables,
    heads_of_tokens,
    token_dependence,
)
from maskdsl.analysis.tiles.list_bounds import Bounded
from maskdsl.analysis.tiles.separation import Separation, separate
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates

_GOLDEN = 0.6180339887498949
"""The golden ratio minus one: fractional parts of its multiples fill [0, 1) evenly."""
_MOST_CLASSES = 8
"""The most head classes that are sampled."""


@dataclass(frozen=True, eq=False)
class OrderTrial:
    """The tiles of a mask in one layout."""

    tiles: BlockMap
    exact: bool
    """Whether all rows and head classes were classified; otherwise samples stand for the others."""
    digest: bytes
    """Equal for layouts with the same order of tokens."""


@dataclass(frozen=True, eq=False)
class OrderedClass:
    """One head class of a mask in one layout: the tokens of both sides and their memory order."""

    head_class: HeadClass
    query: SideTokens
    key: SideTokens
    query_order: Array
    key_order: Array

    @property
    def digest(self) -> bytes:
        """A hash of the orders of both sides."""
        orders = [self.query_order] if self.query_order is self.key_order else [self.query_order, self.key_order]
        return b"".join(blake2b(each.tobytes(), digest_size=16).digest() for each in orders)


@dataclass(frozen=True, eq=False)
class OrderTrials:
    """Computes the tiles of a mask, or of a box of its tokens, in many layouts.

    At most `rows` rows of tiles are classified, None: all. If `hasty`, tiles that intervals leave open count as
    partial.
    """

    mask: MaskIR
    inputs: Mapping[str, Array]
    block: tuple[int, int]
    rows: int | None = None
    box: Box = field(default_factory=dict)
    hasty: bool = False
    coordinates: dict[tuple[Side, int, int], dict[str, Array]] = field(default_factory=dict)
    """Values of coordinates by side, head and batch entry. May be shared with other trials of the mask."""
    tokens: dict[tuple[Side, int, int], SideTokens] = field(default_factory=dict)
    head_classes: dict[tuple[frozenset[DimensionKind], tuple[int, ...]], HeadClasses] = field(default_factory=dict)
    separations: dict[HeadClass, tuple[Separation, dict[str, Bounded]]] = field(default_factory=dict)
    maps: dict[tuple[HeadClass, bytes], TileMap] = field(default_factory=dict)
    """By head class and digest: many layouts are the same order."""

    def of(self, layout: Layout) -> OrderTrial:
        """The tiles in a layout."""
        mask = laid_out(self.mask, layout)
        head_classes = self.head_classes_of(mask)
        ordered_classes = list(self.ordered_classes(mask, head_classes))
        maps = tuple(self.tile_map(ordered) for ordered in ordered_classes)
        queries, keys = len(ordered_classes[0].query_order), len(ordered_classes[0].key_order)
        whole = self.picked_rows(queries) is None and len(ordered_classes) == len(head_classes.different)
        exact = whole and not self.box and not self.hasty
        digest = b"".join(ordered.digest for ordered in ordered_classes)
        return OrderTrial(BlockMap(self.block, queries, keys, maps, _class_of_head(head_classes)), exact, digest)

    def attended_share(self, layout: Layout) -> float:
        """The share of computed pairs that attend, in the sampled rows and head classes."""
        mask = laid_out(self.mask, layout)
        head_classes = self.head_classes_of(mask)
        attended = computed = 0
        for ordered, uses in zip(
            self.ordered_classes(mask, head_classes), np.bincount(_class_of_head(head_classes).ravel()), strict=True
        ):
            problem = self.problem(ordered)
            tiles = classify(problem)
            attended += int(uses * keys_per_query(problem, tiles).sum())
            keys = keys_per_row(tiles.full, problem.key) + keys_per_row(tiles.partial, problem.key)
            computed += int(uses * (keys @ problem.query.weights(0)))
        return attended / max(computed, 1)

    def head_classes_of(self, mask: MaskIR) -> HeadClasses:
        """The head classes of a laid-out mask; cached."""
        key = token_dependence(mask), heads_of_tokens(mask)
        if key not in self.head_classes:
            self.head_classes[key] = find_head_classes(mask, self.inputs)
        return self.head_classes[key]

    def ordered_classes(self, mask: MaskIR, head_classes: HeadClasses) -> Iterator[OrderedClass]:
        """Yields the sampled head classes with their tokens and orders."""
        for number in spread(len(head_classes.different), _MOST_CLASSES).tolist():
            head_class = head_classes.different[number]
            query, key = (self.side(mask, side, head_class) for side in (Side.QUERY, Side.KEY))
            order = query.order()
            yield OrderedClass(head_class, query, key, order, order if mask.self_attention else key.order())

    def side(self, mask: MaskIR, side: Side, head_class: HeadClass) -> SideTokens:
        """The tokens of a side in the mask's layout; values are cached over layouts."""
        side = Side.QUERY if mask.self_attention else side
        sequence = mask.sequences[side]
        cache_key = side, head_class.head, head_class.batch
        if cache_key not in self.tokens:
            known = self.coordinates.setdefault(cache_key, {})
            coordinates = Coordinates(mask, sequence, self.inputs, head_class.batch, head_class.head, known)
            self.tokens[cache_key] = SideTokens(coordinates, in_box(sequence, self.box))
        return self.tokens[cache_key].laid_out(mask, sequence)

    def tile_map(self, ordered: OrderedClass) -> TileMap:
        """The tiles of a head class, all rows; rows that are not sampled repeat the nearest. Cached."""
        cache_key = ordered.head_class, ordered.digest
        if cache_key not in self.maps:
            tiles = classify(self.problem(ordered), self.hasty)
            rows = self.picked_rows(len(ordered.query_order))
            if rows is not None:
                index = nearest(rows, -(-len(ordered.query_order) // self.block[0]))
                tiles = TileMap(taken(tiles.full, index), taken(tiles.partial, index))
            self.maps[cache_key] = tiles
        return self.maps[cache_key]

    def problem(self, ordered: OrderedClass) -> Problem:
        """The problem of a head class: its sampled rows of queries, and all keys."""
        if ordered.head_class not in self.separations:
            relation, tables = fix_tables(ordered.head_class.relation, self.inputs)
            self.separations[ordered.head_class] = separate(relation, tables), tables
        separated, tables = self.separations[ordered.head_class]
        rows, order = self.picked_rows(len(ordered.query_order)), ordered.query_order
        if rows is not None:
            begin = rows * self.block[0]
            order = order[ranges(begin, np.minimum(begin + self.block[0], len(order)))]
        query = Tree.of(ordered.query.columns(separated.query, tables, order), len(order), self.block[0])
        key = Tree.of(
            ordered.key.columns(separated.key, tables, ordered.key_order), len(ordered.key_order), self.block[1]
        )
        return Problem.of(separated, query, key)

    def picked_rows(self, queries: int) -> Array | None:
        """The sampled rows of tiles; None: all."""
        count = -(-queries // self.block[0])
        return None if self.rows is None or count <= self.rows else spread(count, self.rows)


def _class_of_head(head_classes: HeadClasses) -> Array:
    """int32 [batch, heads]: the number of the sampled head class that stands for each head."""
    count = len(head_classes.different)
    return nearest(spread(count, _MOST_CLASSES), count)[head_classes.index].astype(np.int32)


def spread(count: int, most: int) -> Array:
    """int64: at most `most` of the numbers 0 .. count, spread evenly with a jitter."""
    if count <= most:
        return np.arange(count)
    slots = np.arange(most)
    return np.unique(((slots + slots * _GOLDEN % 1) * (count / most)).astype(np.int64))


def nearest(picked: Array, count: int) -> Array:
    """int64 [count]: for each number, the index of the nearest of the picked ones."""
    return np.searchsorted((picked[1:] + picked[:-1] + 1) // 2, np.arange(count), side="right")


def taken(runs: Runs, rows: Array) -> Runs:
    """The runs of these rows; rows may repeat."""
    begin, end = runs.row_start[rows], runs.row_start[rows + 1]
    chosen = ranges(begin, end)
    row_start = np.concatenate([[0], np.cumsum(end - begin)]).astype(np.int32)
    return Runs(row_start, runs.start[chosen], runs.end[chosen])


# Sums over heads and batch entries


def full_tiles(tiles: BlockMap) -> int:
    """Full tiles of all heads and batch entries."""
    return sum(tiles.head_classes[head_class].full.count for head_class in tiles.class_of_head.ravel().tolist())


def partial_tiles(tiles: BlockMap) -> int:
    """Partial tiles of all heads and batch entries."""
    return sum(tiles.head_classes[head_class].partial.count for head_class in tiles.class_of_head.ravel().tolist())


def computed_pairs(tiles: BlockMap) -> int:
    """Pairs in tiles that are not empty, of all heads and batch entries; ragged tiles count their tokens only."""
    heights = np.minimum(tiles.block[0], tiles.query_length - np.arange(tiles.query_blocks) * tiles.block[0])
    pairs = [
        sum(int(_widths(runs, tiles) @ heights[runs.row]) for runs in (each.full, each.partial))
        for each in tiles.head_classes
    ]
    return sum(pairs[head_class] for head_class in tiles.class_of_head.ravel().tolist())


def _widths(runs: Runs, tiles: BlockMap) -> Array:
    """int64 [runs]: the number of keys of each run."""
    begin, end = (each.astype(np.int64) * tiles.block[1] for each in (runs.start, runs.end))
    return np.asarray(np.minimum(end, tiles.key_length) - begin)
