"""Evaluates mask functions over all pairs: FlexAttention's `mask_mod`, or plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from maskdsl.api.recognition.bands import Pairs
from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.base.libraries import missing

if TYPE_CHECKING:
    from torch import Tensor

Predicate = Callable[[Any, Any, Any, Any], Any]
CHUNK = 1 << 20
"""The most pairs in one call of a function."""


def evaluated(function: Predicate, size: tuple[int, int, int, int]) -> Pairs:
    """The function over all pairs, bool [batch, heads, queries, keys], in chunks of rows.

    Raises `AttnError` if the function fails, or returns anything but booleans.
    """
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
    torch = _torch()
    for way in (_mapped, _broadcast):
        try:
            result = way(function, entry, head, rows, keys)
        except Exception:  # a function written for numbers, with `and`, `if` or `math`, may raise anything
            continue
        if result.dtype != torch.bool:
            raise AttnError(errors.NotBoolean(found=f"{result.dtype}".removeprefix("torch.")))
        pairs: Pairs = result.cpu().numpy()
        return pairs
    return _pair_by_pair(function, entry, head, rows, keys)


def _torch() -> Any:
    """The module. Raises `AttnError` where it cannot be imported."""
    try:
        import torch  # start-up time
    except ImportError as error:
        raise missing(error, "a mask function of FlexAttention", "torch") from error
    return torch


def _mapped(function: Predicate, entry: int, head: int, rows: range, keys: int) -> Tensor:
    """Called as FlexAttention calls it: for one pair, under `vmap`."""
    torch = _torch()

    def one(query: Tensor, key: Tensor) -> Any:
        return torch.as_tensor(function(torch.tensor(entry), torch.tensor(head), query, key))

    all_pairs = torch.vmap(torch.vmap(one, (None, 0)), (0, None))
    result: Tensor = all_pairs(torch.arange(rows.start, rows.stop), torch.arange(keys))
    return result.reshape(len(rows), keys)


def _broadcast(function: Predicate, entry: int, head: int, rows: range, keys: int) -> Tensor:
    """Called once with tensors that broadcast, which NumPy arrays can be indexed by."""
    torch = _torch()
    indices = torch.arange(rows.start, rows.stop)[:, None], torch.arange(keys)[None, :]
    value = torch.as_tensor(function(torch.tensor(entry), torch.tensor(head), *indices))
    result: Tensor = value.broadcast_to(len(rows), keys)
    return result


def _pair_by_pair(function: Predicate, entry: int, head: int, rows: range, keys: int) -> Pairs:
    """Called for each pair of plain integers."""
    try:
        values = [[function(entry, head, query, key) for key in range(keys)] for query in rows]
        pairs = np.array([[bool(value) for value in row] for row in values])
    except Exception as error:
        raise AttnError(errors.FailingPredicate(kind=type(error).__name__, text=str(error))) from error
    odd = [value for row in values for value in row if not _is_boolean(value)]
    if odd:
        raise AttnError(errors.NotBoolean(found=shown(odd[0])))
    return pairs


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) in (np.dtype(bool), _torch().bool)
