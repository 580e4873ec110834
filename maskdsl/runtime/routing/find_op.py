"""The operators `maskdsl::find` and `maskdsl::find_part`: routed inputs from q and k, without gradients.

`find` serves calls with all queries, `find_part` partial calls.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskdsl.ir.expressions import Side
from maskdsl.runtime.base.validate import check_inputs, check_sizes, check_tensors, check_values
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.compiled.compiled_mask import find as find_compiled
from maskdsl.runtime.decode.paging import CallPositions, all_keys, checked_mask, normalized, room
from maskdsl.runtime.kernels.call_queries import Queries
from maskdsl.runtime.kernels.key_summaries import sum_type
from maskdsl.runtime.torch_ops.attention_op import LIBRARY
from maskdsl.runtime.torch_ops.gather_ops import entry_by_entry


def with_routed(handle: str, q: Tensor, k: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """All inputs of a mask with routes: the given ones, then the routed ones."""
    return [*inputs, *_FIND(q, k, inputs, handle)]


def find(q: Tensor, k: Tensor, inputs: Sequence[Tensor] | None, handle: str) -> list[Tensor]:
    """The kernel of `maskdsl::find`."""
    check_tensors(q, k, k, "declared")
    inputs = inputs or ()
    compiled = find_compiled(handle).bound(q.shape[2], k.shape[2])
    check_sizes(compiled.plan, q, k, k)
    check_inputs(compiled.plan.mask.passed, inputs, q)
    check_values(compiled.plan.mask.passed, inputs)
    if not compiled.plan.mask.routed:  # as may be where lengths follow tensors
        return []
    kernel, by_kernels = compiled.default_kernel, compiled.kernel(q, k).backend.finds_routes
    values = kernel.values(inputs, q.device)
    q, k = (kernel.all_tokens(side, x, values) for side, x in ((Side.QUERY, q), (Side.KEY, k)))
    return compiled.route_finder.find(q, k, inputs, by_kernels)


def _fake_find(q: Tensor, k: Tensor, inputs: Sequence[Tensor], handle: str) -> list[Tensor]:
    # `int` fixes symbolic lengths: the sizes of the tables are no simple functions of them.
    return find_compiled(handle).bound(int(q.shape[2]), int(k.shape[2])).route_finder.blank(q)


# Partial calls


def with_partial_routed(
    handle: str, q: Tensor, k: Tensor, inputs: list[Tensor], positions: CallPositions
) -> list[Tensor]:
    """All inputs in `Bound.for_partial_calls` of a mask with routes: the given ones, then the routed ones."""
    return [*inputs, *_FIND_IN_PARTIAL_CALL(q, k, inputs, *positions, handle)]


def find_in_partial_call(q: Tensor, k: Tensor, inputs: Sequence[Tensor] | None, *others: Any) -> list[Tensor]:
    """The kernel of `maskdsl::find_part`."""
    *fields, handle = others
    positions, inputs = CallPositions(*fields), inputs or ()
    compiled = checked_mask(handle, q, k, k, positions)
    check_inputs(compiled.plan.mask.passed, inputs, q)
    check_values(compiled.plan.mask.passed, inputs)
    if not compiled.plan.mask.routed:
        return []
    starts, lengths, table = normalized(compiled, q, k, positions)
    return partial_routed(
        compiled, q, *all_keys(compiled, k, lengths, table, inputs), inputs, all_queries(compiled, q, starts, lengths)
    )


def all_queries(compiled: Bound, q: Tensor, starts: Tensor, lengths: Tensor) -> Queries:
    """The queries of a call in which every row of q is one. In self-attention as many queries exist as keys."""
    mask = compiled.plan.mask
    totals = lengths if mask.is_layer else torch.full_like(lengths, mask.queries.length)
    return Queries(starts, torch.full_like(starts, q.shape[2]), totals)


def partial_routed(
    compiled: Bound, q: Tensor, k: Tensor, present: Tensor, inputs: Sequence[Tensor], queries: Queries
) -> list[Tensor]:
    """The routed inputs of a partial call.

    k is [batch, key heads, keys, dim], zeros for keys that are not `present`, bool [batch, keys].
    """
    finder = compiled.partial_route_finder
    summaries = finder.summaries()
    positions = torch.arange(k.shape[2], device=k.device).expand_as(present)
    summaries.add(k.detach().to(sum_type(k)), positions, present, finder.values(len(q), q.device, inputs))
    return finder.find(q, queries, summaries, k.shape[2], lambda: k, inputs)


def _fake_find_in_partial_call(q: Tensor, k: Tensor, inputs: Sequence[Tensor], *others: Any) -> list[Tensor]:
    *fields, handle = others
    keys = int(room(k, CallPositions(*fields)))
    compiled = find_compiled(handle).bound(int(q.shape[2]), keys)
    return compiled.partial_route_finder.blank(q) if compiled.plan.mask.routed else []


LIBRARY.define("find(Tensor q, Tensor k, Tensor[] inputs, str handle) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,))
_FIND = torch.ops.maskdsl.find.default
LIBRARY.impl("find", find, "CompositeExplicitAutograd")
LIBRARY.impl("find", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake("maskdsl::find", _fake_find, lib=LIBRARY)
torch.library.register_vmap("maskdsl::find", entry_by_entry(_FIND))

LIBRARY.define(
    "find_part(Tensor q, Tensor k, Tensor[] inputs, Tensor query_starts, Tensor? key_lengths, Tensor? page_table,"
    " int? page_size, str handle) -> Tensor[]",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_FIND_IN_PARTIAL_CALL = torch.ops.maskdsl.find_part.default
LIBRARY.impl("find_part", find_in_partial_call, "CompositeExplicitAutograd")
LIBRARY.impl("find_part", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake("maskdsl::find_part", _fake_find_in_partial_call, lib=LIBRARY)
torch.library.register_vmap("maskdsl::find_part", entry_by_entry(_FIND_IN_PARTIAL_CALL))
