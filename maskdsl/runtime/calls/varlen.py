"""Attention over packed sequences of different lengths, as in FlashAttention: the operator `maskdsl::packed`."""

from collections.abc import Iterator, Sequence
from itertools import starmap

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls.lengths import (
    EndsOutOfOrder,
    LongSequence,
    NotIntegers,
    NotOneAnEntry,
    NotThreeAxes,
    PackedPooled,
    QueryStart,
    WrongEnds,
)
from maskdsl.base.errors.calls.pools import PooledQueriesPart
from maskdsl.base.errors.calls.vectors import MixedDevices
from maskdsl.ir.expressions import Side
from maskdsl.ir.rewrites.chunk import SEQUENCES, Packed
from maskdsl.runtime.base.input_tensors import as_given
from maskdsl.runtime.base.packed_tokens import first_queries, packed_tokens
from maskdsl.runtime.base.token_values import token_values
from maskdsl.runtime.base.validate import (
    INTEGER_TYPES,
    check_inputs,
    check_tensors,
    check_values,
    type_name,
    wrong_heads,
)
from maskdsl.runtime.compiled.compiled_mask import Bound, DerivedMask, find
from maskdsl.runtime.decode.decode_call import attend_derived
from maskdsl.runtime.decode.multiplied_call import given_inputs
from maskdsl.runtime.kernels.call_queries import Queries
from maskdsl.runtime.kernels.open_reads import CallTokens
from maskdsl.runtime.routing.find_op import partial_routed
from maskdsl.runtime.torch_ops.gather_ops import Attend, define
from maskdsl.runtime.torch_ops.masses import attend_masses
from maskdsl.runtime.torch_ops.product_op import blank_masses


