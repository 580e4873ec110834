"""Layers as hops between tokens: who attends whom, as runs of blocks, and what sets of tokens become by it.

Information travels against attention: a query draws from the keys that it attends, so a key is read by the queries
that attend it. A layer is told by its tiles. With blocks of one token they are exact; with larger ones, full tiles
are hops for certain, and tiles that are not empty are hops that there may be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.analysis.tiles.descent import Problem, chunks, classify
from maskdsl.analysis.tiles.head_classes import HeadClass, check_size, find_head_classes, problems
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs

_SAMPLES = 5
"""Groups of queries looked at for an estimate."""


@dataclass(frozen=True, eq=False)
class Hop:
    """Blocks of queries that attend blocks of keys. The keys are made of the tokens of the queries."""

    runs: Runs
    order: Array | None
    """int64 [tokens]: the declared position of each laid-out place of a query; None for the declared order."""
    block: int
    length: int
    members: Runs | None = None
    """For each laid-out place of a key, the tokens that it is pooled from, or its own. None: keys are laid out as
    queries, each its own token.
    """

    def readers(self, tokens: Array) -> Array:
        """bool [tokens]: those in whose block something attends the block of one of these."""
        return self.declared(self.tokens_of(_meeting(self.runs, self.blocks_of(self.keys_of(tokens)))))

    def sources(self, tokens: Array) -> Array:
        """bool [tokens]: those whose block is attended by something in the block of one of these."""
        keys = self.length if self.members is None else self.members.rows
        blocks = _covered(self.runs, self.blocks_of(self.laid(tokens)), -(-keys // self.block))
        if self.members is None:
            return self.declared(self.tokens_of(blocks))
        return _covered(self.members, np.repeat(blocks, self.block)[:keys], self.length)

    def keys_of(self, tokens: Array) -> Array:
        """bool [keys]: those that have one of the tokens, in laid-out order."""
        return self.laid(tokens) if self.members is None else _meeting(self.members, tokens)

    def blocks_of(self, positions: Array) -> Array:
        """bool [blocks]: those with one of the places of either side."""
        if self.block == 1:
            return positions
        return np.asarray(np.logical_or.reduceat(positions, np.arange(0, len(positions), self.block)))

    def tokens_of(self, blocks: Array) -> Array:
        """bool [tokens]: those of blocks, in laid-out order."""
        return np.repeat(blocks, self.block)[: self.length]

    def laid(self, tokens: Array) -> Array:
        return np.asarray(tokens if self.order is None else tokens[self.order])

    def declared(self, laid: Array) -> Array:
        if self.order is None:
            return laid
        result = np.empty_like(laid)
        result[self.order] = laid
        return result


def _meeting(runs: Runs, columns: Array) -> Array:
    """bool [rows]: those with one of the chosen columns."""
    before = np.concatenate([[0], np.cumsum(columns)])
    rows = np.zeros(runs.rows, dtype=bool)
    rows[runs.row[before[runs.end] > before[runs.start]]] = True
    return rows


def _covered(runs: Runs, rows: Array, columns: int) -> Array:
    """bool [columns]: those of one of the chosen rows."""
    chosen = rows[runs.row]
    steps = np.bincount(runs.start[chosen], minlength=columns + 1)
    steps -= np.bincount(runs.end[chosen], minlength=columns + 1)
    return np.asarray(np.cumsum(steps)[:-1] > 0)


@dataclass(frozen=True)
class LayerHops:
    """The hops of one layer through any of its heads, in the first batch entry."""

    certain: tuple[Hop, ...]
    possible: tuple[Hop, ...]
    """Those of tiles that are attended in part."""

    @property
    def all(self) -> tuple[Hop, ...]:
        return self.certain + self.possible


def readers(hops: tuple[Hop, ...], tokens: Array) -> Array:
    """A set of tokens and those that read one of them."""
    return np.asarray(np.logical_or.reduce([tokens, *(hop.readers(tokens) for hop in hops)]))


def sources(hops: tuple[Hop, ...], tokens: Array) -> Array:
    """A set of tokens and those that one of them draws from."""
    return np.asarray(np.logical_or.reduce([tokens, *(hop.sources(tokens) for hop in hops)]))


def find_layer(mask: MaskIR, block: int, inputs: Mapping[str, object], declared: bool = False) -> LayerHops:
    """The hops between blocks of so many tokens, in the mask's layout or in `declared` order."""
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
        found = classify(problem)
        for runs, hops in (found.full, certain), (found.partial, possible):
            if runs.count:
                hops.append(Hop(runs, order, block, mask.queries.length, members))
    return LayerHops(tuple(certain), tuple(possible))


def estimate_runs(mask: MaskIR, block: int, inputs: Mapping[str, object]) -> int:
    """About how many runs the tokens of this mask form, in all: those of a few sampled queries. `block` is of tiles."""
    given = input_arrays(mask, inputs, relation_inputs(mask))
    head_classes = find_head_classes(mask, given).different
    return sum(_sampled_runs(problem) for problem in problems(mask, head_classes, (block, block), given))


def _sampled_runs(problem: Problem) -> int:
    query, key = problem.query, problem.key
    columns = np.arange(key.nodes(key.bottom))
    shape = query.sizes[-1], len(columns), key.sizes[-1]
    found = 0
    for row in np.linspace(0, query.nodes(query.bottom) - 1, _SAMPLES).astype(int):
        attended = np.empty((len(columns), shape[0], shape[2]), dtype=np.int8)
        for part in chunks(len(columns), problem.chunk(shape[0] * shape[2])):
            rows = np.full(len(columns[part]), row)
            attended[part] = problem.evaluate(query.points, key.points, rows, columns[part])
        lines = attended.transpose(1, 0, 2).reshape(shape[0], -1)
        found += int(np.count_nonzero(np.diff(lines, axis=1, prepend=0) == 1))
    return found * query.length // (_SAMPLES * shape[0])


def _layout(mask: MaskIR, inputs: Mapping[str, Array], head_class: HeadClass) -> tuple[Array | None, Runs | None]:
    """The order of the queries, and the tokens that each key is made of where keys are not laid out as they are."""
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
    token, number = (np.concatenate(each) for each in zip(*_made_of(mask), strict=True))
    return query, Runs.of_segments(count, positions[number], token, token + 1)


def _made_of(mask: MaskIR) -> Iterator[tuple[Array, Array]]:
    """For each space of keys, its tokens' numbers among all, and which key each of them goes into, both declared."""
    begins = dict(zip(mask.queries.spaces, mask.queries.offsets, strict=True))
    for space, offset in zip(mask.keys.spaces, mask.keys.offsets, strict=True):
        cell = np.indices(space.root.lengths).reshape(len(space.root.axes), -1)
        for each in space.chain:
            if each.pooling is not None:
                cell = cell // np.array(each.pooling.box)[:, None]
        token = begins[space.root] + np.arange(space.root.size)
        yield token, np.asarray(offset + np.ravel_multi_index(tuple(cell), space.lengths))
