"""Disjoint slices of a mask, as MagiAttention takes them: ranges of queries and of keys, and a kind each.

A slice is a run of keys for each of its queries, whose first key is the same or one more from query to query, and whose
end likewise. So runs of adjacent queries that continue each other in one of these four ways are chained, and each chain
is cut where the way changes: from its first query on, every slice is as long as it can be, which takes the fewest.
"""

from collections.abc import Iterator

import numpy as np

from maskdsl.analysis.runs.token_runs import TokenRuns
from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.engines import UnlikeHeads

_NONE = np.int8(-1)
"""In place of a kind: a run continues none."""


def slices(runs: TokenRuns, head: int | None) -> tuple[Array, Array, Array]:
    """Ranges of queries, int32 [n, 2], ranges of keys, int32 [n, 2], and kinds, int8 [n].

    Kinds are 0 full, 1 causal, 2 inverse causal and 3 both. Raises `UnlikeHeads` if heads differ and `head` is None.
    """
    unlike = np.flatnonzero(runs.class_of_head != runs.class_of_head[0])
    if head is None and len(unlike):
        raise AttnError(UnlikeHeads(head=int(unlike[0])))
    return _slices(runs.head_classes[runs.class_of_head[head or 0]])


def _slices(runs: Runs) -> tuple[Array, Array, Array]:
    query, start, end = runs.row, runs.start, runs.end
    order, kind = _chained(runs)
    query, start, end, kind = query[order], start[order], end[order], kind[order]
    first = np.flatnonzero(_begins(kind))
    last = np.append(first[1:], len(kind))[: len(first)] - 1
    kinds = np.where(first < last, kind[np.minimum(first + 1, len(kind) - 1)], 0) if len(kind) else kind
    by_query = np.lexsort((start[first], query[first]))
    first, last = first[by_query], last[by_query]
    queries = np.stack([query[first], query[last] + 1], axis=1).astype(np.int32)
    keys = np.stack([start[first], end[last]], axis=1).astype(np.int32)
    return queries, keys, kinds[by_query].astype(np.int8)


def _chained(runs: Runs) -> tuple[Array | slice, Array]:
    """An order of the runs, chain by chain, and for each run the kind by which it continues another, or `_NONE`."""
    if np.diff(runs.row_start).max(initial=0) <= 1:
        return slice(None), _continued(runs)
    count = len(runs.row)
    before = np.full(count, -1)
    kind = np.full(count, _NONE)
    for run, candidate in _candidates(runs):
        start, end = (each[run] - each[candidate] for each in (runs.start, runs.end))
        fits = (start >= 0) & (start <= 1) & (end >= 0) & (end <= 1)
        before[run[fits]] = candidate[fits]
        kind[run[fits]] = (2 * start + end)[fits]
    return np.argsort(_firsts(before), kind="stable"), kind


def _continued(runs: Runs) -> Array:
    """int8 [runs]: of at most one run a query, the kind by which each continues the run before, or `_NONE`."""
    start, end = np.diff(runs.start), np.diff(runs.end)
    fits = (start >> 1 | end >> 1) == 0
    if not runs.has_one_each:
        fits &= np.diff(runs.row) == 1
    return np.append(_NONE, np.where(fits, (2 * start + end).astype(np.int8), _NONE))[: len(runs.row)]


def _candidates(runs: Runs) -> Iterator[tuple[Array, Array]]:
    """Runs, and the runs of the query before that begin with the same key, or with the key before."""
    count = len(runs.row)
    order = runs.row.astype(np.int64) << 32 | runs.start
    for step in (0, 1):
        wanted = order - (1 << 32) - step
        candidate = np.minimum(np.searchsorted(order, wanted), count - 1)
        run = np.flatnonzero((order[candidate] == wanted) & (runs.start >= step))
        yield run, candidate[run]


def _firsts(before: Array) -> Array:
    """The first run of the chain of each run, by doubling."""
    first = np.where(before < 0, np.arange(len(before)), before)
    while True:
        further = first[first]
        if (further == first).all():
            return first
        first = further


def _begins(kind: Array) -> Array:
    """bool: which runs begin a slice, of runs chain by chain.

    A run does if it continues none, or else if it continues its slice in another way, unless the run before begins one:
    what follows gives a slice its kind. So of several changes behind each other every second one begins a slice.
    """
    number = np.arange(len(kind), dtype=np.int32)
    certain = kind == _NONE
    certain[1:] |= kind[1:] == kind[:-1]
    latest = np.maximum.accumulate(np.where(certain, number, np.int32(0)))
    return np.asarray((kind[latest] == _NONE) ^ ((number - latest) & 1 == 1))
