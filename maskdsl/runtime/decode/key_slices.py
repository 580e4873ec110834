"""Calls that multiply keys with many rows of a table: some keys at a time, and their partial results together.

A slice of the keys is a call of its own, with a log-sum-exp. So the products of keys take memory linear in the tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskdsl.ir.rewrites.chunk import PRESENT, Chunk
from maskdsl.runtime.base.kept import in_no_mode
from maskdsl.runtime.compiled.compiled_mask import Bound, find, register
from maskdsl.runtime.decode.decode_call import attend_derived, chunk_values, ready
from maskdsl.runtime.decode.paging import CallPositions, gathered_pages, normalized, present_keys
from maskdsl.runtime.decode.regrouped import merge_partials
from maskdsl.runtime.torch_ops.gather_ops import Attend, define
from maskdsl.runtime.torch_ops.masses import attend_masses
from maskdsl.runtime.torch_ops.product_op import blank_masses


def attend_slices(
    compiled: Bound,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    steps: tuple[int, int],
    positions: CallPositions | None = None,
) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp of a call, some queries and keys at a time, as many as `steps` say.

    `inputs` are those known before products. A call with all tokens has no positions, and has been checked.
    """
    register(compiled)
    starts, present = torch.zeros(len(q), dtype=torch.int32, device=q.device), None
    if positions is not None:
        with in_no_mode():
            given = [x.detach() for x in inputs]
            ready(compiled.handle, q.detach(), k.detach(), v.detach(), given, positions)
        starts, lengths, table = normalized(compiled, q, k, positions)
        present = present_keys(compiled, k, lengths, table)
        k, v = (gathered_pages(x, table, present) for x in (k, v))
    queries, keys = steps
    slices = [torch.split(x, keys, dim=2) for x in (k, v)]
    there = [None] * len(slices[0]) if present is None else torch.split(present, keys, dim=1)
    results = []
    for row, chunk in enumerate(torch.split(q, queries, dim=2)):
        first = starts + row * queries
        partials = [
            _SLICE(chunk, *each, inputs, [first, exists], column * keys, compiled.handle)
            for column, (*each, exists) in enumerate(zip(*slices, there, strict=True))
        ]
        results.append(merge_partials(partials))
    outs, lses = zip(*results, strict=True)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)


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

    `positions` are those of the first queries, and which of the keys exist, or None for all. Sinks count in the first
    slice alone.
    """
    compiled, (starts, present) = find(handle).bound(q.shape[2], k.shape[2]), positions
    assert starts is not None and first_key is not None
    if present is None:
        present = torch.ones(len(q), k.shape[2], dtype=torch.bool, device=q.device)
    mask, has_sinks = compiled.plan.mask, first_key == 0
    values = dict(zip((each.name for each in mask.unmultiplied), inputs, strict=True))
    rows = starts.long()[:, None] + torch.arange(q.shape[2], device=q.device)
    products = compiled.product_finder.find(q, k, v, values, rows, first_key)
    values |= products.tables
    kernels = compiled.sliced(has_sinks)
    at = starts, first_key, present
    out, lse = _in_slice(attend, kernels, (products.q, products.k, products.v), values, at)
    for number, term in enumerate(mask.values):
        weighed = compiled.sliced(has_sinks, number)
        values[term.name] = blank_masses(products, out, number)
        ones = products.k.new_ones(*products.k.shape[:3], 1)
        counted = attend_masses(term.name, lse.detach())
        masses, _ = _in_slice(counted, weighed, (products.q, products.k, ones), values, at)
        out = compiled.product_finder.with_rows(out, masses, products.rows[number])
    return out, lse


def _in_slice(
    attend: Attend,
    kernels: Bound,
    tensors: tuple[Tensor, Tensor, Tensor],
    values: dict[str, Tensor],
    at: tuple[Tensor, int, Tensor],
) -> tuple[Tensor, Tensor]:
    """Attention of a mask made by `products_by_slice`, whose last two inputs are the first key and the first query.

    `at` are the first queries, the first key, and which keys exist.
    """
    (q, k, v), (starts, first_key, present) = tensors, at
    *others, key, query = (each.name for each in kernels.plan.mask.inputs)
    given = {name: values[name] for name in others} | {key: torch.full_like(starts, first_key), query: starts}
    derived = kernels.derived(Chunk, q.shape[2], k.shape[2])
    given |= {**chunk_values(derived, given, starts, first_key), PRESENT: present}
    return attend_derived(attend, derived, q, k, v, given)


_SLICE = define("slice", _slice)
