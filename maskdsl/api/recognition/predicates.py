"""Evaluates mask functions over all pairs: FlexAttention's `mask_mod`, or plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from maskdsl.api.recognition.bands import Pairs
from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.base.libraries import missing

Predicate = Callable[[Any, Any, Any, Any], Any]
CHUNK = 1 << 20
"""The most pairs in one call of a function."""


def evaluated(function: Predicate, size: tuple[int, int, int, int]) -> Pairs:
    """The function over all pairs, bool [batch, heads, queries, keys], in chunks of rows. Raises `NotPairs`."""
    if min(size) < 1:
        raise AttnError(errors.NotPairs(found=f"has the shape {size}"))
    pairs = np.empty(size, dtype=bool)
    step = max(1, CHUNK // size[3])
    for entry, head in np.ndindex(size[:2]):
        for start in range(0, size[2], step):
            rows = range(start, min(start + step, size[2]))
            pairs[entry, head, rows.start : rows.stop] = _some_rows(function, entry, head, rows, size[3])
    return pairs


def _some_rows(function: Predicate, entry: int, head: int, rows: range, keys: int) -> Pairs:
    try:
        import torch  # start-up time
    except ImportError as error:
        raise missing(error, "a mask function of FlexAttention", "torch") from error
    try:
        indices = torch.arange(rows.start, rows.stop)[:, None], torch.arange(keys)[None, :]
        result = torch.as_tensor(function(torch.tensor(entry), torch.tensor(head), *indices))
        pairs = result.broadcast_to(len(rows), keys).cpu().numpy()
    except Exception:  # a function written for numbers, with `and`, `if` or `math`, may raise anything
        return _pair_by_pair(function, entry, head, rows, keys)
    if not np.isin(pairs, (0, 1)).all():
        raise AttnError(errors.NotPairs(found=f"holds {pairs[~np.isin(pairs, (0, 1))][0]}"))
    return np.asarray(pairs, dtype=bool)


def _pair_by_pair(function: Predicate, entry: int, head: int, rows: range, keys: int) -> Pairs:
    try:
        return np.array([[_truth(function(entry, head, query, key)) for key in range(keys)] for query in rows])
    except Exception as error:
        raise AttnError(errors.FailingPredicate(kind=type(error).__name__, text=str(error))) from error


def _truth(value: Any) -> bool:
    """The result for one pair as a bool. Raises ValueError if it is none."""
    if value not in (0, 1):
        raise ValueError(f"{shown(value)} is no boolean")
    return bool(value)
