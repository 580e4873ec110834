"""Layers as hops between tokens: who attends whom, as runs of blocks, and what sets of tokens become by it.

Information travels against attention: a query draws from the keys that it attends, so a key is read by the queries
that attend it. A layer is told by its tiles. With blocks of one token they are exact; with larger ones, full tiles
are hops for certain, and tiles that are not empty are hops that there may be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from maskdsl.analysis.blockmap import Array, Runs
from maskdsl.analysis.descent import classify
from maskdsl.analysis.variants import check_size, find_variants, problems
from maskdsl.ir.coordinates import Coordinates
from maskdsl.ir.inputs import input_arrays, relation_inputs
from maskdsl.ir.mask import MaskIR, Sequence


@dataclass(frozen=True, eq=False)
class Hop:
    """Blocks of queries that attend blocks of keys of the same sequence."""

    runs: Runs
    order: Array | None
    """int64 [tokens]: the declared position of each laid-out place; None for the declared order."""
    block: int
    length: int

    def readers(self, tokens: Array) -> Array:
        """bool [tokens]: those in whose block something attends the block of one of these."""
        before = np.concatenate([[0], np.cumsum(self.touched(tokens))])
        rows = np.zeros(self.runs.rows, dtype=bool)
        rows[self.runs.row[before[self.runs.end] > before[self.runs.start]]] = True
        return self.spread(rows)

    def sources(self, tokens: Array) -> Array:
        """bool [tokens]: those whose block is attended by something in the block of one of these."""
        chosen = self.touched(tokens)[self.runs.row]
        steps = np.bincount(self.runs.start[chosen], minlength=self.runs.rows + 1)
        steps -= np.bincount(self.runs.end[chosen], minlength=self.runs.rows + 1)
        return self.spread(np.cumsum(steps)[:-1] > 0)

    def touched(self, tokens: Array) -> Array:
        """bool [blocks]: those with a token of a set."""
        laid = tokens if self.order is None else tokens[self.order]
        if self.block == 1:
            return laid
        return np.asarray(np.logical_or.reduceat(laid, np.arange(0, self.length, self.block)))

    def spread(self, blocks: Array) -> Array:
        """bool [tokens]: those of blocks."""
        laid = blocks if self.block == 1 else np.repeat(blocks, self.block)[: self.length]
        if self.order is None:
            return laid
        declared = np.empty_like(laid)
        declared[self.order] = laid
        return declared


@dataclass(frozen=True)
class Layer:
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


def find_layer(mask: MaskIR, block: int, inputs: Mapping[str, object], declared: bool = False) -> Layer:
    """The hops between blocks of so many tokens, in the mask's layout or in `declared` order."""
    check_size(mask, (block, block))
    if declared:
        mask = replace(mask, queries=replace(mask.queries, order=()), keys=replace(mask.keys, order=()))
    given = input_arrays(mask, inputs, relation_inputs(mask))
    variants = find_variants(mask, given)
    used = [variants.different[number] for number in sorted(set(variants.index[0].tolist()))]
    certain: list[Hop] = []
    possible: list[Hop] = []
    orders: dict[tuple[Sequence, int, int], Array | None] = {}
    for variant, problem in zip(used, problems(mask, tuple(used), (block, block), given), strict=True):
        key = mask.queries, variant.head, variant.batch
        if key not in orders:
            orders[key] = Coordinates(mask, mask.queries, given, variant.batch, variant.head).permutation()
        found = classify(problem)
        length = mask.queries.length
        certain += some_hop(found.full, orders[key], block, length)
        possible += some_hop(found.partial, orders[key], block, length)
    return Layer(tuple(certain), tuple(possible))


def some_hop(runs: Runs, order: Array | None, block: int, length: int) -> Iterator[Hop]:
    if runs.count:
        yield Hop(runs, order, min(block, length), length)
