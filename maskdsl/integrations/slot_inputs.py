"""Inputs as callers of a model give them, by the slots of a batch, arranged by the tokens of a call.

A call that has padding or a cache numbers its tokens apart from slots: see `positions.py`. Inputs have to follow.
Imports torch only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.functional import pad

from maskdsl import AttnError
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Compiled
from maskdsl.integrations.positions import Positions

BIAS = "position_bias"
"""The input that models give themselves, by the queries and keys of a call."""


def inputs_of_tokens(
    attention: Compiled, given: Mapping[str, Any], keys: int, positions: Positions | None
) -> dict[str, Any]:
    """The inputs of self-attention, with entries for the tokens of a call in place of entries for slots.

    Entries for tokens that are not there yet are left out, and dimensions of one entry stay as they are. Raises
    `ShortInput` if slots of the call have no entry, and `NoBatchInput` if batch entries have their tokens in different
    slots, and the input has no batch dimension.
    """
    arranged = dict(given)
    for declared in attention.declared_inputs:
        x = given.get(declared.name)
        if x is None or declared.sparse or len(declared.dimensions) != (x := torch.as_tensor(x)).dim():
            continue
        if declared.name == BIAS:
            arranged[BIAS] = x if positions is None else _bias_of_tokens(declared, x, positions)
            continue
        for axis, dimension in enumerate(declared.dimensions):
            if dimension.kind == "tokens" and x.shape[axis] != 1:
                x = _along(declared, x, axis, dimension.size, keys, positions)
        arranged[declared.name] = x
    return arranged


def _along(declared: Any, x: Tensor, axis: int, size: int | None, keys: int, positions: Positions | None) -> Tensor:
    """An input with the entries of one dimension arranged: `size` of them, or as many as the call has tokens."""
    if positions is None:
        return _of_length(x, axis, size or keys) if x.shape[axis] >= keys else x
    slots = positions.of_batch()
    if not is_compiling() and x.shape[axis] <= int(slots.max()):
        needed = int(slots.max()) + 1
        raise AttnError(errors.ShortInput(name=declared.name, found=x.shape[axis], needed=needed, span=declared.span))
    if "batch" in declared.kinds:
        batch = declared.kinds.index("batch")
        sides = {batch: len(slots), axis: slots.shape[1]}
        x = x.expand([len(slots) if each == batch else -1 for each in range(x.dim())])
        index = (slots if batch < axis else slots.T).reshape([sides.get(each, 1) for each in range(x.dim())])
        x = x.take_along_dim(index, axis)
    else:
        x = x.index_select(axis, _shared(declared, slots)[0])
    return _of_length(x, axis, size or x.shape[axis])


def _bias_of_tokens(declared: Any, bias: Tensor, positions: Positions) -> Tensor:
    """A bias [1 or batch, heads, queries, keys] of a call as one of its tokens [1 or batch, heads, tokens, tokens]."""
    slots, order, start = positions.slots.clamp(min=0), positions.order, positions.start
    if "batch" not in declared.kinds:
        slots, order, start = (_shared(declared, each) for each in (slots, order, start))
    length = declared.dimensions[3].size or slots.shape[1]
    bias = bias.expand(len(slots), -1, -1, -1).take_along_dim(slots[:, None, None], 3)
    bias = _of_length(bias, 3, length)
    if order.shape[1] == 1:  # decoding: a row for every query is none in memory
        return bias.expand(-1, -1, length, -1)
    query = (torch.arange(slots.shape[1], device=bias.device) - start[:, None]).clamp(0, order.shape[1] - 1)
    rows = order.take_along_dim(query, 1)
    return _of_length(bias.take_along_dim(rows[:, None, :, None], 2), 2, length)


def _shared(declared: Any, numbers: Tensor) -> Tensor:
    """The first of some rows, one per batch entry, which are all alike. Raises `NoBatchInput` if they are not."""
    if len(numbers) > 1 and (is_compiling() or not bool((numbers == numbers[:1]).all())):
        raise AttnError(errors.NoBatchInput(name=declared.name, span=declared.span))
    return numbers[:1]


def _of_length(x: Tensor, axis: int, length: int) -> Tensor:
    """The first entries along an axis, or these and zeros behind them."""
    x = x.narrow(axis, 0, min(length, x.shape[axis]))
    missing = length - x.shape[axis]
    return pad(x, [0, 0] * (x.dim() - 1 - axis) + [0, missing]) if missing else x
