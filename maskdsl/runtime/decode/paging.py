"""Where the queries and keys of a call are in the pattern, what must hold of it, and keys in one piece."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskdsl.base.arguments import INDEX, fitting, integer
from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls.lengths import (
    EmptyPages,
    KeyLength,
    NotIntegers,
    NotOneAnEntry,
    PageNumber,
    PageSize,
    PagesWithoutTable,
    QueryStart,
    TooManyKeys,
    TooManyQueries,
)
from maskdsl.base.errors.calls.vectors import MixedDevices, NotATensor
from maskdsl.runtime.base.validate import INTEGER_TYPES, as_tensor, check_tensors, type_name, wrong_heads
from maskdsl.runtime.compiled_mask import Bound, find


class CallPositions(NamedTuple):
    """Where queries and keys are, integers: `query_starts` [batch] or [], `key_lengths` [batch], `page_table` [batch,
    pages]."""

    query_starts: Tensor
    key_lengths: Tensor | None
    page_table: Tensor | None
    page_size: int | None


def call_positions(
    q: Tensor, query_start: object, key_lengths: object, page_table: object, page_size: int | None
) -> CallPositions:
    """What the arguments of a call say. Arrays and lists are taken as tensors are."""
    start = integers("query_start", 0 if query_start is None else query_start, q.device)
    lengths = None if key_lengths is None else integers("key_lengths", key_lengths, q.device)
    table = None if page_table is None else integers("page_table", page_table, q.device)
    return CallPositions(start, lengths, table, None if page_size is None else fitting("page_size", page_size, INDEX))


def integers(name: str, value: object, device: torch.device) -> Tensor:
    """A tensor of what is to be integers, which is checked later."""
    if isinstance(value, int) and not isinstance(value, bool):  # an argument of graphs, not a constant in each
        if not -(2**63) <= value < 2**63:
            fitting(name, value, integer())
        return torch.full((), value, dtype=torch.int64, device=device)
    tensor = as_tensor(value, device)
    if tensor is None:
        raise AttnError(NotATensor(name=name, found=type(value).__name__))
    return tensor


def checked(handle: str, q: Tensor, k: Tensor, v: Tensor, where: CallPositions) -> Bound:
    """The compiled mask of a call. Raises if anything but inputs is wrong, as far as it shows without a GPU."""
    check_tensors(q, k, v, "declared", paged=where.page_table is not None)
    found = list(_malformed(q, k, where))
    if found:
        raise AttnError(*found)
    compiled = find(handle).bound(q.shape[2], room(k, where))
    found = list(_misplaced(compiled, q, k, where))
    if found:
        raise AttnError(*found)
    return compiled


def _malformed(q: Tensor, k: Tensor, where: CallPositions) -> Iterator[Diagnostic]:
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
            yield NotIntegers(name=name, found=type_name(tensor))
        elif tensor.device != q.device:
            yield MixedDevices(name=name, query=str(q.device), other=str(tensor.device))
        elif not fits:
            yield NotOneAnEntry(name=name, found=tuple(tensor.shape), batch=batch)
    if where.page_table is not None and not k.shape[2]:
        yield EmptyPages()
    if where.page_size is not None and where.page_table is None:
        yield PagesWithoutTable()
    elif where.page_size is not None and where.page_size != k.shape[2]:
        yield PageSize(given=where.page_size, found=k.shape[2])


def _misplaced(compiled: Bound, q: Tensor, k: Tensor, where: CallPositions) -> Iterator[Diagnostic]:
    mask = compiled.plan.mask
    yield from wrong_heads(compiled.plan, q, k)
    last = mask.queries.length - q.shape[2]
    if last < 0:
        yield TooManyQueries(found=q.shape[2], length=mask.queries.length, pattern=mask.name, span=mask.span)
    elif where.query_starts.device.type == "cpu" and len(q):
        low, high = (int(each) for each in torch.aminmax(where.query_starts))
        if low < 0 or high > last:
            worst = low if low < 0 else high
            yield QueryStart(start=worst, count=q.shape[2], length=mask.queries.length, span=mask.span)
    if where.page_table is None and k.shape[2] > mask.keys.given_length:
        yield TooManyKeys(found=k.shape[2], length=mask.keys.given_length, pattern=mask.name, span=mask.span)
    yield from _absent_keys(compiled, k, where)


def _absent_keys(compiled: Bound, k: Tensor, where: CallPositions) -> Iterator[Diagnostic]:
    """Lengths and pages that do not exist, where they are seen without waiting for a GPU. Pages behind the last key of
    an entry may be any.
    """
    lengths, table = where.key_lengths, where.page_table
    longest = compiled.plan.mask.keys.given_length
    available = min(room(k, where), longest)
    if lengths is not None and is_seen(lengths):
        low, high = (int(each) for each in torch.aminmax(lengths))
        if low < 0 or high > available:
            hint = (
                f"`k` has {room(k, where)} keys" if table is None else f"the table has {table.shape[1]} pages an entry"
            )
            hint = f"the pattern was bound with {longest} keys" if available == longest else hint
            yield KeyLength(name="key_lengths", found=low if low < 0 else high, room=available, hint=hint)
            return
    if table is not None and is_seen(table) and int(table.max()) >= len(k):
        first = torch.arange(table.shape[1]) * k.shape[2]
        asked = first < (torch.tensor(available) if lengths is None else lengths.cpu()[:, None])
        wrong = (asked & (table >= len(k))).nonzero()
        if len(wrong):
            entry, column = wrong[0].tolist()
            found, keys = int(table[entry, column]), column * k.shape[2]
            yield PageNumber(entry=entry, found=found, first=keys, pages=len(k))


def is_seen(numbers: Tensor) -> bool:
    """Whether there are any, and they can be looked at without waiting for a GPU."""
    return numbers.device.type == "cpu" and numbers.numel() > 0 and not torch.compiler.is_compiling()


def room(k: Tensor, where: CallPositions) -> int:
    """How many keys of one entry k has room for."""
    return k.shape[2] * (1 if where.page_table is None else where.page_table.shape[1])


def normal(compiled: Bound, q: Tensor, k: Tensor, where: CallPositions) -> tuple[Tensor, Tensor, Tensor | None]:
    """Starts, lengths and the page table as kernels read them: int32, one start and one length an entry."""
    batch, table = q.shape[0], where.page_table
    starts = where.query_starts.to(torch.int32).expand(batch).contiguous()
    available = min(room(k, where), compiled.plan.mask.keys.given_length)
    lengths = torch.full_like(starts, available)
    if where.key_lengths is not None:
        lengths = where.key_lengths.to(torch.int32).clamp(max=available)
    if table is not None:
        table = existing(table.to(torch.int32), len(k)).contiguous()
    return starts, lengths, table


def existing(table: Tensor, pages: int) -> Tensor:
    """The page table, negative where there is no such page: a GPU's was not looked at before."""
    return table.masked_fill(table >= pages, -1)


