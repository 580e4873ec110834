"""What routes need of cached keys, kept as keys come: a new query selects without reading the cache again."""

from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.arguments import OutsideMap
from maskdsl.base.errors.calls.lengths import EmptyPages, KeyLength, NotIntegers, NotOneAnEntry, NotOneAxis, TooManyKeys
from maskdsl.base.errors.calls.selection import OtherState, PooledState, StateBatch
from maskdsl.base.errors.calls.vectors import NotFourAxes
from maskdsl.runtime.base.validate import (
    INTEGER_TYPES,
    arguments,
    check_inputs,
    check_values,
    integers_of,
    malformed,
    type_name,
)
from maskdsl.runtime.compiled_mask import Bound
from maskdsl.runtime.decode.paging import (
    CallPositions,
    all_keys,
    checked,
    existing,
    integers,
    is_seen,
    normal,
    page_rows,
)
from maskdsl.runtime.kernels.key_summaries import Summaries, sum_type
from maskdsl.runtime.routing.find_op import all_queries


class RoutingState:
    """Sums, maxima and sizes of the groups of cached keys, and their nearest centroids, for each batch entry.

    Made by `attention.routing_state(batch)` (where lengths follow tensors, by `attention.at(length)`) and given to its
    calls, which add the keys that have come since. They select what they would select without it. Keys that are chosen
    one by one (`knn`) or all at once (`balanced`) are still read from the cache. Lengths are numbers of the host: a
    call waits for `key_lengths` that are on a GPU, and breaks the graph of `torch.compile`.
    """

    def __init__(self, compiled: Bound, batch: int) -> None:
        mask = compiled.plan.mask
        if mask.keys.is_pooled:
            raise AttnError(PooledState(pattern=mask.name, span=mask.span))
        self._compiled = compiled
        self.lengths = torch.zeros(batch, dtype=torch.int64, device="cpu")
        """How many keys of each entry have been added. On the host."""
        self._summaries: Summaries = compiled.partial_route_finder.summaries()

    # Keys that come and go

    def append(self, k: Tensor, lengths: object = None, **inputs: Any) -> None:
        """Adds new keys [batch, key heads, new, head dim], the first `lengths` of each entry (all, if not given).

        Inputs are those of a call, which are for all tokens.
        """
        k, tensors = self._given(k, inputs)
        counts = self._numbers("lengths", lengths, k.shape[2])
        self._extend(k, self.lengths + counts, None, tensors)

    def update(self, k: Tensor, key_lengths: object = None, page_table: object = None, **inputs: Any) -> None:
        """Adds those of the first `key_lengths` keys of a cache that are not there yet, and forgets what is behind.

        Calls do the same. Where cached keys were written over, `truncate` must say so before.
        """
        k, tensors = self._given(k, inputs)
        self._follow(k, key_lengths, None if page_table is None else self._table(page_table, k), tensors)

    def truncate(self, lengths: object) -> None:
        """Forgets all but the first keys of each entry, as many as `lengths` says.

        Groups that lose some of their keys are forgotten whole: `lengths` of the state is less then, and the next call
        adds the others from the cache again. Where groups depend on inputs, that is all of them.
        """
        kept = torch.minimum(self._numbers("lengths", lengths, None), self.lengths)
        for entry in (kept < self.lengths).nonzero().flatten().tolist():
            kept[entry] = self._summaries.forget(entry, int(kept[entry]), int(self.lengths[entry]))
        self.lengths = kept

    def reorder(self, entries: object) -> None:
        """Batch entry n becomes what entry `entries[n]` was, as in beam search; there may be more or fewer."""
        chosen, count = integers_of("entries", entries, torch.device("cpu")).cpu().long(), len(self.lengths)
        if chosen.dim() != 1:
            raise AttnError(NotOneAxis(name="entries", found=tuple(chosen.shape)))
        outside = [each for each in chosen.tolist() if not 0 <= each < count]
        if outside:
            raise AttnError(OutsideMap(what="batch entry", number=outside[0], last=count - 1))
        self.lengths = self.lengths[chosen]
        self._summaries = self._summaries.entries(chosen)

    def clone(self) -> "RoutingState":
        """A state of its own."""
        other = copy(self)
        other.reorder(torch.arange(len(self.lengths), device="cpu"))
        return other

    def __getstate__(self) -> tuple[object, ...]:
        return self._compiled, self.lengths, self._summaries.tensors, self._summaries.key_heads

    def __setstate__(self, kept: tuple[Any, ...]) -> None:
        self._compiled, self.lengths, tensors, key_heads = kept
        self._summaries = self._compiled.partial_route_finder.summaries()
        self._summaries.tensors, self._summaries.key_heads = dict(tensors), key_heads

    # Calls

    @_disable_dynamo  # as `torch.compiler.disable`, which takes a second to import, at the first call
    def _find(self, handle: str, q: Tensor, k: Tensor, inputs: Sequence[Tensor], where: CallPositions) -> list[Tensor]:
        """What a call of the compiled mask of this handle takes besides given inputs. Adds new keys first."""
        compiled = checked(handle, q, k, k, where)
        mask = compiled.plan.mask
        if compiled.handle != self._compiled.handle:
            raise AttnError(OtherState(pattern=mask.name, other=self._compiled.plan.mask.name, span=mask.span))
        if len(q) != len(self.lengths):
            raise AttnError(StateBatch(found=len(q), batch=len(self.lengths)))
        with torch._C.DisableTorchFunction():  # as inside of operators: no default device of the caller
            starts, lengths, table = normal(compiled, q, k, where)
            self._follow(k, where.key_lengths, where.page_table, inputs)
            keys = cache(lambda: all_keys(compiled, k, lengths, table)[0])
            queries = all_queries(compiled, q, starts, lengths)
            return compiled.partial_route_finder.find(q, queries, self._summaries, keys, inputs)

    def _follow(self, k: Tensor, key_lengths: object, table: Tensor | None, inputs: Sequence[Tensor]) -> None:
        """Adds and forgets keys so that they are the first of a cache."""
        room = k.shape[2] * (1 if table is None else table.shape[1])
        ends = self._numbers("key_lengths", key_lengths, room).clamp(
            max=min(room, self._compiled.plan.mask.keys.length)
        )
        if bool((ends < self.lengths).any()):
            self.truncate(ends)
        new = int((ends - self.lengths).max()) if len(ends) else 0
        if not new and self._summaries.tensors:
            return
        positions = (self.lengths[:, None] + torch.arange(new, device="cpu")).clamp(max=room - 1).to(k.device)
        rows, there = page_rows(k, positions, None if table is None else existing(table, len(k)))
        self._extend(rows, ends, there, inputs)

    def _extend(self, k: Tensor, ends: Tensor, there: Tensor | None, inputs: Sequence[Tensor]) -> None:
        """Adds keys that follow those known, up to `ends`; of these only those that are `there`, bool [batch, new]."""
        self._check(k, ends, inputs)
        positions = self.lengths[:, None] + torch.arange(k.shape[2], device="cpu")
        present = (positions < ends[:, None]).to(k.device)
        present = present if there is None else present & there
        k = k.detach().masked_fill(~present[:, None, :, None], 0).to(sum_type(k))
        values = self._compiled.partial_route_finder.values(len(k), k.device, inputs)
        self._summaries.add(k, positions.to(k.device), present, values)
        self.lengths = ends

    # Checks

    def _check(self, k: Tensor, ends: Tensor, inputs: Sequence[Tensor]) -> None:
        mask, longest = self._compiled.plan.mask, int(ends.max()) if len(ends) else 0
        if k.dim() != 4:
            raise AttnError(NotFourAxes(name="k", shape=tuple(k.shape)))
        if len(k) != len(self.lengths):
            raise AttnError(StateBatch(found=len(k), batch=len(self.lengths)))
        if longest > mask.keys.length:
            raise AttnError(TooManyKeys(found=longest, length=mask.keys.length, pattern=mask.name, span=mask.span))
        check_inputs(mask.given, inputs, k)
        check_values(mask.given, inputs)

    def _given(self, k: object, inputs: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
        """Keys and inputs as tensors."""
        keys, _, _, tensors = arguments(self._compiled.signature, k, k, k, inputs)
        found = list(malformed({"k": keys}))
        if found:
            raise AttnError(*found)
        return keys, tensors

    def _table(self, page_table: object, k: Tensor) -> Tensor:
        """Integers [batch, pages]."""
        table = integers("page_table", page_table, k.device)
        if table.dtype not in INTEGER_TYPES:
            raise AttnError(NotIntegers(name="page_table", found=type_name(table)))
        if table.dim() != 2 or len(table) != len(self.lengths):
            raise AttnError(NotOneAnEntry(name="page_table", found=tuple(table.shape), batch=len(self.lengths)))
        if not k.shape[2]:
            raise AttnError(EmptyPages())
        return table

    def _numbers(self, name: str, value: object, default: int | None) -> Tensor:
        """int64 [batch] on the host, in 0 to `default`; a number, or none, is the same for all."""
        tensor = integers(name, default if value is None else value, self.lengths.device)
        if tensor.dtype not in INTEGER_TYPES:
            raise AttnError(NotIntegers(name=name, found=type_name(tensor)))
        if tensor.dim() and tensor.shape != self.lengths.shape:
            raise AttnError(NotOneAnEntry(name=name, found=tuple(tensor.shape), batch=len(self.lengths)))
        if is_seen(tensor):
            low, high = (int(each) for each in torch.aminmax(tensor))
            if low < 0 or (default is not None and high > default):
                room = self._compiled.plan.mask.keys.length if default is None else default
                hint = "give each batch entry the number of its keys"
                raise AttnError(KeyLength(name=name, found=low if low < 0 else high, room=room, hint=hint))
        return tensor.cpu().long().expand_as(self.lengths).clamp(min=0)
