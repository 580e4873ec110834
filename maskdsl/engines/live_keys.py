"""The keys that later queries attend, and the last query of each: the others can leave a cache."""

import numpy as np

from maskdsl.analysis.runs.token_runs import TokenRuns
from maskdsl.analysis.tiles.block_map import Array, Runs


def live_keys(entries: list[TokenRuns], position: int, head: int | None, keys: int) -> Array:
    """int64 [runs, 2]: the runs of keys that a query from this position on attends, in some of these batch entries.

    Of one head, or of any.
    """
    steps = np.zeros(keys + 1, dtype=np.int64)
    for each in entries:
        for number in np.unique(each.class_of_head if head is None else each.class_of_head[head]):
            runs = each.head_classes[number]
            first = runs.row_start[position]
            for sign, at in ((1, runs.start[first:]), (-1, runs.end[first:])):
                steps += sign * np.bincount(at, minlength=keys + 1)
    live = Runs.of_dense(np.cumsum(steps)[None, :-1] > 0)
    return np.stack([live.start, live.end], axis=1).astype(np.int64)


def last_queries(entries: list[TokenRuns], head: int | None) -> Array:
    """int64 [keys]: the last query that attends each key in some of these batch entries, -1 if none does.

    Of one head, or of any. The runs are those of keys.
    """
    chosen = [
        each.head_classes[number]
        for each in entries
        for number in np.unique(each.class_of_head if head is None else each.class_of_head[head])
    ]
    last: Array = np.max([_ends(runs) for runs in chosen], axis=0) - 1
    return last


def _ends(runs: Runs) -> Array:
    """int64 [rows]: the end of the last run of each row, 0 where there is none."""
    ends = np.append(runs.end, 0)[runs.row_start[1:] - 1]
    return np.where(np.diff(runs.row_start) > 0, ends, 0).astype(np.int64)