def present_keys(compiled: Bound, k: Tensor, lengths: Tensor, table: Tensor | None) -> Tensor:
    """Bool [batch, keys]: which of the given keys, as many as there is room for, are there."""
    keys = compiled.plan.mask.keys.given_length
    keys = min(keys, k.shape[2] * (1 if table is None else table.shape[1]))
    positions = torch.arange(keys, device=k.device)
    present = positions < lengths[:, None]
    return present if table is None else present & (table[:, positions // k.shape[2]] >= 0)


def in_one_piece(x: Tensor, table: Tensor | None, present: Tensor) -> Tensor:
    """Keys or values as [batch, heads, keys, dim], also from pages; zeros where there is none."""
    if table is not None:
        positions = torch.arange(present.shape[1], device=x.device)
        x, _ = page_rows(x, positions.expand_as(present), table)
    return x[:, :, : present.shape[1]].masked_fill(~present[:, None, :, None], 0)


def page_rows(x: Tensor, positions: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
    """Keys or values at places [batch, any], as [batch, heads, any, dim], and whether their pages exist."""
    if table is None:
        index = positions[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
        return x.gather(2, index), torch.ones_like(positions, dtype=torch.bool)
    pages = table.long().gather(1, positions // x.shape[2])
    return x.transpose(1, 2)[pages.clamp(min=0), positions % x.shape[2]].transpose(1, 2), pages >= 0


def all_keys(compiled: Bound, k: Tensor, lengths: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
    """The keys of the pattern, or as many as there is room for, and which there are: see `with_pooled`."""
    present = present_keys(compiled, k, lengths, table)
    k = in_one_piece(k, table, present)
    return with_pooled(compiled, k, present) if compiled.plan.mask.keys.is_pooled else (k, present)


def with_pooled(compiled: Bound, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """All keys of the pattern, or their values, from the first that are given, and which there are, bool [batch, keys].

    What is not there is zero, and has no part in what is pooled.
    """
    missing = compiled.plan.mask.keys.given_length - x.shape[2]
    there = pad(present, (0, missing))[:, None, :, None]
    whole, there = compiled.default_kernel.module.with_pooled(pad(x, (0, 0, 0, missing)), there)
    return whole, there[:, 0, :, 0]
