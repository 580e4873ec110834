"""Layers as hops between tokens or blocks: the sets of tokens that are reached by one layer, from its tiles.

A query draws from the keys that it attends; a key is read by the queries that attend it. Tiles of one token give exact
hops. With larger tiles, full tiles are certain hops and partial tiles possible hops.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.analysis.tiles.descent import Problem, chunks
from maskdsl.analysis.tiles.head_classes import HeadClass, check_size, find_head_classes, problems
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.meaning.pooling import PoolMeaning

_SAMPLES = 5
"""Groups of queries that an estimate samples."""


@dataclass(frozen=True, eq=False)
class Hop:
    """Blocks of queries that attend blocks of keys, in memory order. Keys are the queries' tokens or pooled of them."""

    runs: Runs
    order: Array | None
    """int64 [tokens]: maps positions of queries in memory order to declared ones; None: declared order."""
    block: int
    """Tokens of a block."""
    length: int
    """Tokens of the sequence."""
    members: Runs | None = None
    """For each key in memory order, the declared tokens that it is made of. None: keys are the queries' tokens, in the
    same memory order.
    """

    def readers(self, tokens: Array) -> Array:
        """bool [tokens]: the tokens whose block attends the block of one of `tokens`."""
        return self.declared(self.tokens_of(_meeting(self.runs, self.blocks_of(self.keys_of(tokens)))))

    def sources(self, tokens: Array) -> Array:
        """bool [tokens]: the tokens whose block is attended by the block of one of `tokens`."""
        keys = self.length if self.members is None else self.members.rows
        blocks = _covered(self.runs, self.blocks_of(self.in_memory_order(tokens)), -(-keys // self.block))
        if self.members is None:
            return self.declared(self.tokens_of(blocks))
        return _covered(self.members, np.repeat(blocks, self.block)[:keys], self.length)

    def keys_of(self, tokens: Array) -> Array:
        """bool [keys], in memory order: the keys that contain one of `tokens`."""
        return self.in_memory_order(tokens) if self.members is None else _meeting(self.members, tokens)

    def blocks_of(self, positions: Array) -> Array:
        """bool [blocks]: the blocks that contain one of these positions."""
        if self.block == 1:
            return positions
        return np.asarray(np.logical_or.reduceat(positions, np.arange(0, len(positions), self.block)))

    def tokens_of(self, blocks: Array) -> Array:
        """bool [tokens], in memory order: the tokens of blocks."""
        return np.repeat(blocks, self.block)[: self.length]

    def in_memory_order(self, tokens: Array) -> Array:
        """From declared to memory order."""
        return np.asarray(tokens if self.order is None else tokens[self.order])

    def declared(self, ordered: Array) -> Array:
        """From memory to declared order."""
        if self.order is None:
            return ordered
        result = np.empty_like(ordered)
        result[self.order] = ordered
        return result


def _meeting(runs: Runs, columns: Array) -> Array:
    """bool [rows]: the rows whose runs contain one of the columns."""
    before = np.concatenate([[0], np.cumsum(columns)])
    rows = np.zeros(runs.rows, dtype=bool)
    rows[runs.row[before[runs.end] > before[runs.start]]] = True
    return rows


def _covered(runs: Runs, rows: Array, columns: int) -> Array:
    """bool [columns]: the columns in the runs of one of the rows."""
    chosen = rows[runs.row]
    steps = np.bincount(runs.start[chosen], minlength=columns + 1)
    steps -= np.bincount(runs.end[chosen], minlength=columns + 1)
    return np.asarray(np.cumsum(steps)[:-1] > 0)


@dataclass(frozen=True)
class LayerHops:
    """The hops of one layer through all of its heads, in the first batch entry."""

    certain: tuple[Hop, ...]
    """Hops through full tiles."""
    possible: tuple[Hop, ...]
    """Hops through partial tiles; empty at blocks of one token."""

    @property
    def all(self) -> tuple[Hop, ...]:
        """Certain and possible hops."""
        return self.certain + self.possible


def readers(hops: tuple[Hop, ...], tokens: Array) -> Array:
    """bool [tokens]: a set of tokens, and the tokens that read one of them."""
    return np.asarray(np.logical_or.reduce([tokens, *(hop.readers(tokens) for hop in hops)]))


def sources(hops: tuple[Hop, ...], tokens: Array) -> Array:
    """bool [tokens]: a set of tokens, and the tokens that one of them draws from."""
    return np.asarray(np.logical_or.reduce([tokens, *(hop.sources(tokens) for hop in hops)]))


def find_layer(mask: MaskIR, block: int, inputs: Mapping[str, object], declared: bool = False) -> LayerHops:
    """The hops of a mask between blocks of `block` tokens, in its memory order or (`declared`) in declared order.

    Raises `AttnError` if an input is missing or does not fit, or the mask is too long.
    """
    check_size(mask, (block, block))
    if declared:
        mask = mask.declared
    given = input_arrays(mask, inputs, relation_inputs(mask))
    head_classes = find_head_classes(mask, given)
    used = tuple(head_classes.different[number] for number in sorted(set(head_classes.index[0].tolist())))
    certain: list[Hop] = []
    possible: list[Hop] = []
    layouts: dict[tuple[int, int], tuple[Array | None, Runs | None]] = {}
    for head_class, problem in zip(used, problems(mask, used, (block, block), given), strict=True):
        key = head_class.head, head_class.batch
        if key not in layouts:
            layouts[key] = _layout(mask, given, head_class)
        order, members = layouts[key]
        tiles = classify(problem)
        for runs, hops in (tiles.full, certain), (tiles.partial, possible):
            if runs.count:
                hops.append(Hop(runs, order, block, mask.queries.length, members))
    return LayerHops(tuple(certain), tuple(possible))


def estimate_runs(mask: MaskIR, block: int, inputs: Mapping[str, object]) -> int:
    """An estimate of the number of runs of keys of all queries, from a few sampled queries."""
    given = input_arrays(mask, inputs, relation_inputs(mask))
    head_classes = find_head_classes(mask, given).different
    return sum(_sampled_runs(problem) for problem in problems(mask, head_classes, (block, block), given))


def _sampled_runs(problem: Problem) -> int:
    query, key = problem.query, problem.key
    columns = np.arange(key.nodes(key.bottom))
    shape = query.sizes[-1], len(columns), key.sizes[-1]
    runs = 0
    for row in np.linspace(0, query.nodes(query.bottom) - 1, _SAMPLES).astype(int):
        attended = np.empty((len(columns), shape[0], shape[2]), dtype=np.int8)
        for chunk in chunks(len(columns), problem.chunk(shape[0] * shape[2])):
            rows = np.full(len(columns[chunk]), row)
            attended[chunk] = problem.evaluate(query.points, key.points, rows, columns[chunk])
        lines = attended.transpose(1, 0, 2).reshape(shape[0], -1)
        runs += int(np.count_nonzero(np.diff(lines, axis=1, prepend=0) == 1))
    return runs * query.length // (_SAMPLES * shape[0])


def _layout(mask: MaskIR, inputs: Mapping[str, Array], head_class: HeadClass) -> tuple[Array | None, Runs | None]:
    """The memory order of the queries, and the tokens that each key is made of, if keys are not the queries' tokens."""
    query, key = (
        Coordinates(mask, sequence, inputs, head_class.batch, head_class.head).permutation()
        for sequence in (mask.queries, mask.keys)
    )
    if mask.self_attention:
        return query, None
    count = mask.keys.length
    positions = np.arange(count)
    if key is not None:
        positions[key] = np.arange(count)
    token, number = (np.concatenate(each) for each in zip(*_made_of(mask, inputs, head_class.batch), strict=True))
    return query, Runs.of_segments(count, positions[number], token, token + 1)


def _made_of(mask: MaskIR, inputs: Mapping[str, Array], batch: int) -> Iterator[tuple[Array, Array]]:
    """Yields, for each space of keys, declared positions of query tokens and the declared key that each goes into."""
    begins = dict(zip(mask.queries.spaces, mask.queries.offsets, strict=True))
    for space, offset in zip(mask.keys.spaces, mask.keys.offsets, strict=True):
        token = key = np.arange(space.root.size)
        for each in space.chain[1:]:
            pool = PoolMeaning(mask, inputs, batch).numbers(each)[key]
            token, key = token[pool < each.size], pool[pool < each.size]
        yield begins[space.root] + token, offset + key
