"""Partial calls: some queries, at any position, against the first keys of a cache. Decoding, chunked prefill, paging.

Without gradients a partial call is the operator `maskdsl::decode`, which runs the split-KV kernel where Triton serves,
and elsewhere a mask over the chunk (`ir/rewrites/chunk.py`). With gradients it is `maskdsl::chunk`, always the latter.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maskdsl.ir.expressions import Side
from maskdsl.ir.rewrites.chunk import PRESENT, Chunk
from maskdsl.runtime.base.input_tensors import as_given
from maskdsl.runtime.base.processes import check_whole
from maskdsl.runtime.base.token_values import token_values
from maskdsl.runtime.base.validate import check_inputs, check_values
from maskdsl.runtime.compiled.compiled_mask import Bound, DerivedMask
from maskdsl.runtime.decode.gather import MOST_PAIRS, attend_gathered
from maskdsl.runtime.decode.live_span import live_span
from maskdsl.runtime.decode.multiplied_call import MultipliedCall, given_inputs, multiplied
from maskdsl.runtime.decode.paging import (
    CallPositions,
    checked_mask,
    gathered_pages,
    most_keys,
    normalized,
    on_host,
    present_keys,
    room,
    with_pooled,
)
from maskdsl.runtime.decode.regrouped import two_passes
from maskdsl.runtime.kernels.dispatch import blank
from maskdsl.runtime.kernels.open_reads import CallTokens
from maskdsl.runtime.torch_ops.attention_op import LIBRARY, autocast, is_ordinary, needs_recording
from maskdsl.runtime.torch_ops.gather_ops import Attend, attention, define, entry_by_entry
from maskdsl.runtime.torch_ops.handle import Handle
from maskdsl.runtime.torch_ops.masses import attend_masses
from maskdsl.runtime.torch_ops.product_op import blank_masses


def attend(
    handle: Handle,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: CallPositions,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The output [batch, heads, queries, dim] and the log-sum-exp [batch, heads, queries] of a partial call.

    `inputs` are all inputs of the mask in `Bound.for_partial_calls`. Kernels that can write the output into `target`,
    shaped as it, do so in calls that torch does not trace. Raises `AttnError`.
    """
    if needs_recording(q, k, v, *inputs):
        *tensors, page_size = positions
        out, lse = _CHUNK(q, k, v, inputs, tensors, page_size, handle.in_graphs())
        return out, lse
    casts = torch._C._is_any_autocast_enabled()
    is_seen = torch.compiler.is_dynamo_compiling() or casts or not is_ordinary(q, k, v)
    if is_seen:
        out, lse = _DECODE(q, k, v, inputs, *positions, handle.in_graphs())
    else:
        out, lse = decode(q, k, v, inputs, *positions, handle.name, target=target)
    return out, lse


def ready(handle: str, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], positions: CallPositions) -> Bound:
    """Checks a partial call, as far as possible without waiting for a GPU, and returns the mask that computes it."""
    whole = checked_mask(handle, q, k, v, positions)
    compiled = whole.for_partial_calls
    declared = compiled.plan.mask.passed
    if declared or inputs:
        check_inputs(declared, inputs, q)
        check_values(declared, inputs)
    checks = whole.checks_reads and not whole.plan.mask.keys.is_pooled and positions.query_starts.device.type == "cpu"
    if checks and whole.open_reads.questions:
        given = inputs[: len(whole.plan.mask.passed)]
        whole.open_reads.check(given, len(q), tokens=lambda: _call_tokens(whole, q, k, positions))
    return compiled


def _call_tokens(compiled: Bound, q: Tensor, k: Tensor, positions: CallPositions) -> list[CallTokens]:
    """The tokens of each batch entry; no keys for an entry with missing pages."""
    starts, lengths, table = normalized(compiled, q, k, positions)
    present = present_keys(compiled, k, lengths, table).sum(dim=1)
    keys = present.masked_fill(present != lengths, 0)
    return [CallTokens(start, q.shape[2], count) for start, count in zip(starts.tolist(), keys.tolist(), strict=True)]


# Without gradients


def decode(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor] | None, *others: Any, target: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The kernel of `maskdsl::decode`."""
    *fields, handle = others
    positions, inputs = CallPositions(*fields), inputs or ()
    compiled = ready(handle, q, k, v, inputs, positions)
    check_whole(compiled.signature.pattern, compiled.signature.span)
    if 0 in (q.shape[0], q.shape[2], room(k, positions)):
        first = positions.query_starts.long().expand(len(q))[:, None, None]
        rows = (first + torch.arange(q.shape[2], device=q.device)).clamp(0, compiled.plan.mask.queries.length - 1)
        return compiled.kernel(q, v).without_keys(q, v, inputs, True, rows)
    if compiled.plan.mask.multiplies:
        call = multiplied(compiled, q, k, v, inputs, positions)
        results = decoded(call.compiled, call.q, call.k, call.v, call.inputs, call.positions, call.present)
        return _with_values(compiled, call, results)
    return decoded(compiled, q, k, v, inputs, positions, target=target)


def decoded(
    compiled: Bound,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: CallPositions,
    present: Tensor | None = None,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The results of a call without gradients that multiplies queries and keys.

    `present` is as in `_in_chunk`, `target` as in `attend`.
    """
    backend = compiled.kernel(q, v).backend
    if backend.decodes and not compiled.plan.mask.keys.is_pooled:
        return compiled.split_kernel.forward(q, k, v, inputs, *normalized(compiled, q, k, positions), target)
    if backend.takes_some_queries and present is None and not compiled.plan.mask.keys.is_pooled:
        where = on_host(compiled, q, k, positions)
        results = backend.some_queries(compiled.declared_call(backend, q, inputs), q, k, v, where, target)
        if results is not None:
            return results
    return _in_chunk(attention, compiled, q, k, v, inputs, positions, backend.gathers, present)


