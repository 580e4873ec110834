"""Calls whose queries stand anywhere in a longer sequence of keys: decoding, chunked prefill, keys in pages.

Without gradients they are the operator `maskdsl::decode`: one kernel where Triton serves, a chunk of the mask as a mask
of its own (`ir/chunk.py`) elsewhere. With gradients they are always the latter.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskdsl.diagnostics import AttnError, Diagnostic
from maskdsl.errors import call as errors
from maskdsl.ir.chunk import PRESENT, Chunk
from maskdsl.ir.expressions import Side
from maskdsl.runtime.checks import (
    INTEGER_TYPES,
    as_tensor,
    check_inputs,
    check_tensors,
    check_values,
    type_name,
    wrong_heads,
)
from maskdsl.runtime.kernel import blank
from maskdsl.runtime.operators import ATTENTION, LIBRARY, autocast, needs_recording
from maskdsl.runtime.recipes import Bound, Over, find
from maskdsl.runtime.tokens import token_values
from maskdsl.runtime.triton import serves
from maskdsl.runtime.values import as_given


class Where(NamedTuple):
    """Where queries and keys are, integers: `query_starts` [batch] or [], `key_lengths` [batch], `page_table` [batch,
    pages]."""

    query_starts: Tensor
    key_lengths: Tensor | None
    page_table: Tensor | None
    page_size: int | None


def attend(
    handle: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: list[Tensor],
    query_start: object,
    key_lengths: object,
    page_table: object,
    page_size: int | None,
) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp of queries from `query_start` on. Arrays and lists are taken as tensors are."""
    start = integers("query_start", 0 if query_start is None else query_start, q.device)
    lengths = None if key_lengths is None else integers("key_lengths", key_lengths, q.device)
    table = None if page_table is None else integers("page_table", page_table, q.device)
    if page_size is not None and not isinstance(page_size, int):
        raise AttnError(errors.NotIntegers(name="page_size", found=repr(page_size)))
    where = Where(start, lengths, table, page_size)
    if needs_recording(q, k, v, *inputs):
        return in_chunk(checked(handle, q, k, v, inputs, where), q, k, v, inputs, where)
    out, lse = DECODE(q, k, v, inputs, *where, handle)
    return out, lse


def integers(name: str, value: object, device: torch.device) -> Tensor:
    """A tensor of what is to be integers, which is checked later."""
    tensor = as_tensor(value, device)
    if tensor is None:
        raise AttnError(errors.NotATensor(name=name, found=type(value).__name__))
    return tensor


# As an operator


def decode(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], *others: Any) -> tuple[Tensor, Tensor]:
    *fields, handle = others
    where = Where(*fields)
    recipe = checked(handle, q, k, v, inputs, where)
    if not q.shape[0] or not q.shape[2]:
        return blank(q, v, True)
    kernel_serves = recipe.backend == "triton" or (recipe.backend == "auto" and serves(q, v))
    if kernel_serves and not recipe.plan.mask.keys.is_pooled:
        return recipe.decoder.forward(q, k, v, inputs, *normal(recipe, q, k, where))
    return in_chunk(recipe, q, k, v, inputs, where)


