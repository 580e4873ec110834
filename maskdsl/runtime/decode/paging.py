"""Positions, lengths and page tables of partial calls: their checks, and keys gathered from pages."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

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
from maskdsl.base.errors.calls.pools import PooledQueriesPart
from maskdsl.base.errors.calls.vectors import MixedDevices, NotATensor
from maskdsl.ir.expressions import Side
from maskdsl.runtime.base.call import TokenPositions
from maskdsl.runtime.base.validate import INTEGER_TYPES, as_tensor, check_tensors, type_name, wrong_heads
from maskdsl.runtime.compiled.compiled_mask import Bound, CompiledMask, find
from maskdsl.runtime.compiled.mask_calls import kinds, remember


class CallPositions(NamedTuple):
    """The queries and keys of a partial call. Tensors are integers."""

    query_starts: Tensor
    """The position of each entry's first query, [batch] or []."""
    key_lengths: Tensor | None
    """The number of keys of each entry, [batch]; None: all that `k` has room for."""
    page_table: Tensor | None
    """The page of each stretch of keys, [batch, pages], negative where there is none; None: `k` is not paged."""
    page_size: int | None
    """Keys per page, if the caller gives it."""


def call_positions(
    q: Tensor, query_start: object, key_lengths: object, page_table: object, page_size: int | None
) -> CallPositions:
    """The positions that the arguments of a call give; arrays and lists become tensors.

    A page table has two axes here, which say how many keys there is room for; other shapes are checked later.
    """
    start = integers("query_start", 0 if query_start is None else query_start, q.device)
    lengths = None if key_lengths is None else integers("key_lengths", key_lengths, q.device, q.shape[:1])
    if lengths is not None and not lengths.dim():  # one number for all batch entries
        lengths = lengths.expand(q.shape[:1])
    table = None if page_table is None else integers("page_table", page_table, q.device)
    if table is not None and table.dim() != 2:
        raise AttnError(NotOneAnEntry(name="page_table", found=tuple(table.shape), batch=q.shape[0]))
    return CallPositions(start, lengths, table, None if page_size is None else fitting("page_size", page_size, INDEX))


def integers(name: str, value: object, device: torch.device, shape: Sequence[int] = ()) -> Tensor:
    """A number, array, list or tensor as a tensor, whose dtype and shape are checked later. Raises `NotATensor`.

    A number becomes a tensor of this shape.
    """
    if isinstance(value, int) and not isinstance(value, bool):  # a tensor, so that graphs do not specialize on it
        if not -(2**63) <= value < 2**63:
            fitting(name, value, integer())
        return torch.full(shape, value, dtype=torch.int64, device=device)
    tensor = as_tensor(value, device)
    if tensor is None:
        raise AttnError(NotATensor(name=name, found=type(value).__name__))
    return tensor


def checked_mask(handle: str, q: Tensor, k: Tensor, v: Tensor, positions: CallPositions) -> Bound:
    """The compiled mask of a partial call.

    Raises `AttnError` if tensors or positions are wrong, as far as it shows without waiting for a GPU. Inputs are not
    checked here.
    """
    given = find(handle)
    checked, key = _CHECKED.setdefault(given, {}), (kinds(q, k, v), *map(_kind, positions[:3]), positions.page_size)
    compiled = checked.get(key)
    if compiled is not None and fit_on_host(compiled, q, k, positions):
        return compiled
    check_tensors(q, k, v, "declared", paged=positions.page_table is not None, mixed=True)
    errors = list(malformed(q, k, positions))
    if errors:
        raise AttnError(*errors)
    compiled = given.bound(q.shape[2], room(k, positions))
    if compiled.plan.mask.queries.is_pooled:
        raise AttnError(PooledQueriesPart(pattern=compiled.plan.mask.name, span=compiled.plan.mask.span))
    errors = list(_misplaced(compiled, q, k, positions))
    if errors:
        raise AttnError(*errors)
    remember(checked, key, compiled)
    return compiled


_CHECKED: WeakKeyDictionary[CompiledMask, dict[object, Bound]] = WeakKeyDictionary()
"""The masks of calls that were right, by all but the values of their tensors."""


def _kind(x: Tensor | None) -> object:
    return None if x is None else (x.shape, x.dtype, x.device)


def fit_on_host(compiled: Bound, q: Tensor, k: Tensor, positions: CallPositions) -> bool:
    """Whether the values of positions are right, in a call that is so in all else, as far as the host sees it soon."""
    starts, lengths, table, _ = positions
    if q.device.type != "cpu" or not q.shape[0]:
        return False
    low, high = _ends(starts)
    if low < 0 or high > compiled.plan.mask.queries.length - q.shape[2]:
        return False
    if lengths is not None:
        low, high = _ends(lengths)
        if low < 0 or high > _available(compiled, k, positions):
            return False
    return table is None or not table.numel() or int(table.max()) < k.shape[0]


