"""The intervals of queries that every key is masked for, as FlashMask takes them (`startend_row_indices`).

A key has two: the later queries [LTS, LTE), below the diagonal of a causal mask, and the earlier ones [UTS, UTE).
"""

import numpy as np

from maskdsl.analysis.runs.token_runs import TokenRuns
from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.engines import TooManyGaps


def column_intervals(runs: TokenRuns, queries: int) -> Array:
    """int32 [1 or heads, keys, 4]: LTS, LTE, UTS and UTE, from the runs of queries of every key.

    Raises `TooManyGaps` if a key is masked for more than two runs of queries.
    """
    gaps = [_gaps(each, queries) for each in runs.head_classes]
    for head, number in enumerate(runs.class_of_head):
        counts = np.diff(gaps[number].row_start)
        if counts.max(initial=0) > 2:
            key = int(np.argmax(counts))
            raise AttnError(TooManyGaps(key=key, head=head, count=int(counts[key])))
    return runs.of_heads([_indices(each, queries) for each in gaps])


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


def _indices(gaps: Runs, queries: int) -> Array:
    """int32 [keys, 4]. What a key does not need is empty: at the end of the queries, or at their beginning."""
    indices = np.empty((gaps.rows, 4), dtype=np.int32)
    indices[:] = queries, queries, 0, 0
    counts = np.diff(gaps.row_start)
    row, start, end = gaps.row, gaps.start, gaps.end
    is_upper = (np.arange(len(row)) == gaps.row_start[row]) & ((counts[row] > 1) | (start == 0))
    for which, first in ((~is_upper, 0), (is_upper, 2)):
        indices[row[which], first], indices[row[which], first + 1] = start[which], end[which]
    return indices