def fake_decode(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return blank(q, v, True)


def cast_decode(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Any:
    with torch.autocast(q.device.type, enabled=False):
        return DECODE(*(autocast(x, q.device.type) for x in (q, k, v)), *others)


def checked(handle: str, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], where: Where) -> Bound:
    """The recipe of a call. Raises if anything is wrong with the call that can be seen without waiting for a GPU."""
    check_tensors(q, k, v, "declared", paged=where.page_table is not None)
    found = list(malformed(q, k, where))
    if found:
        raise AttnError(*found)
    recipe = find(handle).bound(q.shape[2], room(k, where))
    found = list(misplaced(recipe, q, k, where))
    if found:
        raise AttnError(*found)
    check_inputs(recipe.plan.mask.inputs, inputs, q)
    check_values(recipe.plan.mask.inputs, inputs)
    return recipe


def malformed(q: Tensor, k: Tensor, where: Where) -> Iterator[Diagnostic]:
    batch, starts = q.shape[0], where.query_starts
    allowed = {"query_start": starts.dim() == 0 or starts.shape == (batch,)}
    if where.key_lengths is not None:
        allowed["key_lengths"] = where.key_lengths.shape == (batch,)
    if where.page_table is not None:
        allowed["page_table"] = where.page_table.dim() == 2 and len(where.page_table) == batch
    tensors = {"query_start": starts, "key_lengths": where.key_lengths, "page_table": where.page_table}
    for name, fits in allowed.items():
        tensor = tensors[name]
        assert tensor is not None
        if tensor.dtype not in INTEGER_TYPES:
            yield errors.NotIntegers(name=name, found=type_name(tensor))
        elif tensor.device != q.device:
            yield errors.MixedDevices(name=name, query=str(q.device), other=str(tensor.device))
        elif not fits:
            yield errors.NotOneAnEntry(name=name, found=tuple(tensor.shape), batch=batch)
    if where.page_size is not None and where.page_table is None:
        yield errors.PagesWithoutTable()
    elif where.page_size is not None and where.page_size != k.shape[2]:
        yield errors.PageSize(given=where.page_size, found=k.shape[2])


def misplaced(recipe: Bound, q: Tensor, k: Tensor, where: Where) -> Iterator[Diagnostic]:
    mask = recipe.plan.mask
    yield from wrong_heads(recipe.plan, q)
    last = mask.queries.length - q.shape[2]
    if last < 0:
        yield errors.TooManyQueries(found=q.shape[2], length=mask.queries.length, pattern=mask.name, span=mask.span)
    elif where.query_starts.device.type == "cpu" and len(q):
        low, high = (int(each) for each in torch.aminmax(where.query_starts))
        if low < 0 or high > last:
            worst = low if low < 0 else high
            yield errors.QueryStart(start=worst, count=q.shape[2], length=mask.queries.length, span=mask.span)
    if where.page_table is None and k.shape[2] > mask.keys.given_length:
        yield errors.TooManyKeys(found=k.shape[2], length=mask.keys.given_length, pattern=mask.name, span=mask.span)


def room(k: Tensor, where: Where) -> int:
    """How many keys of one entry k has room for."""
    return k.shape[2] * (1 if where.page_table is None else where.page_table.shape[1])


def normal(recipe: Bound, q: Tensor, k: Tensor, where: Where) -> tuple[Tensor, Tensor, Tensor | None]:
    """Starts, lengths and the page table as kernels read them: int32, one start and one length an entry."""
    batch, table = q.shape[0], where.page_table
    starts = where.query_starts.to(torch.int32).expand(batch).contiguous()
    available = min(room(k, where), recipe.plan.mask.keys.given_length)
    lengths = torch.full_like(starts, available)
    if where.key_lengths is not None:
        lengths = where.key_lengths.to(torch.int32).clamp(max=available)
    return starts, lengths, None if table is None else table.to(torch.int32).contiguous()


# As a mask of its own


def in_chunk(
    recipe: Bound, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], where: Where
) -> tuple[Tensor, Tensor]:
    """By any backend, with gradients for everything that has them."""
    starts, lengths, table = normal(recipe, q, k, where)
    keys = min(room(k, where), recipe.plan.mask.keys.given_length)
    places = torch.arange(keys, device=q.device)
    present = places < lengths[:, None]
    if table is not None:
        pages = table.long()[:, places // k.shape[2]]
        present &= pages >= 0
        k, v = (x.transpose(1, 2)[pages.clamp(min=0), places % k.shape[2]].transpose(1, 2) for x in (k, v))
    k, v = (x[:, :, :keys].masked_fill(~present[:, None, :, None], 0) for x in (k, v))
    if recipe.plan.mask.keys.is_pooled:
        k, v, present = with_pooled(recipe, k, v, present)
    over = recipe.over(Chunk, q.shape[2], k.shape[2])
    values = dict(zip((each.name for each in recipe.plan.mask.inputs), inputs, strict=True))
    return attend_over(over, q, k, v, {**values, **chunk_values(over, values, starts), PRESENT: present})


def with_pooled(recipe: Bound, k: Tensor, v: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All keys of the pattern from the first that are given, their values, and which there are, bool [batch, keys].

    What is not there is zero, and has no part in what is pooled.
    """
    missing = recipe.plan.mask.keys.given_length - k.shape[2]
    k, v = (pad(x, (0, 0, 0, missing)) for x in (k, v))
    there = pad(present, (0, missing))[:, None, :, None]
    (k, present), (v, _) = (recipe.first.module.with_pooled(x, there) for x in (k, v))
    return k, v, present[:, 0, :, 0]


def attend_over(over: Over, q: Tensor, k: Tensor, v: Tensor, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    recipe = over.recipe
    inputs = [values[name] for name in recipe.signature.inputs]
    out, lse = ATTENTION(q, k, v, inputs, recipe.handle, "declared", True)
    return out, lse


def chunk_values(over: Over, given: dict[str, Tensor], starts: Tensor) -> dict[str, Tensor]:
    """The chunk's own inputs, but for `PRESENT`. Those of floats lead gradients back to the inputs that are given."""
    chunk = over.gathered
    places = (starts.long()[:, None] + torch.arange(chunk.queries, device=starts.device))[:, None]
    values = {}
    for node in chunk.leaves:
        whole = token_values(chunk, node, given, len(starts), starts.device, over.kept)
        if node.side is Side.QUERY:
            own = torch.take_along_dim(whole.expand(len(starts), -1, -1), places, dim=-1)
        else:
            own = whole[..., : chunk.keys]
        values[chunk.name(node)] = as_given(chunk.declared(node), own)
    return values


LIBRARY.define(
    "decode(Tensor q, Tensor k, Tensor v, Tensor[] inputs, Tensor query_starts, Tensor? key_lengths,"
    " Tensor? page_table, int? page_size, str handle) -> (Tensor out, Tensor lse)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
DECODE = torch.ops.maskdsl.decode.default
LIBRARY.impl("decode", decode, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::decode", fake_decode, lib=LIBRARY)
LIBRARY.impl("decode", cast_decode, "AutocastCPU")
LIBRARY.impl("decode", cast_decode, "AutocastCUDA")
