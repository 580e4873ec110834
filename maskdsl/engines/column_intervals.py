"""The intervals of queries that every key is masked for, as FlashMask takes them (`startend_row_indices`).

A key has two: the later queries [LTS, LTE), below the diagonal of a causal mask, and the earlier ones [UTS, UTE).
"""

import numpy as np

from maskdsl.analysis.runs.token_runs import TokenRuns
from maskdsl.analysis.tiles.block_map import Array, Runs, ranges
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.engines import TooManyGaps


def column_intervals(runs: TokenRuns, queries: int) -> Array:
    """int32 [1 or heads, keys, 4]: LTS, LTE, UTS and UTE, from the runs of queries of every key.

    Raises `TooManyGaps` if a key is masked for more than two runs of queries.
    """
    for head, number in enumerate(runs.class_of_head):
        counts = _gap_counts(runs.head_classes[number], queries)
        if counts.max(initial=0) > 2:
            key = int(np.argmax(counts))
            raise AttnError(TooManyGaps(key=key, head=head, count=int(counts[key])))
    return runs.of_heads([_indices(each, queries) for each in runs.head_classes])


def _gap_counts(runs: Runs, queries: int) -> Array:
    """int32 [keys]: how many runs of queries do not attend each key."""
    if runs.has_one_each:
        return np.asarray(2 - (runs.start == 0) - (runs.end == queries))
    before, until = runs.row_start[:-1], runs.row_start[1:]
    start, end = (np.append(each, np.int32(0)) for each in (runs.start, runs.end))
    inside = until - before + 1 - (start[before] == 0) - (end[until - 1] == queries)
    return np.where(before < until, inside, int(queries > 0))


def _indices(runs: Runs, queries: int) -> Array:
    """int32 [keys, 4]. What a key does not need is empty: at the end of the queries, or at their beginning."""
    indices = np.empty((runs.rows, 4), dtype=np.int32)
    if runs.has_one_each:
        indices[:, 0], indices[:, 1], indices[:, 2], indices[:, 3] = runs.end, queries, 0, runs.start
        return indices
    before, until = runs.row_start[:-1], runs.row_start[1:]
    for which, value, at in ((0, queries, runs.end), (1, queries, None), (2, 0, None), (3, queries, runs.start)):
        indices[:, which] = value if at is None else np.where(before < until, np.append(at, 0)[before], value)
    several = np.flatnonzero(until - before > 1)
    if len(several):
        indices[several] = _of_gaps(_gaps(_of_rows(runs, several), queries), queries)
    return indices


def _of_rows(runs: Runs, rows: Array) -> Runs:
    before, until = runs.row_start[rows], runs.row_start[rows + 1]
    row_start = np.concatenate([[0], np.cumsum(until - before)]).astype(np.int32)
    run = ranges(before, until)
    return Runs(row_start, runs.start[run], runs.end[run])


def _gaps(runs: Runs, columns: int) -> Runs:
    """The columns that are in no run, of every row."""
    number = np.arange(len(runs.row)) + runs.row
    start = np.zeros(len(runs.row) + runs.rows, dtype=np.int32)
    end = np.full(len(start), columns, dtype=np.int32)
    start[number + 1], end[number] = runs.end, runs.start
    some = start < end
    row_start = np.zeros(runs.rows + 1, dtype=np.int32)
    row_start[1:] = np.cumsum(some, dtype=np.int32)[runs.row_start[1:] + np.arange(runs.rows)]
    return Runs(row_start, start[some], end[some])


def _of_gaps(gaps: Runs, queries: int) -> Array:
    indices = np.empty((gaps.rows, 4), dtype=np.int32)
    indices[:] = queries, queries, 0, 0
    counts = np.diff(gaps.row_start)
    row, start, end = gaps.row, gaps.start, gaps.end
    is_upper = (np.arange(len(row)) == gaps.row_start[row]) & ((counts[row] > 1) | (start == 0))
    for which, first in ((~is_upper, 0), (is_upper, 2)):
        indices[row[which], first], indices[row[which], first + 1] = start[which], end[which]
    return indices
