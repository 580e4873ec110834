"""Exact statistics of a mask, from its tiles: density, waste, arithmetic, memory traffic, keys per query.

Conventions, for head dimension d:
- a computed pair costs 4 d floating-point operations forward (two matrix products) and 10 d backward (five);
- a row of tiles reads its queries, and the keys and values of its tiles, and writes its output, once each;
- *attended* pairs are those of the relation, *computed* pairs those of all tiles that are not empty;
- branches add up their attended and computed pairs, arithmetic and traffic; *seen* pairs are attended by some branch.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np

from maskdsl.analysis.counts.axis_factors import axis_masks
from maskdsl.analysis.counts.keys_per_query import keys_per_query, keys_per_row
from maskdsl.analysis.tiles.block_map import Array, TileMap
from maskdsl.analysis.tiles.descent import Problem
from maskdsl.analysis.tiles.head_classes import HeadClass, HeadClasses, check_size, find_head_classes, problems
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.base.display import Displayed
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import branch_inputs, input_arrays, relation_inputs


@dataclass(frozen=True)
class Figures(Displayed):
    """Statistics of one head over all batch entries, or of all heads together. Pairs, tiles and queries are summed."""

    pairs: int
    attended: int
    """Pairs that attend, once for each branch that attends them."""
    seen: int
    """Pairs that attend in some branch; without branches, `attended`. Keys of queries and tiles are those of `seen`."""
    computed: int
    """Pairs of all tiles that are not empty, of each branch."""
    dense: int
    """Pairs that dense attention computes: all pairs, of each branch."""
    tiles: int
    full_tiles: int
    partial_tiles: int
    queries: int
    empty_rows: int
    """Queries that attend no key."""
    least_keys: int
    """The fewest keys of any query, queries without keys included."""
    median_keys: float
    most_keys: int
    forward_flops: int
    backward_flops: int
    bytes: int

    @property
    def density(self) -> float:
        """The share of pairs that attend, in some branch."""
        return self.seen / self.pairs if self.pairs else 0.0

    @property
    def block_density(self) -> float:
        """The share of tiles that are not empty."""
        return (self.full_tiles + self.partial_tiles) / self.tiles if self.tiles else 0.0

    @property
    def waste(self) -> float:
        """The share of computed pairs that are masked."""
        return 1 - self.attended / self.computed if self.computed else 0.0

    @property
    def speedup_bound(self) -> float:
        """All pairs over computed pairs: the largest speedup over dense attention (of each branch) with these tiles."""
        return self.dense / self.computed if self.computed else float("inf")

    @property
    def ideal_speedup(self) -> float:
        """All pairs over attended pairs: the largest speedup with any tiles and order."""
        return self.dense / self.attended if self.attended else float("inf")

    def as_dict(self) -> dict[str, Any]:
        """All fields and properties as plain numbers, for JSON."""
        names = ("density", "block_density", "waste", "speedup_bound", "ideal_speedup")
        return asdict(self) | {name: getattr(self, name) for name in names}

    def _shown_(self) -> tuple[object, ...]:
        return (self,)

    def __str__(self) -> str:
        tiles = f"{self.full_tiles:,} full and {self.partial_tiles:,} partial of {self.tiles:,} tiles"
        return f"density {self.density:.3%}, {tiles}, {self.waste:.1%} of computed pairs masked"

    def __repr__(self) -> str:
        return f"Figures({self})"


@dataclass(frozen=True)
class Stats(Displayed):
    """Statistics of a mask with tiles of `block` = (queries, keys)."""

    block: tuple[int, int]
    query_length: int
    key_length: int
    batch: int
    """Batch entries that `total` sums over: 1 if all are alike."""
    head_dim: int
    element_size: int
    total: Figures
    heads: tuple[Figures, ...]
    """Each head, over all batch entries."""
    first_entry: tuple[Figures, ...]
    """Each head, in the first batch entry alone: what pictures show."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
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

    def _shown_(self) -> tuple[object, ...]:
        return (self,)

    def __repr__(self) -> str:
        sizes = f"{self.query_length} x {self.key_length}, heads={len(self.heads)}, batch={self.batch}"
        return f"Stats({sizes}, block={self.block}: {self.total})"


def stats(
    mask: MaskIR,
    block: tuple[int, int] = (128, 128),
    inputs: Mapping[str, object] | None = None,
    *,
    batch: int | None = None,
    head_dim: int = 64,
    element_size: int = 2,
) -> Stats:
    """The statistics of a mask; `inputs` and `batch` are as for `tiles`.

    `element_size` is the size in bytes of an element of q, k, v and the output. Raises `AttnError` as `tiles` does.
    """
    return figures_of(mask, measure_all(mask, block, inputs or {}, batch), block, head_dim, element_size)


def figures_of(
    mask: MaskIR, measured: "MeasuredMask", block: tuple[int, int], head_dim: int, element_size: int
) -> Stats:
    """The statistics of a measured mask."""
    entries = measured.entries

    def figures(batch: slice, heads: slice) -> Figures:
        uses = [each.uses(entries, batch, heads) for each in (measured, *measured.branches)]
        return add_up(*uses, head_dim=head_dim, element_size=element_size)

    def each_head(batch: slice) -> tuple[Figures, ...]:
        return tuple(figures(batch, slice(head, head + 1)) for head in range(mask.heads))

    heads = each_head(slice(None))
    return Stats(
        block=block,
        query_length=mask.queries.length,
        key_length=mask.keys.length,
        batch=entries,
        head_dim=head_dim,
        element_size=element_size,
        total=figures(slice(None), slice(None)),
        heads=heads,
        first_entry=heads if entries == 1 else each_head(slice(1)),
    )