def _fake_decode(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return blank(q, v, True)


def _cast_decode(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Any:
    with torch.autocast(q.device.type, enabled=False):
        return _DECODE(*(autocast(x, q.device.type) for x in (q, k, v)), *others)


# As a mask over the chunk


def _chunk(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    page_size: int | None,
    handle: str,
) -> tuple[Tensor, Tensor]:
    """The `Gather` of `maskdsl::chunk`, for calls with gradients."""
    starts, lengths, table = positions
    assert starts is not None
    call = CallPositions(starts, lengths, table, page_size)
    compiled = ready(handle, q, k, v, inputs, call)
    if compiled.plan.mask.multiplies:
        moved = multiplied(compiled, q, k, v, inputs, call)
        tensors = moved.q, moved.k, moved.v, moved.inputs, moved.positions
        results = _in_chunk(attend, moved.compiled, *tensors, present=moved.present)
        return _with_values(compiled, moved, results)
    return _in_chunk(attend, compiled, q, k, v, inputs, call)


def _with_values(compiled: Bound, call: MultipliedCall, results: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The results with what pairs add to the output beside the values of keys."""
    out, lse = results
    for number, term in enumerate(compiled.plan.mask.values):
        weighed, masses = compiled.weighed(number, by_rows=True), blank_masses(call.products, out, number)
        inputs = given_inputs(weighed, {**call.values, term.name: masses}, call.inputs[-1])
        ones, attend = call.k.new_ones(*call.k.shape[:3], 1), attend_masses(term.name, lse.detach())
        masses, _ = _in_chunk(attend, weighed, call.q, call.k, ones, inputs, call.positions, present=call.present)
        out = compiled.product_finder.with_rows(out, masses, call.products.rows[number])
    return out, lse


def _in_chunk(
    attend: Attend,
    compiled: Bound,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: CallPositions,
    gathers: bool = False,
    present: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Computes a partial call by a mask over its chunk, on any backend, with gradients.

    `gathers` allows attention over gathered keys, which has no gradients. If k and v have all keys already, pooled ones
    included, `present` says which of them exist, bool [batch, keys].
    """
    starts, lengths, table = normalized(compiled, q, k, positions)
    pooled, first = compiled.plan.mask.keys.is_pooled, 0
    if present is not None:
        gathers = False
    else:
        whole = span = 0, most_keys(compiled, k, table)
        if gathers and q.device.type == "cpu":
            span = whole if pooled else live_span(compiled, starts.tolist(), q.shape[2], whole[1])
            gathers = 0 < q.shape[0] * q.shape[1] * q.shape[2] * span[1] <= MOST_PAIRS
        else:
            gathers = False
        first, _ = span = span if gathers else whole
        present = present_keys(compiled, k, lengths, table, span)
        if pooled or not gathers:
            k, v = (gathered_pages(x, table, present, q.dtype) for x in (k, v))
            table = None
        if pooled:
            (k, _), (v, present) = (with_pooled(compiled, x, present, inputs) for x in (k, v))
    derived = compiled.derived(Chunk, q.shape[2], present.shape[1])
    values = dict(zip((each.name for each in compiled.plan.mask.inputs), inputs, strict=True))
    values |= {**chunk_values(derived, values, starts, first), PRESENT: present}
    return (
        attend_gathered(derived, q, k, v, table, values, first)
        if gathers
        else attend_derived(attend, derived, q, k, v, values)
    )


def attend_derived(
    attend: Attend, derived: DerivedMask, q: Tensor, k: Tensor, v: Tensor, values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Attention of a derived mask, in two passes where these are possible; `values` are its inputs by name."""
    compiled = derived.compiled
    inputs = [values[name] for name in compiled.signature.inputs]
    passes = two_passes(compiled, compiled.kernel(q, v).backend)
    results = None if passes is None else passes.attend(q, k, v, inputs)
    return attend(q, k, v, inputs, compiled.handle) if results is None else results


def chunk_values(
    derived: DerivedMask, given: Mapping[str, Tensor], starts: Tensor, first_key: int = 0
) -> dict[str, Tensor]:
    """The inputs of the chunk's mask except `PRESENT`, by name, for the keys from `first_key` on.

    Gradients flow back to the given inputs.
    """
    chunk = derived.gathered
    positions = (starts.long()[:, None] + torch.arange(chunk.queries, device=starts.device))[:, None]
    values = {}
    for value in chunk.values:
        whole = token_values(chunk, value, given, starts.shape[0], starts.device, derived.kept)
        if value.leaf.side is Side.QUERY:
            taken = torch.take_along_dim(whole.expand(starts.shape[0], -1, -1), positions, dim=-1)
        else:
            taken = whole[..., first_key : first_key + chunk.keys]
        values[value.declared.name] = as_given(value.declared, taken)
    return values


LIBRARY.define(
    "decode(Tensor q, Tensor k, Tensor v, Tensor[] inputs, Tensor query_starts, Tensor? key_lengths,"
    " Tensor? page_table, int? page_size, str handle) -> (Tensor out, Tensor lse)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_DECODE = torch.ops.maskdsl.decode.default
LIBRARY.impl("decode", decode, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::decode", _fake_decode, lib=LIBRARY)
LIBRARY.impl("decode", _cast_decode, "AutocastCPU")
LIBRARY.impl("decode", _cast_decode, "AutocastCUDA")
torch.library.register_vmap("maskdsl::decode", entry_by_entry(_DECODE))
_CHUNK = define("chunk", _chunk)