def attend_packed(
    handle: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    query_start: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The output [1, heads, all queries, dim] and the log-sum-exp [1, heads, all queries]. See `Attention.varlen`."""
    flat = [NotThreeAxes(name=n, shape=tuple(x.shape)) for n, x in zip("qkv", (q, k, v), strict=True) if x.dim() != 3]
    if flat:
        raise AttnError(*flat)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out, lse = _PACKED(q, k, v, inputs, [cu_seqlens_q, cu_seqlens_k, query_start], None, handle)
    return out, lse


def _packed(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    page_size: int | None,
    handle: str,
) -> tuple[Tensor, Tensor]:
    """The `Gather` of `maskdsl::packed`: q, k and v are [1, heads, all tokens, dim], one entry for all sequences.

    `positions` are `cu_seqlens_q`, `cu_seqlens_k` and `query_start`; there are no pages.
    """
    cu_seqlens_q, cu_seqlens_k, query_start = positions
    assert cu_seqlens_q is not None and cu_seqlens_k is not None
    compiled = find(handle).bound_to_longest(cu_seqlens_q, cu_seqlens_k)
    _check(compiled, q, k, v, inputs, cu_seqlens_q, cu_seqlens_k)
    count, mask = len(cu_seqlens_q) - 1, compiled.plan.mask
    query_start = first_queries(mask, cu_seqlens_q, cu_seqlens_k, query_start)
    check_starts(compiled, query_start, cu_seqlens_q)
    if compiled.checks_reads and query_start.device.type == "cpu":
        numbers = [x.tolist() for x in (query_start, torch.diff(cu_seqlens_q), torch.diff(cu_seqlens_k))]
        compiled.open_reads.check(inputs, count, tokens=lambda: [*starmap(CallTokens, zip(*numbers, strict=True))])
    if mask.routed:
        inputs = [*inputs, *_routed_by_sequence(compiled, q, k, inputs, cu_seqlens_q, cu_seqlens_k, query_start)]
        compiled = compiled.for_partial_calls
        mask = compiled.plan.mask
    ends = cu_seqlens_q, cu_seqlens_k, query_start
    if mask.multiplies:
        return _multiplied(attend, compiled, q, k, v, inputs, *ends)
    return _by_sequence(attend, compiled, q, k, v, inputs, *ends)


def _by_sequence(
    attend: Attend,
    compiled: Bound,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    query_start: Tensor,
) -> tuple[Tensor, Tensor]:
    """Attention of packed sequences by a mask over all their tokens, of a checked call."""
    count, mask = len(cu_seqlens_q) - 1, compiled.plan.mask
    derived = compiled.derived(Packed, q.shape[2], k.shape[2], count)
    values = dict(zip((each.name for each in mask.inputs), inputs, strict=True))
    tokens_of = {}
    for side, ends, starts in ((Side.QUERY, cu_seqlens_q, query_start), (Side.KEY, cu_seqlens_k, None)):
        entry, position, in_sequence = packed_tokens(
            ends.long(), starts, derived.gathered.length(side), mask.sequences[side].length
        )
        # A token of no sequence, or after the pattern's end, gets a sequence that no token of the other side has.
        values[SEQUENCES[side]] = torch.where(in_sequence, entry, -1 if side is Side.QUERY else -2)
        tokens_of[side] = entry, position
    values |= _packed_values(derived, values, count, tokens_of)
    return attend_derived(attend, derived, q, k, v, values)


def _routed_by_sequence(
    compiled: Bound,
    q: Tensor,
    k: Tensor,
    inputs: Sequence[Tensor],
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    query_start: Tensor,
) -> list[Tensor]:
    """The routed inputs, with sequences padded to batch entries of the longest length. Waits for that length."""
    q, _ = _unpacked(q, cu_seqlens_q)
    k, present = _unpacked(k, cu_seqlens_k)
    counts = torch.diff(cu_seqlens_q)
    totals = torch.diff(cu_seqlens_k) if compiled.plan.mask.is_layer else query_start + counts
    return partial_routed(compiled, q, k, present, inputs, Queries(query_start.long(), counts, totals))


def _multiplied(
    attend: Attend,
    compiled: Bound,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    query_start: Tensor,
) -> tuple[Tensor, Tensor]:
    """As `_by_sequence`, with products computed for sequences padded to batch entries of the longest length."""
    ends = cu_seqlens_q, cu_seqlens_k, query_start
    (queries, _), (keys, _), (key_values, _) = (
        _unpacked(x, each) for x, each in ((q, cu_seqlens_q), (k, cu_seqlens_k), (v, cu_seqlens_k))
    )
    positions = query_start.long()[:, None] + torch.arange(queries.shape[2], device=q.device)
    values = dict(zip((each.name for each in compiled.plan.mask.unmultiplied), inputs, strict=True))
    products = compiled.product_finder.find(queries, keys, key_values, values, positions)
    values |= products.tables
    q = q if products.q is queries else _packed_again(products.q, cu_seqlens_q, q.shape[2])
    k = k if products.k is keys else _packed_again(products.k, cu_seqlens_k, k.shape[2])
    v = v if products.v is key_values else _packed_again(products.v, cu_seqlens_k, v.shape[2])
    kernels = compiled.for_products_by_row
    out, lse = _by_sequence(attend, kernels, q, k, v, given_inputs(kernels, values, query_start), *ends)
    for number, term in enumerate(compiled.plan.mask.values):
        weighed = compiled.weighed(number, by_rows=True)
        given = given_inputs(weighed, {**values, term.name: blank_masses(products, out, number)}, query_start)
        ones, summed = k.new_ones(*k.shape[:3], 1), attend_masses(term.name, lse.detach())
        masses, _ = _by_sequence(summed, weighed, q, k, ones, given, *ends)
        nothing = masses.new_zeros(*masses.shape[:3], v.shape[3])
        added = compiled.product_finder.with_rows(nothing, masses, products.rows[number])
        out = out + _packed_again(added, cu_seqlens_q, out.shape[2]).to(out.dtype)
    return out, lse


def _packed_again(x: Tensor, ends: Tensor, count: int) -> Tensor:
    """Packs padded x [sequences, heads, tokens, dim] to [1, heads, all tokens, dim]: the inverse of `_unpacked`."""
    index = torch.arange(count, device=x.device)
    entry = torch.searchsorted(ends[1:].long(), index, right=True).clamp(max=len(x) - 1)
    position = (index - ends.long()[entry]).clamp(0, x.shape[2] - 1)
    return x[entry, :, position].transpose(0, 1)[None]


def _unpacked(x: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Pads packed x [1, heads, all tokens, dim] to [sequences, heads, tokens, dim], and which are tokens, bool."""
    sizes = torch.diff(ends).long()
    positions = torch.arange(int(sizes.max()), device=x.device)
    present = positions < sizes[:, None]
    index = (ends[:-1, None].long() + positions).clamp(0, max(x.shape[2] - 1, 0))
    return x[0][:, index].transpose(0, 1).masked_fill(~present[:, None, :, None], 0), present


def _packed_values(
    derived: DerivedMask, given: dict[str, Tensor], count: int, positions: dict[Side, tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """The inputs of the packed mask that hold per-token values, by name. Gradients flow back to the given inputs."""
    packed, values = derived.gathered, {}
    for value in packed.values:
        entry, position = positions[value.leaf.side]
        whole = token_values(packed, value, given, count, entry.device, derived.kept)
        entry = entry if whole.shape[0] > 1 else torch.zeros_like(entry)
        taken = whole[entry, :, position].transpose(0, 1)[None]
        values[value.declared.name] = as_given(value.declared, taken)
    return values


def _check(
    compiled: Bound, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], ends_q: Tensor, ends_k: Tensor
) -> None:
    """Raises if tensors, ends or inputs are wrong, as far as it shows without waiting for a GPU."""
    check_tensors(q, k, v, "declared")
    if compiled.plan.mask.queries.is_pooled:
        raise AttnError(PooledQueriesPart(pattern=compiled.plan.mask.name, span=compiled.plan.mask.span))
    if compiled.plan.mask.keys.is_pooled:
        raise AttnError(PackedPooled(pattern=compiled.plan.mask.name, span=compiled.plan.mask.span))
    mask, keys = compiled.plan.mask, "cu_seqlens_q" if ends_k is ends_q else "cu_seqlens_k"
    tensors = {"cu_seqlens_q": ends_q, keys: ends_k}
    errors = [each for name, x in tensors.items() for each in malformed_ends(name, x, len(ends_q), q)]
    if errors:
        raise AttnError(*errors)
    if errors := list(wrong_heads(compiled.plan, q, k)):
        raise AttnError(*errors)
    if ends_q.device.type == "cpu":
        totals = {("cu_seqlens_q", q.shape[2], mask.queries.length), (keys, k.shape[2], mask.keys.length)}
        errors = [
            each
            for name, *sizes in sorted(totals, reverse=True)
            for each in misplaced_ends(name, tensors[name], *sizes)
        ]
        if errors:
            raise AttnError(*errors)
    entries = q.expand(len(ends_q) - 1, -1, -1, -1)
    check_inputs(mask.passed, inputs, entries)
    check_values(mask.passed, inputs)


def check_starts(compiled: Bound, starts: Tensor, ends: Tensor) -> None:
    """Raises if queries begin before the pattern or end after it, as far as it shows without waiting for a GPU."""
    mask, count = compiled.plan.mask, len(ends) - 1
    if starts.dtype not in INTEGER_TYPES:
        raise AttnError(NotIntegers(name="query_start", found=type_name(starts)))
    if starts.device != ends.device:
        raise AttnError(MixedDevices(name="query_start", query=str(ends.device), other=str(starts.device)))
    if starts.shape != (count,):
        raise AttnError(NotOneAnEntry(name="query_start", found=tuple(starts.shape), batch=count))
    if starts.device.type == "cpu":
        starts, sizes = starts.long(), torch.diff(ends.long())
        outside = (sizes > 0) & ((starts < 0) | (starts > mask.queries.length - sizes))
        if bool(outside.any()):
            worst = int(outside.nonzero()[0])
            start, size = int(starts[worst]), int(sizes[worst])
            raise AttnError(QueryStart(start=start, count=size, length=mask.queries.length, span=mask.span))


def malformed_ends(name: str, ends: Tensor, count: int, q: Tensor) -> Iterator[Diagnostic]:
    """Errors in the dtype, device or shape of the ends of sequences."""
    if ends.dtype not in INTEGER_TYPES:
        yield NotIntegers(name=name, found=type_name(ends))
    elif ends.device != q.device:
        yield MixedDevices(name=name, query=str(q.device), other=str(ends.device))
    elif ends.dim() != 1 or len(ends) != count or count < 2:
        yield WrongEnds(name=name, found=tuple(ends.shape))


def misplaced_ends(name: str, ends: Tensor, total: int, length: int) -> Iterator[Diagnostic]:
    """Errors in the values of ends, of `total` tokens, for a pattern of `length` tokens. Ends are on the host."""
    sizes = torch.diff(ends.long())
    if int(ends[0]) or int(ends[-1]) > total or bool((sizes < 0).any()):
        yield EndsOutOfOrder(name=name, total=total)
    elif int(sizes.max()) > length:
        yield LongSequence(name=name, found=int(sizes.max()), length=length)


_PACKED = define("packed", _packed)
