"""Rows of tiles as runs with a step, which hold a comb of runs in a few numbers: what kernels of GPUs read."""

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.records import dataclass


@dataclass(frozen=True, eq=False)
class SteppedRuns:
    """For every row, disjoint runs: the columns start, start + step, ... below end. All arrays are int32.

    A comb is several runs of a row with one width, and one distance from each to the next. It is as many runs with a
    step as it is wide, where these are fewer.
    """

    row_start: Array
    """Row r has the runs `row_start[r]` to `row_start[r + 1]` (exclusive), sorted by their start."""
    start: Array
    end: Array
    """The column behind the last one."""
    step: Array

    @staticmethod
    def of(runs: Runs) -> "SteppedRuns":
        """The same tiles, with combs from the left, each as long as it can be. Takes time of the number of runs."""
        first, last = _combs(runs)
        copies = np.ones(len(runs.start), dtype=np.int32)
        copies[_between(first + 1, last + 1, len(copies))] = 0
        copies[first] = runs.end[first] - runs.start[first]
        end, step = runs.end.copy(), np.ones_like(runs.start)
        end[first] = runs.start[last] + 1
        step[first] = runs.start[first + 1] - runs.start[first]
        before = np.cumsum(copies, dtype=np.int32) - copies
        kept = np.repeat(np.arange(len(copies), dtype=np.int32), copies)
        column = np.arange(len(kept), dtype=np.int32) - before[kept]
        row_start = np.append(before, len(kept))[runs.row_start].astype(np.int32)
        return SteppedRuns(row_start, runs.start[kept] + column, end[kept] + column, step[kept])


def _combs(runs: Runs) -> tuple[Array, Array]:
    """The first and the last run of every comb that has more runs than columns."""
    width, distance = runs.end - runs.start, np.diff(runs.start)
    alike = width[1:] == width[:-1]
    borders = runs.row_start[1:-1]
    alike[borders[(borders > 0) & (borders < len(width))] - 1] = False
    distance[~alike] = 0
    # Spans of runs [first, last] at one distance, each as long as it can be; where two meet, they share a run.
    cuts = np.flatnonzero(np.diff(distance, prepend=-1, append=-1))
    real = distance[cuts[:-1]] > 0
    first, last = (each[real].astype(np.int32) for each in (cuts[:-1], cuts[1:]))
    surplus = last - first - width[first]
    meets = _behind(first[1:] == last[:-1], len(first))
    # The shared run goes to the span before, if that is a comb. Without it, a span of no surplus is none: of several
    # such spans that meet, it is every second one.
    tight, number = surplus == 0, np.arange(len(first), dtype=np.int32)
    meets_tight = tight & meets & _behind(tight[:-1], len(first))
    chain = number - np.maximum.accumulate(np.where(meets_tight, 0, number))
    loses = meets & _behind(surplus[:-1] > 0, len(first))
    is_comb = (surplus > 0) | (tight & ((chain + loses[number - chain]) % 2 == 0))
    first = first + (meets & _behind(is_comb[:-1], len(first)))
    return first[is_comb], last[is_comb]


def _behind(values: Array, count: int) -> Array:
    """bool [count]: False, then the values."""
    result = np.zeros(count, dtype=bool)
    result[1:] = values
    return result


def _between(start: Array, end: Array, count: int) -> Array:
    """bool [count]: which numbers are in one of the disjoint ranges [start, end)."""
    changes = np.zeros(count + 1, dtype=np.int8)
    changes[start] += 1
    changes[end] -= 1
    return np.cumsum(changes[:-1], dtype=np.int8) > 0
