"""The intervals of keys of every query, as the Flex Attention of cuDNN's frontend takes them (`mask_func`).

Functions F0 <= F1 <= ... of a query give the keys [0, F0), [F1, F2), [F3, F4) and so on.
"""

import numpy as np

from maskdsl.analysis.runs.token_runs import TokenRuns
from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.engines import TooManyRuns


def row_intervals(runs: TokenRuns, most: int) -> Array:
    """int32 [1 or heads, functions, queries], with as few functions as these runs need.

    Raises `TooManyRuns` if that are more than `most`.
    """
    needed = [_functions(each) for each in runs.head_classes]
    for head, number in enumerate(runs.class_of_head):
        query = int(np.argmax(needed[number])) if needed[number].size else 0
        if needed[number].max(initial=1) > most:
            raise AttnError(TooManyRuns(query=query, head=head, needed=int(needed[number][query]), most=most))
    functions = max((int(each.max(initial=1)) for each in needed), default=1)
    return runs.of_heads([_endpoints(each, functions) for each in runs.head_classes])


def _functions(runs: Runs) -> Array:
    """int32 [queries]: how many functions each query needs: one for a run from key 0 on, and two for any other."""
    return 1 + 2 * (np.diff(runs.row_start) - _from_first(runs))


def _from_first(runs: Runs) -> Array:
    """bool [queries]: whether the first run of each begins with key 0."""
    if runs.has_one_each:
        return np.asarray(runs.start == 0)
    before, until = runs.row_start[:-1], runs.row_start[1:]
    return np.asarray((np.append(runs.start, np.int32(1))[before] == 0) & (before < until))


def _endpoints(runs: Runs, functions: int) -> Array:
    """int32 [functions, queries]. What a query does not need are empty intervals at the end of its last run."""
    if runs.has_one_each:
        start, end = runs.start, runs.end
        begins = start == 0
        first = [np.where(begins, end, 0), np.where(begins, end, start)]
        return np.stack([*first, *[end] * functions][:functions])
    before, until = runs.row_start[:-1], runs.row_start[1:]
    end = np.append(runs.end, np.int32(0))
    begins = _from_first(runs)
    endpoints = np.empty((functions, runs.rows), dtype=np.int32)
    endpoints[:] = np.where(before < until, end[until - 1], 0)
    endpoints[0] = np.where(begins, end[before], 0)
    number = np.arange(len(runs.row), dtype=np.int32) - (before + begins)[runs.row]
    others = number >= 0
    row, number = runs.row[others], number[others]
    endpoints[1 + 2 * number, row] = runs.start[others]
    endpoints[2 + 2 * number, row] = runs.end[others]
    return endpoints
