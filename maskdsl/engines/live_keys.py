"""The keys that later queries attend: the others can leave a cache."""

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
