"""Reference semantics of `normalize` and `sink`: final scores of one head to probabilities and log-sum-exps."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from maskdsl.ir.mask import Normalize
from maskdsl.ir.ops import Array


def probabilities(score: Array, attends: Array, sinks: Sequence[Array], normalize: Normalize) -> tuple[Array, Array]:
    """Probabilities [queries, keys], 0 for pairs that do not attend, and the log-sum-exp of each query [queries].

    `score` and `attends` are [queries, keys], each of the `sinks` is [queries, 1]. Log-sum-exps are NaN where there is
    no softmax by query.
    """
    nothing = np.full(len(score), np.nan)
    match normalize:
        case Normalize.BY_QUERY:
            ends = np.concatenate([np.where(attends, score, -np.inf), *sinks], axis=1)
            p, lse = _softmax(ends, axis=1)
            return p[:, : score.shape[1]], lse[:, 0]
        case Normalize.BY_KEY:
            return _softmax(np.where(attends, score, -np.inf), axis=0)[0], nothing
        case Normalize.NONE:
            return np.where(attends, score, 0), nothing
        case _:
            assert_never(normalize)


def _softmax(score: Array, axis: int) -> tuple[Array, Array]:
    """The softmax along an axis and its log-sum-exp: zeros and minus infinity where all scores are minus infinity."""
    maximum = score.max(axis=axis, keepdims=True, initial=-np.inf)
    exponentials = np.exp(score - np.where(maximum > -np.inf, maximum, 0))
    sums = exponentials.sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = np.where(sums != 0, np.log(sums) + maximum, -np.inf)
    return exponentials / np.where(sums != 0, sums, 1), lse


def scaled_output(out: Array, factor: Array) -> Array:
    """The output [queries, dim] by a factor [queries, 1]: what is zero stays zero even if its factor is not finite."""
    return np.where((out == 0) & ~np.isfinite(factor), 0, out * factor)
