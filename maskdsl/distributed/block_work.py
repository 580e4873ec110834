"""The work of a mask by blocks of queries: which blocks of keys each needs, and how many tiles it computes.

Everything is in laid-out order. Rows that attend more than half of the keys can be set apart: then their queries travel
to the keys, and their block needs only what its other queries attend.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from maskdsl.analysis.counts.keys_per_query import keys_per_query
from maskdsl.analysis.tiles.block_map import Array, BlockMap, Runs, TileMap
from maskdsl.analysis.tiles.head_classes import find_head_classes, problems
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.base.records import dataclass
from maskdsl.distributed.gathered_tokens import GatheredTokens
from maskdsl.distributed.given_tokens import GivenTokens, given_tokens
from maskdsl.ir.expressions import PAIR
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.rewrites.branch_union import merged_weights

_MOST_SHARE = 1 << 3
"""At most one block in so many has rows that travel: with more, keys are cheaper to send."""
_STRETCHES = 1 << 6
"""At most so many stretches of blocks have rows that travel: each is looked at by itself."""


@dataclass(frozen=True, eq=False)
class Travelling:
    """The rows whose queries travel to the keys."""

    rows: Array
    """int64 [rows], sorted: their positions."""
    tiles: tuple[Array, ...]
    """For each head class int64 [key blocks]: the tiles of these rows, cut into blocks by themselves."""
    results: int
    """How many results of each row travel: one, or one of each branch that is computed by itself."""


@dataclass(frozen=True, eq=False)
class BlockWork:
    """The tiles of a mask that are not empty, by blocks of `block` queries and keys."""

    block: int
    query_length: int
    key_length: int
    tiles: tuple[Runs, ...]
    """For each head class, the tiles that are not empty, without those of travelling rows."""
    class_of_head: Array
    """int32 [batch entries that differ, heads]: index into `tiles`."""
    is_self: bool
    """Whether the keys are the queries' own tokens, in the same order."""
    travelling: Travelling | None = None
    given: tuple[GivenTokens | None, GivenTokens | None] = (None, None)
    """Of queries and of keys, where some of them are pooled."""
    gathered: GatheredTokens = GatheredTokens()

    @property
    def query_tokens(self) -> Array:
        """int64 [query blocks]: the queries of each block."""
        return _tokens(self.query_length, self.block)

    @property
    def key_tokens(self) -> Array:
        """int64 [key blocks]: the keys of each block."""
        return _tokens(self.key_length, self.block)


def _tokens(length: int, block: int) -> Array:
    return np.diff(np.append(np.arange(0, length, block), length))


def block_work(mask: MaskIR, inputs: Mapping[str, Array], block: int, gathered: GatheredTokens) -> BlockWork:
    """The work of all rows. Raises `AttnError` as `tiles` does."""
    blocks = tiles(mask, (block, block), inputs)
    every = tuple(_covered(each.full, each.partial) for each in blocks.head_classes)
    is_self = mask.self_attention and mask.queries == mask.keys
    queries, keys = (given_tokens(mask, inputs, block, side) for side in PAIR)
    lengths = blocks.query_length, blocks.key_length
    return BlockWork(block, *lengths, every, blocks.class_of_head, is_self, given=(queries, keys), gathered=gathered)


