"""Reachability between all pairs of cells as rows of bits, layer by layer. A cell is a token or a block of tokens.

Memory is cells ** 2 / 8 bytes for each set of rows.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from maskdsl.analysis.reach.hops import Hop
from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.records import dataclass

WORD = 64
CHUNK = 1 << 20
"""Words gathered at once, to bound memory."""
STEPS = 16
"""Layers that are followed one by one; after them, passes through the stack are doubled."""
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(axis=1, dtype=np.uint8)
"""The number of ones of every 16-bit word."""


@dataclass(frozen=True, eq=False)
class ConnectedPairs:
    """Connected pairs: bit k of row q is set if cell q draws from cell k. Rows are uint64 [cells, words]."""

    ever: Array
    """The pairs after any number of layers."""
    before: Array
    """One layer before the last that adds a pair."""
    layers: int
    """The last layer that adds a pair: the length of the longest shortest path."""
    pairs: tuple[int, ...]
    """The number of pairs after 0, 1, 2, ... layers, as far as layers were followed one by one."""


def spread(layers: Sequence[tuple[Hop, ...]], cells: int, reflexive: bool) -> ConnectedPairs:
    """The pairs connected by the layers, repeated until nothing is added. `reflexive`: cells start with themselves."""
    itself = identity(cells)
    rows = itself if reflexive else np.zeros_like(itself)
    before, last, number = rows, 0, 0
    pairs = [count(rows)]
    while number - last < len(layers) and pairs[-1] < cells**2:
        if number >= max(STEPS, len(layers)) and number % len(layers) == 0:
            return _doubled(layers, ConnectedPairs(rows, before, last, tuple(pairs[: last + 1])), itself, number)
        grown = _through(layers[number % len(layers)], rows, itself)
        number += 1
        pairs.append(count(grown))
        if pairs[-1] > pairs[-2]:
            before, last = rows, number
        rows = grown
    return ConnectedPairs(rows, before, last, tuple(pairs[: last + 1]))


def _doubled(layers: Sequence[tuple[Hop, ...]], begun: ConnectedPairs, itself: Array, number: int) -> ConnectedPairs:
    """Continues after `number` layers, a whole number of passes: doubles passes until nothing is added, then bisects
    for the last layer that adds a pair.
    """
    rows = begun.ever
    powers = [rows]
    passes: list[Runs] = []
    while True:
        passes.append(runs_of(powers[-1]))
        twice = _joined(passes[-1], powers[-1], itself)
        if count(twice) == count(powers[-1]):
            break
        powers.append(twice)
    if len(powers) == 1:
        return begun
    ever, most, passed = powers[-1], count(powers[-1]), number
    for power in range(len(powers) - 2, -1, -1):
        further = _joined(passes[power], rows, itself)
        if count(further) < most:
            rows, passed = further, passed + (number << power)
    while True:
        for hops in layers:
            grown = _through(hops, rows, itself)
            passed += 1
            if count(grown) == most:
                return ConnectedPairs(ever, rows, passed, begun.pairs)
            rows = grown


def _through(hops: tuple[Hop, ...], rows: Array, itself: Array) -> Array:
    """The rows after one more layer: each cell adds the rows of the cells that it attends."""
    result = rows.copy()
    had = rows | itself
    for hop in hops:
        if hop.order is None and hop.members is None:
            gather(hop.runs, had, result)
            continue
        if hop.members is None:
            keys = had[hop.order]
        else:
            keys = np.zeros((hop.members.rows, had.shape[1]), dtype=had.dtype)
            gather(hop.members, had, keys)
        laid = np.zeros_like(result)
        gather(hop.runs, keys, laid)
        result[slice(None) if hop.order is None else hop.order] |= laid
    return result


def _joined(later: Runs, earlier: Array, itself: Array) -> Array:
    """The connections through earlier layers and then later ones."""
    result = earlier.copy()
    gather(later, earlier | itself, result)
    return result


def gather(runs: Runs, rows: Array, result: Array) -> None:
    """Adds to each row of `result` the union of `rows` over its runs.

    Unions of 2 ** level consecutive rows are computed level by level (a sparse table); two of them cover a run.
    """
    lengths = runs.end - runs.start
    levels = np.frexp(lengths.astype(np.float64))[1] - 1
    size = max(1, CHUNK // rows.shape[1])
    for level in range(int(levels.max(initial=-1)) + 1):
        if level:
            half = 1 << (level - 1)
            rows = rows[:-half] | rows[half:]
        chosen = np.flatnonzero(levels == level)
        for begin in range(0, len(chosen), size):
            chunk = chosen[begin : begin + size]
            row, first = np.unique(runs.row[chunk], return_index=True)
            union = rows[runs.start[chunk]]
            if level:
                union |= rows[runs.end[chunk] - (1 << level)]
            result[row] |= np.bitwise_or.reduceat(union, first, axis=0)


def runs_of(rows: Array) -> Runs:
    """The runs of ones of each row: they start and end where a bit differs from the one before it."""
    edges = np.pad(rows, [(0, 0), (0, 1)])  # so that runs up to the last column end
    edges ^= edges << np.uint64(1)
    edges[:, 1:] ^= rows >> np.uint64(WORD - 1)
    row, word = np.nonzero(edges)
    number, bit = np.nonzero(dense(edges[row, word][:, None], WORD))
    row, column = row[number], word[number] * WORD + bit
    return Runs.of_sorted(len(rows), row[::2], column[::2], column[1::2])


def identity(cells: int) -> Array:
    """Rows in which each cell has itself only."""
    rows = np.zeros((cells, -(-cells // WORD)), dtype=np.uint64)
    number = np.arange(cells)
    rows[number, number // WORD] = np.uint64(1) << (number % WORD).astype(np.uint64)
    return rows


def dense(rows: Array, columns: int) -> Array:
    """The bits as bool [rows, columns]."""
    bytes_ = rows.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(bytes_, axis=1, count=columns, bitorder="little").view(bool)


def count(rows: Array) -> int:
    """The number of ones."""
    return int(_ONES[rows.view(np.uint16)].sum(dtype=np.int64))


def strips(rows: Array, size: int = 512) -> Iterator[tuple[slice, Array]]:
    """Yields slices of rows and their bits, bool [size, cells]."""
    for begin in range(0, len(rows), size):
        strip = slice(begin, min(begin + size, len(rows)))
        yield strip, dense(rows[strip], len(rows))
