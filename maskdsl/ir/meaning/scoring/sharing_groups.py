"""How many groups share tokens with one other group."""

import numpy as np

from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Array
from maskdsl.ir.values.group_scores import Grouping


def most_sharing(mask: MaskIR, sequence: Sequence, source: Grouping, target: Grouping) -> int:
    """The most groups of `source` that share tokens with a group of `target`, at least 1.

    Of groups that no call decides. Takes time for each token and each group that it is in.
    """
    one, other = (_numbers(mask, sequence, each) for each in (source, target))
    both = (one[:, None, :] >= 0) & (other[:, :, None] >= 0)
    pairs = np.unique((other[:, :, None] * source.count + one[:, None, :])[both])
    return max(1, int(np.bincount(pairs // source.count).max(initial=0)))


def _numbers(mask: MaskIR, sequence: Sequence, grouping: Grouping) -> Array:
    """int64 [tokens, span]: the groups of each token, below 0 for none."""
    if grouping.by is None:
        return np.zeros((sequence.length, 1), dtype=np.int64)
    values = Coordinates(mask, sequence, {}).values(grouping.by).astype(np.int64)
    has = np.repeat(sequence.having(grouping.by), [space.size for space in sequence.spaces])
    return np.where(has, values, -1)[:, None] - np.arange(grouping.span)
