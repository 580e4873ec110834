"""What a mask costs, in exact numbers: density, waste, arithmetic, traffic, keys per query. Made from its tiles.

The conventions, for a head dimension d:
- a pair computed costs 4 d floating-point operations forward (two products of matrices) and 10 d backward (five);
- a row of tiles reads its queries and the keys and values of all its tiles, and writes its output, once each;
- *attended* pairs are those of the relation, *computed* ones those of all tiles that are not empty.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from maskdsl.analysis.counts.axis_factors import axis_masks
from maskdsl.analysis.counts.keys_per_query import keys_per_query, keys_per_row
from maskdsl.analysis.tiles.block_map import Array, TileMap
from maskdsl.analysis.tiles.descent import Problem, classify
from maskdsl.analysis.tiles.head_classes import HeadClass, HeadClasses, check_size, find_head_classes, problems
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs


@dataclass(frozen=True)
class Figures:
    """Of one head, over all batch entries, or of all heads together."""

    pairs: int
    attended: int
    computed: int
    tiles: int
    full_tiles: int
    partial_tiles: int
    queries: int
    empty_rows: int
    """Queries that attend no key."""
    least_keys: int
    """Of any query; empty rows included."""
    median_keys: float
    most_keys: int
    forward_flops: int
    backward_flops: int
    bytes: int

    @property
    def density(self) -> float:
        """Attended pairs of all pairs."""
        return self.attended / self.pairs

    @property
    def block_density(self) -> float:
        """Tiles that are not empty, of all tiles."""
        return (self.full_tiles + self.partial_tiles) / self.tiles

    @property
    def waste(self) -> float:
        """Pairs that are computed and then masked, of those computed."""
        return 1 - self.attended / self.computed if self.computed else 0.0

    @property
    def speedup_bound(self) -> float:
        """All pairs to computed pairs: how much faster than dense attention these tiles can be."""
        return self.pairs / self.computed if self.computed else float("inf")

    @property
    def ideal_speedup(self) -> float:
        """All pairs to attended pairs: the bound of any tiling and order."""
        return self.pairs / self.attended if self.attended else float("inf")

    def as_dict(self) -> dict[str, Any]:
        names = ("density", "block_density", "waste", "speedup_bound", "ideal_speedup")
        return asdict(self) | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Stats:
    block: tuple[int, int]
    query_length: int
    key_length: int
    batch: int
    """Batch entries told apart: 1 where all are alike."""
    head_dim: int
    element_size: int
    total: Figures
    heads: tuple[Figures, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, as JSON has them."""
        return {
            "block": list(self.block),
            "query_length": self.query_length,
            "key_length": self.key_length,
            "batch": self.batch,
            "head_dim": self.head_dim,
            "element_size": self.element_size,
            "total": self.total.as_dict(),
            "heads": [figures.as_dict() for figures in self.heads],
        }


def stats(
    mask: MaskIR,
    block: tuple[int, int] = (128, 128),
    inputs: Mapping[str, object] | None = None,
    *,
    batch: int | None = None,
    head_dim: int = 64,
    element_size: int = 2,
) -> Stats:
    """`element_size` is that of an element of q, k, v and the output, in bytes."""
    return figures_of(mask, measure_all(mask, block, inputs or {}, batch), block, head_dim, element_size)


def figures_of(
    mask: MaskIR, measured: "MeasuredMask", block: tuple[int, int], head_dim: int, element_size: int
) -> Stats:
    head_classes = measured.head_classes

    def figures(uses: Array) -> Figures:
        return add_up(Counter(measured.parts[number] for number in uses.ravel().tolist()), head_dim, element_size)

    return Stats(
        block=block,
        query_length=mask.queries.length,
        key_length=mask.keys.length,
        batch=len(head_classes.index),
        head_dim=head_dim,
        element_size=element_size,
        total=figures(head_classes.index),
        heads=tuple(figures(uses) for uses in head_classes.index.T),
    )


@dataclass(frozen=True, eq=False)
class Measured:
    """One head class."""

    problem: Problem
    tiles: TileMap
    counts: Array
    """int64 [most keys + 1]: queries by the number of keys that they attend."""

    @cached_property
    def keys_read(self) -> Array:
        """int64 [query blocks]: keys of the tiles that are not empty."""
        return keys_per_row(self.tiles.full, self.problem.key) + keys_per_row(self.tiles.partial, self.problem.key)


@dataclass(frozen=True, eq=False)
class MeasuredMask:
    """All head classes of a mask, and which of them each batch entry and head is."""

    parts: tuple[Measured, ...]
    head_classes: HeadClasses


def measure_all(
    mask: MaskIR, block: tuple[int, int], inputs: Mapping[str, object], batch: int | None = None
) -> MeasuredMask:
    check_size(mask, block)
    given = input_arrays(mask, inputs, relation_inputs(mask, inputs))
    head_classes = find_head_classes(mask, given, batch)
    found = problems(mask, head_classes.different, block, given)
    parts = [_measure(mask, *each, given) for each in zip(head_classes.different, found, strict=True)]
    return MeasuredMask(tuple(parts), head_classes)


def _measure(mask: MaskIR, head_class: HeadClass, problem: Problem, inputs: Mapping[str, Array]) -> Measured:
    tiles = classify(problem)
    masks = axis_masks(mask, head_class.relation)
    if masks is None:
        return Measured(problem, tiles, np.bincount(keys_per_query(problem, tiles)))
    keys = np.ones(mask.queries.length, dtype=np.int64)
    for each in masks:
        (line,) = problems(each, (replace(head_class, relation=each.relation),), (128, 128), inputs)
        keys *= keys_per_query(line, classify(line))
    return Measured(problem, tiles, np.bincount(keys))


def add_up(parts: Mapping[Measured, int], head_dim: int, element_size: int) -> Figures:
    """Each part as often as it is used."""
    counts = _sum_padded(parts)
    queries = sum(part.problem.query.length * times for part, times in parts.items())
    computed = sum(int(part.keys_read @ part.problem.query.weights(0)) * times for part, times in parts.items())
    read = sum(int(part.keys_read.sum()) * times for part, times in parts.items())
    return Figures(
        pairs=sum(part.problem.query.length * part.problem.key.length * times for part, times in parts.items()),
        attended=int(counts @ np.arange(len(counts))),
        computed=computed,
        tiles=sum(part.problem.query.count * part.problem.key.count * times for part, times in parts.items()),
        full_tiles=sum(part.tiles.full.count * times for part, times in parts.items()),
        partial_tiles=sum(part.tiles.partial.count * times for part, times in parts.items()),
        queries=queries,
        empty_rows=int(counts[0]),
        least_keys=int(np.flatnonzero(counts)[0]),
        median_keys=median(counts),
        most_keys=len(counts) - 1,
        forward_flops=4 * head_dim * computed,
        backward_flops=10 * head_dim * computed,
        bytes=2 * element_size * head_dim * (queries + read),
    )


def _sum_padded(parts: Mapping[Measured, int]) -> Array:
    """The queries of all parts by the number of keys that they attend, zeros behind the shorter counts."""
    total = np.zeros(max(len(part.counts) for part in parts), dtype=np.int64)
    for part, times in parts.items():
        total[: len(part.counts)] += part.counts * times
    return total


def median(counts: Array) -> float:
    """Of numbers of which `counts[n]` are n; the mean of the two in the middle if there are two."""
    behind = np.cumsum(counts)
    middle = (behind[-1] - 1) // 2, behind[-1] // 2
    return float(np.searchsorted(behind, middle, side="right").mean())
