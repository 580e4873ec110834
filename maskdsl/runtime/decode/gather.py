"""Attention of a few queries on a CPU, without gradients: reads only keys that some query attends.

Which these are follows from the relation of all pairs, which costs little for a few queries. Most often they follow one
another and are read where they lie; else they are gathered.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskdsl.ir.expressions import Side
from maskdsl.ir.rewrites.chunk import PRESENT
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.compiled.compiled_mask import DerivedMask
from maskdsl.runtime.kernels.grouped_tokens import at

MOST_PAIRS = 2**22
"""The most pairs (batch x heads x queries x keys) whose relation is evaluated at once."""


def attend_gathered(
    derived: DerivedMask,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    values: Mapping[str, Tensor],
    first: int,
) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp of a chunk against the keys from `first` on; `values` are its inputs.

    k and v have all keys; they are pages if there is a `table`.
    """
    compiled, chunk = derived.compiled, derived.gathered
    names, module = compiled.plan.input_identifiers, compiled.dense_kernel.module
    inputs = {names[each.name]: as_value(each, values[each.name]) for each in compiled.plan.mask.inputs}
    of_keys = {names[each.declared.name] for each in chunk.values if each.leaf.side is Side.KEY} | {names[PRESENT]}
    wanted = _wanted(module.attended(q, chunk.keys, inputs)[1], k.shape[1])
    span = _span(wanted)
    if span is not None:
        inputs |= {name: inputs[name][..., span] for name in of_keys if inputs[name].shape[-1] > 1}
        there = slice(first + span.start, first + span.stop)
        pages = None if table is None else _live_pages(table, wanted[..., span], there, k.shape[2])
        k, v = (_run(x, there, pages) for x in (k, v))
    else:
        positions, real = _attended_keys(wanted.expand(len(q), k.shape[1], -1))
        by_head = positions.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        inputs |= {name: at(inputs[name], by_head) for name in of_keys}
        inputs[names[PRESENT]] &= real.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        k, v = (_rows(x, first + positions, table) for x in (k, v))
    k, v = (x.to(q.dtype) for x in (k, v))
    out, lse = module.attention(q, k, v, inputs, clean=False)
    return (out, lse) if bool(out.isfinite().all()) else module.attention(q, k, v, inputs)


def _wanted(attends: Tensor, key_heads: int) -> Tensor:
    """The keys that some query attends, bool [batch or 1, key heads or 1, keys].

    `attends` is bool [batch, heads, queries, keys]: one entry or head stands for all where it is expanded.
    """
    for axis in (0, 1, 2):
        if attends.stride(axis) == 0:
            attends = attends.narrow(axis, 0, 1)
    if attends.shape[1] == 1:
        return attends.any(dim=2)
    batch, _, _, count = attends.shape
    return attends.reshape(batch, key_heads, -1, count).any(dim=2)


def _span(wanted: Tensor) -> slice | None:
    """The keys from the first to the last that is wanted; None if fewer than half of these are."""
    there = wanted.flatten(0, 1).any(dim=0).nonzero()
    if not len(there):
        return slice(0, 1)
    span = slice(int(there[0]), int(there[-1]) + 1)
    inside = wanted[..., span]
    return span if 2 * int(inside.sum()) >= inside.numel() else None


def _attended_keys(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the wanted keys, int64 [batch, key heads, most], and which do not repeat the first, bool.

    `wanted` is bool [batch, key heads, keys].
    """
    counts = wanted.sum(dim=2, keepdim=True)
    most = max(1, int(counts.max()))
    index = (wanted.cumsum(dim=2) - 1).masked_fill(~wanted, most)
    positions = index.new_zeros(*wanted.shape[:2], most + 1)
    positions.scatter_(2, index, torch.arange(wanted.shape[2]).expand_as(index))
    real = torch.arange(most) < counts
    return torch.where(real, positions[..., :most], positions[..., :1]), real


def _run(x: Tensor, span: slice, pages: Tensor | None) -> Tensor:
    """The keys or values of a span, [batch, key heads, n, dim]: a view, or copies of whole pages [batch, n]."""
    if pages is None:
        return x[:, :, span]
    taken = x[pages[:, None], torch.arange(x.shape[1])[:, None]].flatten(2, 3)
    before = span.start % x.shape[2]
    return taken[:, :, before : before + span.stop - span.start]


def _live_pages(table: Tensor, wanted: Tensor, span: slice, size: int) -> Tensor:
    """The pages of a span, int64 [batch, n]; in place of each in which no key is wanted, one in which some are."""
    pages = table[:, span.start // size : -(-span.stop // size)].long().clamp(min=0)
    keys = pad(wanted.any(dim=1), (span.start % size, -span.stop % size))
    alive = keys.reshape(len(keys), -1, size).any(dim=2).expand(len(pages), -1)
    first = alive.to(torch.int8).argmax(dim=1, keepdim=True)
    return torch.where(alive, pages, pages.gather(1, first))


def _rows(x: Tensor, positions: Tensor, table: Tensor | None) -> Tensor:
    """Keys or values at positions [batch, key heads, n]: [batch, key heads, n, dim]."""
    heads = torch.arange(x.shape[1])[:, None]
    if table is None:
        return x[torch.arange(len(x))[:, None, None], heads, positions]
    pages = at(table.long()[:, None], positions // x.shape[2])
    return x[pages.clamp(min=0), heads, positions % x.shape[2]]