def with_travelling(mask: MaskIR, inputs: Mapping[str, Array], work: BlockWork) -> BlockWork | None:
    """The work with rows set apart that attend more than half of the keys, on average over heads; None without such."""
    stretches = list(_crowded(work))
    if not stretches:
        return None
    given = input_arrays(mask, inputs, relation_inputs(mask, inputs))
    rows = np.concatenate([_wide_rows(mask, given, work, *each) for each in stretches])
    if not len(rows):
        return None
    travels = np.zeros(work.query_length, dtype=bool)
    travels[rows] = True
    blocks = np.unique(rows // work.block)
    apart = [_region(mask, inputs, work.block, *each) for each in _runs_of(travels)]
    tiles_of_keys = tuple(
        np.sum([_tiles_of_columns(each.head_classes[number], each.key_blocks) for each in apart], axis=0)
        for number in range(len(work.tiles))
    )
    others: list[tuple[int, BlockMap]] = []
    for each in blocks.tolist():
        first = each * work.block
        staying = np.flatnonzero(~travels[first : first + work.block]) + first
        for low, high in _stretches(staying):
            others.append((each, _region(mask, inputs, work.block, low, high)))
    results = max(len(merged_weights(mask.branches)[0]), 1)
    kept = tuple(_replaced(runs, blocks, others, number) for number, runs in enumerate(work.tiles))
    return replace(work, tiles=kept, travelling=Travelling(np.sort(rows), tiles_of_keys, results))


def united(row: Array, start: Array, end: Array, width: int) -> tuple[Array, Array, Array]:
    """The union of segments of each row, which may overlap, sorted: disjoint maximal segments inside [0, width)."""
    line = row.astype(np.int64) * (width + 1)
    low, high = line + start, line + end
    order = np.argsort(low, kind="stable")
    low, reach = low[order], np.maximum.accumulate(high[order])
    first = np.ones(len(low), dtype=bool)
    first[1:] = low[1:] > reach[:-1]
    rows, starts = np.divmod(low[first], width + 1)
    return rows, starts, reach[np.roll(first, -1)] - rows * (width + 1)


def _covered(*some: Runs) -> Runs:
    """The runs of tiles that are in any of these."""
    row, start, end = (np.concatenate([getattr(each, name) for each in some]) for name in ("row", "start", "end"))
    width = int(end.max(initial=0))
    return Runs.of_sorted(some[0].rows, *united(row, start, end, width))


def _crowded(work: BlockWork) -> Iterator[tuple[int, int]]:
    """Stretches of query blocks, first and end, whose tiles reach more than half of the keys; none if they are many."""
    shares = np.bincount(work.class_of_head.reshape(-1), minlength=len(work.tiles)) / work.class_of_head.size
    blocks = np.sum([share * each.counts for share, each in zip(shares, work.tiles, strict=True)], axis=0)
    crowded = blocks * work.block > work.key_length / 2
    stretches = list(_runs_of(crowded))
    if np.count_nonzero(crowded) * _MOST_SHARE <= len(crowded) and len(stretches) <= _STRETCHES:
        yield from stretches


def _wide_rows(mask: MaskIR, given: Mapping[str, Array], work: BlockWork, first: int, end: int) -> Array:
    """The rows of query blocks `first` to `end` (exclusive) that attend more than half of the keys."""
    low, high = first * work.block, min(end * work.block, work.query_length)
    classes = find_head_classes(mask, given)
    solved = problems(mask, classes.different, (work.block, work.block), given, (slice(low, high), slice(None)))
    weights = np.bincount(classes.index.reshape(-1)) / classes.index.size
    counts = np.sum(
        [weight * keys_per_query(each, classify(each)) for weight, each in zip(weights, solved, strict=True)], axis=0
    )
    return np.flatnonzero(counts > work.key_length / 2) + low


def _region(mask: MaskIR, inputs: Mapping[str, Array], block: int, low: int, high: int) -> BlockMap:
    return tiles(mask, (block, block), inputs, region=(slice(low, high), slice(None)))


def _tiles_of_columns(tile_map: TileMap, columns: int) -> Array:
    """int64 [columns]: the tiles of each key block."""
    steps = np.zeros(columns + 1, dtype=np.int64)
    for runs in (tile_map.full, tile_map.partial):
        steps += np.bincount(runs.start, minlength=columns + 1) - np.bincount(runs.end, minlength=columns + 1)
    return np.cumsum(steps)[:-1]


def _replaced(runs: Runs, blocks: Array, others: list[tuple[int, BlockMap]], number: int) -> Runs:
    """The runs with those of these rows replaced by what maps of some of their queries have, of one head class."""
    stay = ~np.isin(runs.row, blocks)
    pieces = [(runs.row[stay], runs.start[stay], runs.end[stay])]
    for block, of_some in others:
        for each in (of_some.head_classes[number].full, of_some.head_classes[number].partial):
            pieces.append((np.full(len(each.start), block), each.start, each.end))
    row, start, end = map(np.concatenate, zip(*pieces, strict=True))
    return Runs.of_sorted(runs.rows, *united(row, start, end, int(end.max(initial=0))))


def _runs_of(flags: Array) -> Iterator[tuple[int, int]]:
    """First and end of each stretch of true flags."""
    return _stretches(np.flatnonzero(flags))


def _stretches(numbers: Array) -> Iterator[tuple[int, int]]:
    """First and end of each stretch of consecutive numbers."""
    cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
    for each in np.split(numbers, cuts):
        if len(each):
            yield int(each[0]), int(each[-1]) + 1