def _ends(numbers: Tensor) -> tuple[int, int]:
    """The least and the greatest number, which are few."""
    values: list[int] = numbers.tolist() if numbers.dim() else [int(numbers)]
    return min(values), max(values)


def _available(compiled: Bound, k: Tensor, positions: CallPositions) -> int:
    """The most keys that an entry may have."""
    return min(room(k, positions), compiled.plan.mask.keys.given_length)


def malformed(q: Tensor, k: Tensor, positions: CallPositions) -> Iterator[Diagnostic]:
    """Errors in dtypes, devices and shapes of positions."""
    batch, starts = q.shape[0], positions.query_starts
    allowed = {"query_start": starts.dim() == 0 or starts.shape == (batch,)}
    if positions.key_lengths is not None:
        allowed["key_lengths"] = positions.key_lengths.shape == (batch,)
    if positions.page_table is not None:
        allowed["page_table"] = positions.page_table.dim() == 2 and len(positions.page_table) == batch
    tensors = {"query_start": starts, "key_lengths": positions.key_lengths, "page_table": positions.page_table}
    for name, fits in allowed.items():
        tensor = tensors[name]
        assert tensor is not None
        if tensor.dtype not in INTEGER_TYPES:
            yield NotIntegers(name=name, found=type_name(tensor))
        elif tensor.device != q.device:
            yield MixedDevices(name=name, query=str(q.device), other=str(tensor.device))
        elif not fits:
            yield NotOneAnEntry(name=name, found=tuple(tensor.shape), batch=batch)
    if positions.page_table is not None and not k.shape[2]:
        yield EmptyPages()
    if positions.page_size is not None and positions.page_table is None:
        yield PagesWithoutTable()
    elif positions.page_size is not None and positions.page_size != k.shape[2]:
        yield PageSize(given=positions.page_size, found=k.shape[2])


def _misplaced(compiled: Bound, q: Tensor, k: Tensor, positions: CallPositions) -> Iterator[Diagnostic]:
    """Errors for heads, queries and keys that are outside the pattern."""
    mask = compiled.plan.mask
    yield from wrong_heads(compiled.plan, q, k)
    last = mask.queries.length - q.shape[2]
    if last < 0:
        yield TooManyQueries(found=q.shape[2], length=mask.queries.length, pattern=mask.name, span=mask.span)
    elif positions.query_starts.device.type == "cpu" and len(q):
        low, high = (int(each) for each in torch.aminmax(positions.query_starts))
        if low < 0 or high > last:
            worst = low if low < 0 else high
            yield QueryStart(start=worst, count=q.shape[2], length=mask.queries.length, span=mask.span)
    if positions.page_table is None and k.shape[2] > mask.keys.given_length:
        yield TooManyKeys(found=k.shape[2], length=mask.keys.given_length, pattern=mask.name, span=mask.span)
    yield from absent_keys(compiled, k, positions)


def absent_keys(compiled: Bound, k: Tensor, positions: CallPositions) -> Iterator[Diagnostic]:
    """Errors for lengths and pages that do not exist, if they are on the host.

    Pages after an entry's last key are not checked.
    """
    lengths, table = positions.key_lengths, positions.page_table
    longest, available = compiled.plan.mask.keys.given_length, _available(compiled, k, positions)
    if lengths is not None and is_on_host(lengths):
        low, high = (int(each) for each in torch.aminmax(lengths))
        if low < 0 or high > available:
            hint = (
                f"`k` has {room(k, positions)} keys"
                if table is None
                else f"the table has {table.shape[1]} pages an entry"
            )
            hint = f"the pattern was bound with {longest} keys" if available == longest else hint
            yield KeyLength(name="key_lengths", found=low if low < 0 else high, room=available, hint=hint)
            return
    if table is not None and is_on_host(table) and int(table.max()) >= len(k):
        first = torch.arange(table.shape[1]) * k.shape[2]
        asked = first < (torch.tensor(available) if lengths is None else lengths.cpu()[:, None])
        wrong = (asked & (table >= len(k))).nonzero()
        if len(wrong):
            entry, column = wrong[0].tolist()
            page, first_key = int(table[entry, column]), column * k.shape[2]
            yield PageNumber(entry=entry, found=page, first=first_key, pages=len(k))


def is_on_host(numbers: Tensor) -> bool:
    """Whether a tensor is not empty and its values can be read without waiting for a GPU."""
    return numbers.device.type == "cpu" and numbers.numel() > 0 and not torch.compiler.is_compiling()


