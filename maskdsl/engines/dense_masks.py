"""All pairs of a mask, as torch's `scaled_dot_product_attention` takes them."""

from collections.abc import Sequence

import numpy as np

from maskdsl.analysis.runs.token_runs import TokenRuns
from maskdsl.analysis.tiles.block_map import Array


def dense_masks(entries: Sequence[TokenRuns], keys: int) -> Array:
    """bool [1 or batch, 1 or heads, queries, keys], from the runs of every batch entry: n x n, as the answer is."""
    some = [each.of_heads([runs.dense(keys) for runs in each.head_classes]) for each in entries]
    masks = np.broadcast_arrays(*some)
    alike = all((each == masks[0]).all() for each in masks)
    return np.stack(some[:1] if alike else masks)
