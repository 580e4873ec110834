"""Limits in closed form to the longest range of keys that some consecutive queries attend."""

from functools import reduce

import numpy as np

from maskdsl.analysis.closed.closed_form import Limit, Limits
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Array


def longest_range(mask: MaskIR, limits: Limits, queries: int) -> int:
    """The most keys from the first to the last that `queries` consecutive queries attend, by limits of any head."""
    first = np.arange(mask.queries.length)
    last = np.minimum(first + queries, mask.queries.length) - 1

    def ends(limit: Limit) -> tuple[Array, Array]:
        of_first, of_last = evaluate(limit.value, lambda _: first, {}), evaluate(limit.value, lambda _: last, {})
        return np.minimum(of_first, of_last), np.maximum(of_first, of_last)

    low = reduce(np.maximum, (ends(each)[0] for each in limits.low), np.zeros_like(first))
    high = reduce(np.minimum, (ends(each)[1] for each in limits.high), np.full_like(first, mask.keys.length - 1))
    return max(0, int((high - low).max(initial=-1)) + 1)