def room(k: Tensor, positions: CallPositions) -> int:
    """The number of keys per batch entry that `k`, or the pages of its table, can hold."""
    return k.shape[2] * (1 if positions.page_table is None else positions.page_table.shape[1])


def normalized(compiled: Bound, q: Tensor, k: Tensor, positions: CallPositions) -> tuple[Tensor, Tensor, Tensor | None]:
    """Starts int32 [batch], lengths int32 [batch] and the page table int32 [batch, pages], as kernels read them."""
    batch, table = q.shape[0], positions.page_table
    starts = positions.query_starts.to(torch.int32).expand(batch).contiguous()
    available = _available(compiled, k, positions)
    lengths = torch.full_like(starts, available)
    if positions.key_lengths is not None:
        lengths = positions.key_lengths.to(torch.int32).clamp(max=available)
    if table is not None:
        table = existing_pages(table.to(torch.int32), len(k)).contiguous()
    return starts, lengths, table


def on_host(compiled: Bound, q: Tensor, k: Tensor, positions: CallPositions) -> TokenPositions:
    """The same of a call on a CPU, whose positions have been checked."""
    starts, lengths, table, _ = positions
    available = _available(compiled, k, positions)
    if table is not None and table.numel() and int(table.max()) >= k.shape[0]:
        table = existing_pages(table, k.shape[0])
    return TokenPositions(
        tuple(starts.tolist()) if starts.dim() else (int(starts),) * q.shape[0],
        (available,) * q.shape[0] if lengths is None else tuple(lengths.tolist()),
        None if table is None else table.to(torch.int32).contiguous(),
    )


def most_keys(compiled: Bound, k: Tensor, table: Tensor | None) -> int:
    """The most keys that an entry may have, of those that callers give."""
    return min(compiled.plan.mask.keys.given_length, k.shape[2] * (1 if table is None else table.shape[1]))


def existing_pages(table: Tensor, pages: int) -> Tensor:
    """The page table with -1 for pages that do not exist, since a table on a GPU has not been checked."""
    return table.masked_fill(table >= pages, -1)


def present_keys(
    compiled: Bound, k: Tensor, lengths: Tensor, table: Tensor | None, span: tuple[int, int] | None = None
) -> Tensor:
    """Bool [batch, keys]: the keys that exist, of those that there is room for.

    A `span` is the first key and the number of keys of some of them.
    """
    first, count = (0, most_keys(compiled, k, table)) if span is None else span
    positions = torch.arange(first, first + count, device=k.device)
    present = positions < lengths[:, None]
    return present if table is None else present & (table[:, positions // k.shape[2]] >= 0)


def gathered_pages(x: Tensor, table: Tensor | None, present: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Keys or values as [batch, heads, keys, dim], gathered from pages if there is a table; zeros where absent.

    They are converted to `dtype`, if it is given.
    """
    if table is not None:
        positions = torch.arange(present.shape[1], device=x.device)
        x, _ = page_rows(x, positions.expand_as(present), table)
    return x[:, :, : present.shape[1]].to(dtype or x.dtype).masked_fill(~present[:, None, :, None], 0)


def page_rows(x: Tensor, positions: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
    """Keys or values at positions [batch, n], as [batch, heads, n, dim], and whether their pages exist [batch, n]."""
    if table is None:
        index = positions[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
        return x.gather(2, index), torch.ones_like(positions, dtype=torch.bool)
    pages = table.long().gather(1, positions // x.shape[2])
    return x.transpose(1, 2)[pages.clamp(min=0), positions % x.shape[2]].transpose(1, 2), pages >= 0


def all_keys(
    compiled: Bound, k: Tensor, lengths: Tensor, table: Tensor | None, inputs: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """All keys, [batch, heads, keys, dim], pooled ones included, and the present ones, bool [batch, keys].

    `inputs` are the first ones of the mask, those that callers give among them.
    """
    present = present_keys(compiled, k, lengths, table)
    k = gathered_pages(k, table, present)
    return with_pooled(compiled, k, present, inputs) if compiled.plan.mask.keys.is_pooled else (k, present)


def with_pooled(compiled: Bound, x: Tensor, present: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Appends pooled keys, or values, to the given ones x: all keys of the pattern, and the present ones, bool.

    Absent keys are zeros and are not pooled. `inputs` as in `all_keys`.
    """
    missing = compiled.plan.mask.keys.given_length - x.shape[2]
    padded = pad(present, (0, missing))[:, None, :, None]
    kernel, x = compiled.default_kernel, pad(x, (0, 0, 0, missing))
    whole, there = kernel.with_pooled(Side.KEY, x, kernel.values(inputs, x.device), padded)
    return whole, there[:, 0, :, 0].expand(len(x), -1)
