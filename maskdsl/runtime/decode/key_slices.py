"""Calls that multiply keys with many rows of a table: some keys at a time, and their partial results together.

A slice of the keys is a call of its own, with a log-sum-exp. So the products of keys take memory linear in the tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskdsl.ir.rewrites.chunk import PRESENT, Chunk
from maskdsl.runtime.compiled_mask import Bound, find, register
from maskdsl.runtime.decode.decode_call import attend_derived, chunk_values
from maskdsl.runtime.torch_ops.gather_ops import Attend, define
from maskdsl.runtime.torch_ops.masses import attend_masses
from maskdsl.runtime.torch_ops.product_op import blank_masses


def attend_slices(
    compiled: Bound, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], queries: int, keys: int
) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp of a call with all tokens, that many queries and keys at a time.

    `inputs` are those known before products. The call has been checked.
    """
    register(compiled)
    results = []
    for number, chunk in enumerate(torch.split(q, queries, dim=2)):
        starts = torch.full((len(q),), number * queries, dtype=torch.int32, device=q.device)
        slices = zip(torch.split(k, keys, dim=2), torch.split(v, keys, dim=2), strict=True)
        partial = [
            _SLICE(chunk, *each, inputs, [starts], first * keys, compiled.handle) for first, each in enumerate(slices)
        ]
        results.append(_together(partial))
    outs, lses = zip(*results, strict=True)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)


def _together(partial: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The results over all keys, from those over each slice of them."""
    lses = torch.stack([lse for _, lse in partial])
    most = lses.detach().amax(dim=0)
    most = most.masked_fill(most.isinf() & (most < 0), 0)
    shares = (lses - most).exp()
    total = shares.sum(dim=0)
    some = total.masked_fill(total == 0, 1)
    outs = (share[..., None] * out for share, (out, _) in zip(shares / some, partial, strict=True))
    lse = (some.log() + most).masked_fill(total == 0, -torch.inf)
    return sum(outs, torch.zeros((), device=lse.device, dtype=lse.dtype)).to(partial[0][0].dtype), lse


def _slice(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    first_key: int | None,
    handle: str,
) -> tuple[Tensor, Tensor]:
    """The `Gather` of `maskdsl::slice`: queries from a position on, against keys from `first_key` on.

    Sinks count in the first slice alone.
    """
    compiled, (starts,) = find(handle).bound(q.shape[2], k.shape[2]), positions
    assert starts is not None and first_key is not None
    mask, has_sinks = compiled.plan.mask, first_key == 0
    values = dict(zip((each.name for each in mask.unmultiplied), inputs, strict=True))
    rows = starts.long()[:, None] + torch.arange(q.shape[2], device=q.device)
    products = compiled.product_finder.find(q, k, v, values, rows, first_key)
    values |= products.tables
    kernels = compiled.sliced(has_sinks)
    out, lse = _in_slice(attend, kernels, (products.q, products.k, products.v), values, starts, first_key)
    for number, term in enumerate(mask.values):
        weighed = compiled.sliced(has_sinks, number)
        values[term.name] = blank_masses(products, out, number)
        ones = products.k.new_ones(*products.k.shape[:3], 1)
        counted = attend_masses(term.name, lse.detach())
        masses, _ = _in_slice(counted, weighed, (products.q, products.k, ones), values, starts, first_key)
        out = compiled.product_finder.with_rows(out, masses, products.rows[number])
    return out, lse


def _in_slice(
    attend: Attend,
    kernels: Bound,
    tensors: tuple[Tensor, Tensor, Tensor],
    values: dict[str, Tensor],
    starts: Tensor,
    first_key: int,
) -> tuple[Tensor, Tensor]:
    """Attention of a mask made by `products_by_slice`, whose last two inputs are the first key and the first query."""
    q, k, v = tensors
    *others, key, query = (each.name for each in kernels.plan.mask.inputs)
    given = {name: values[name] for name in others} | {key: torch.full_like(starts, first_key), query: starts}
    derived = kernels.derived(Chunk, q.shape[2], k.shape[2])
    present = torch.ones(len(q), k.shape[2], dtype=torch.bool, device=q.device)
    given |= {**chunk_values(derived, given, starts, first_key), PRESENT: present}
    return attend_derived(attend, derived, q, k, v, given)


_SLICE = define("slice", _slice)
