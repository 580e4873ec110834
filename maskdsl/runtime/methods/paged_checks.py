"""Checks a call of packed queries over pages. Every mistake is a declared error."""

from collections.abc import Iterator

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls.lengths import NotThreeAxes
from maskdsl.base.errors.calls.serving import FewerKeys, ForwardOnly, PagesOfSequences
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.runtime.base.validate import check_given, check_tensors, integers_of, wrong_heads
from maskdsl.runtime.calls.varlen import check_starts, malformed_ends, misplaced_ends
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode.paging import absent_keys, is_on_host, malformed
from maskdsl.runtime.methods.paged_call import PagedCall
from maskdsl.runtime.torch_ops.attention_op import needs_recording


def of_pages(
    key_lengths: object, page_table: object, cu_seqlens_k: object, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The lengths and the table that the arguments of a call give. Raises `AttnError` if one of them is missing."""
    if cu_seqlens_k is not None:
        raise AttnError(PagesOfSequences(missing="cu_seqlens_k", found="given"))
    for name, value in (("key_lengths", key_lengths), ("page_table", page_table)):
        if value is None:
            raise AttnError(PagesOfSequences(missing=name, found="not given"))
    return integers_of("key_lengths", key_lengths, device), integers_of("page_table", page_table, device)


def check_tensors_of_pages(call: PagedCall) -> None:
    """Raises for shapes, types and devices, and where a gradient is asked."""
    if call.q.dim() != 3:
        raise AttnError(NotThreeAxes(name="q", shape=tuple(call.q.shape)))
    errors: list[Diagnostic] = [*malformed_ends("cu_seqlens_q", call.ends, len(call.ends), call.q)]
    if errors:
        raise AttnError(*errors)
    if call.k.dim() == call.v.dim() == 4:
        entries, k, v = call.heads_first()
    else:
        entries, k, v = call.q[None], call.k, call.v
    check_tensors(entries, k, v, "declared", paged=True, mixed=True)
    errors = [*malformed(entries, k, call.positions)]
    if errors:
        raise AttnError(*errors)
    signature = call.attention._signature
    sizes = {DimensionKind.BATCH: len(call.ends) - 1, DimensionKind.DIM: call.q.shape[2]}
    check_given(signature, [call.inputs[each.name] for each in signature.declared], sizes)
    named = {"q": call.q, "k": call.k, "v": call.v, **call.inputs}
    for name, x in named.items():
        if isinstance(x, Tensor) and needs_recording(x):
            hint = "call it under `torch.no_grad()`; for training give the keys themselves, and `cu_seqlens_k`"
            raise AttnError(ForwardOnly(what="`varlen` over pages", name=name, hint=hint))


def check_positions(call: PagedCall, compiled: Bound) -> None:
    """Raises for heads, and for positions, lengths and pages, as far as it shows without waiting for a GPU."""
    (entries, k, _), mask = call.heads_first(), compiled.plan.mask
    errors: list[Diagnostic] = [*wrong_heads(compiled.plan, entries, k)]
    if is_on_host(call.ends):
        errors += misplaced_ends("cu_seqlens_q", call.ends, len(call.q), mask.queries.length)
        errors = errors or [*absent_keys(compiled, k, call.positions)] or [*_fewer_keys(call, mask.is_layer)]
    if errors:
        raise AttnError(*errors)
    if call.starts is not None:
        check_starts(compiled, call.starts, call.ends)


def _fewer_keys(call: PagedCall, is_layer: bool) -> Iterator[Diagnostic]:
    """The error of a sequence whose queries cannot all be its last tokens."""
    counts = torch.diff(call.ends.long())
    short = ((counts > call.key_lengths) & (counts > 0)).nonzero()
    if is_layer and call.starts is None and len(short):
        number = int(short[0])
        yield FewerKeys(number=number, queries=int(counts[number]), keys=int(call.key_lengths[number]))
