"""Attention of a few queries over gathered keys, on a CPU, without gradients: reads only keys that some query attends.

The keys to gather follow from the relation of all pairs, which costs little for a few queries.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from maskdsl.ir.expressions import Side
from maskdsl.ir.rewrites.chunk import PRESENT
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.compiled_mask import DerivedMask
from maskdsl.runtime.kernels.grouped_tokens import at

MOST_PAIRS = 2**22
"""The most pairs (batch x heads x queries x keys) whose relation is evaluated at once."""


def attend_gathered(
    derived: DerivedMask, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp of a chunk; `values` are its inputs. k and v are pages if there is a `table`."""
    compiled, chunk = derived.compiled, derived.gathered
    names, module = compiled.plan.input_identifiers, compiled.dense_kernel.module
    inputs = {names[each.name]: as_value(each, values[each.name]) for each in compiled.plan.mask.inputs}
    attends = module.attended(q, chunk.keys, inputs)[1]
    positions, real = _attended_keys(attends, k.shape[1])
    by_head = positions.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    for name in (PRESENT, *(each.declared.name for each in chunk.values if each.leaf.side is Side.KEY)):
        inputs[names[name]] = at(inputs[names[name]], by_head)
    inputs[names[PRESENT]] = inputs[names[PRESENT]] & real.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    out, lse = module.attention(q, *(_rows(x, positions, table) for x in (k, v)), inputs)
    return out, lse


def _attended_keys(attends: Tensor, key_heads: int) -> tuple[Tensor, Tensor]:
    """Positions of the keys that some query attends, int64 [batch, key heads, most], and which are not padding, bool.

    `attends` is bool [batch, heads, queries, keys].
    """
    batch, *_, count = attends.shape
    wanted = attends.reshape(batch, key_heads, -1, count).any(dim=2)
    counts = wanted.sum(dim=2, keepdim=True)
    most = max(1, int(counts.max()))
    index = (wanted.cumsum(dim=2) - 1).masked_fill(~wanted, most)
    positions = index.new_zeros(batch, key_heads, most + 1)
    positions.scatter_(2, index, torch.arange(count).expand_as(index))
    return positions[..., :most], torch.arange(most) < counts


def _rows(x: Tensor, positions: Tensor, table: Tensor | None) -> Tensor:
    """Keys or values at positions [batch, key heads, n]: [batch, key heads, n, dim]."""
    heads = torch.arange(x.shape[1])[:, None]
    if table is None:
        return x[torch.arange(len(x))[:, None, None], heads, positions]
    pages = at(table.long()[:, None], positions // x.shape[2])
    return x[pages.clamp(min=0), heads, positions % x.shape[2]]