@dataclass(frozen=True, eq=False)
class Measured:
    """The tiles of one head class, and the keys per query."""

    problem: Problem
    tiles: TileMap
    counts: Array
    """int64 [most keys + 1]: entry n is the number of queries that attend n keys."""

    @cached_property
    def keys_read(self) -> Array:
        """int64 [query blocks]: keys in the tiles that are not empty."""
        return keys_per_row(self.tiles.full, self.problem.key) + keys_per_row(self.tiles.partial, self.problem.key)


@dataclass(frozen=True, eq=False)
class MeasuredMask:
    """All measured head classes of a mask, and the class of each batch entry and head."""

    classes: tuple[Measured, ...]
    head_classes: HeadClasses
    branches: tuple["MeasuredMask", ...] = ()
    """The branches of the mask, each measured by itself."""

    @property
    def entries(self) -> int:
        """Batch entries that are not all alike."""
        return max(len(each.head_classes.index) for each in (self, *self.branches))

    def uses(self, entries: int, batch: slice = slice(None), heads: slice = slice(None)) -> Counter[Measured]:
        """How often each class is used by these batch entries, of so many, and by these heads."""
        index = self.head_classes.index
        chosen = np.broadcast_to(index, (entries, index.shape[1]))[batch, heads]
        return Counter(self.classes[number] for number in chosen.ravel().tolist())


def measure_all(
    mask: MaskIR, block: tuple[int, int], inputs: Mapping[str, object], batch: int | None = None
) -> MeasuredMask:
    """Measures all head classes of a mask. Raises `AttnError` as `tiles` does."""
    check_size(mask, block)
    given = input_arrays(mask, inputs, relation_inputs(mask, inputs))
    head_classes = find_head_classes(mask, given, batch)
    all_problems = problems(mask, head_classes.different, block, given)
    measured = [_measure(mask, *each, given) for each in zip(head_classes.different, all_problems, strict=True)]
    return MeasuredMask(tuple(measured), head_classes, measured_branches(mask, block, inputs, batch))


def measured_branches(
    mask: MaskIR, block: tuple[int, int], inputs: Mapping[str, object], batch: int | None = None
) -> tuple[MeasuredMask, ...]:
    """The measured branches of a mask; none without branches."""
    return tuple(measure_all(each, block, branch_inputs(each, inputs), batch) for each in mask.branches)


def _measure(mask: MaskIR, head_class: HeadClass, problem: Problem, inputs: Mapping[str, Array]) -> Measured:
    tiles = classify(problem)
    masks = axis_masks(mask, head_class.relation)
    if masks is None:
        return Measured(problem, tiles, np.bincount(keys_per_query(problem, tiles), minlength=1))
    keys = np.ones(mask.queries.length, dtype=np.int64)
    for each in masks:
        (axis_problem,) = problems(each, (replace(head_class, relation=each.relation),), (128, 128), inputs)
        keys *= keys_per_query(axis_problem, classify(axis_problem))
    return Measured(problem, tiles, np.bincount(keys))


def add_up(
    uses: Mapping[Measured, int], *branches: Mapping[Measured, int], head_dim: int, element_size: int
) -> Figures:
    """The statistics of head classes, each counted as often as it is used; `branches` are those of branches."""
    counts = _sum_padded(uses)
    queries = sum(each.problem.query.length * times for each, times in uses.items())
    every = [each for summand in branches or (uses,) for each in summand.items()]
    computed = sum(int(each.keys_read @ each.problem.query.weights(0)) * times for each, times in every)
    read = sum(int(each.keys_read.sum()) * times for each, times in every)
    written = sum(each.problem.query.length * times for each, times in every)
    attended = sum(int(each.counts @ np.arange(len(each.counts))) * times for each, times in every)
    pairs, dense = (
        sum(each.problem.query.length * each.problem.key.length * times for each, times in items)
        for items in (uses.items(), every)
    )
    return Figures(
        pairs=pairs,
        attended=attended,
        seen=int(counts @ np.arange(len(counts))),
        computed=computed,
        dense=dense,
        tiles=sum(each.problem.query.count * each.problem.key.count * times for each, times in uses.items()),
        full_tiles=sum(each.tiles.full.count * times for each, times in uses.items()),
        partial_tiles=sum(each.tiles.partial.count * times for each, times in uses.items()),
        queries=queries,
        empty_rows=int(counts[0]),
        least_keys=int(np.argmax(counts > 0)),
        median_keys=median(counts),
        most_keys=len(counts) - 1,
        forward_flops=4 * head_dim * computed,
        backward_flops=10 * head_dim * computed,
        bytes=2 * element_size * head_dim * (written + read),
    )


def _sum_padded(uses: Mapping[Measured, int]) -> Array:
    """The counts of queries by number of keys, summed over all uses of head classes; shorter counts are padded."""
    summed = np.zeros(max(len(each.counts) for each in uses), dtype=np.int64)
    for each, times in uses.items():
        summed[: len(each.counts)] += each.counts * times
    return summed


def median(counts: Array) -> float:
    """The median of a sample in which n occurs `counts[n]` times; 0 of an empty one."""
    cumulative = np.cumsum(counts)
    if not cumulative[-1]:
        return 0.0
    middle = (cumulative[-1] - 1) // 2, cumulative[-1] // 2
    return float(np.searchsorted(cumulative, middle, side="right").mean())
