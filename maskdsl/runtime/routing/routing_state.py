"""`RoutingState`: summaries of cached keys, updated as keys are added, by which queries select without the cache."""

from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from maskdsl.base.arguments import TensorLayout
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.arguments import OutsideMap
from maskdsl.base.errors.calls.lengths import EmptyPages, KeyLength, NotIntegers, NotOneAnEntry, NotOneAxis, TooManyKeys
from maskdsl.base.errors.calls.selection import OtherState, PooledState, StateBatch
from maskdsl.base.errors.calls.vectors import NotFourAxes
from maskdsl.runtime.base.passed_inputs import passed
from maskdsl.runtime.base.validate import (
    INTEGER_TYPES,
    arguments,
    check_inputs,
    check_values,
    integers_of,
    malformed,
    type_name,
)
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode.paging import (
    CallPositions,
    all_keys,
    checked_mask,
    existing_pages,
    integers,
    is_on_host,
    normalized,
    page_rows,
    room,
)
from maskdsl.runtime.kernels.key_summaries import Summaries, sum_type
from maskdsl.runtime.routing.find_op import all_queries


class RoutingState:
    """Summaries of cached keys for the routes of one attention: sums, maxima, group sizes, nearest centroids.

    Make it by `attention.routing_state(batch)` (first `.at(length)` if lengths follow tensors)
    and pass it to calls as `routing_state`. Each call first adds the keys that are new, and selects what it would
    select without the state. Routes that choose single keys (`knn`) or all at once (`balanced`) still read the cache.
    Lengths are on the host: a call waits for `key_lengths` that are on a GPU, and breaks the graph of `torch.compile`.
    Raises `AttnError` for patterns that pool keys.
    """

    def __init__(self, compiled: Bound, batch: int, layout: TensorLayout = "bhnd") -> None:
        mask = compiled.plan.mask
        if mask.keys.is_pooled:
            raise AttnError(PooledState(pattern=mask.name, span=mask.span))
        self._compiled, self._layout = compiled, layout
        self.lengths = torch.zeros(batch, dtype=torch.int64, device="cpu")
        """int64 [batch] on the host: the number of keys of each entry that have been added."""
        self._summaries: Summaries = compiled.partial_route_finder.summaries()

    # Keys that come and go

    def append(self, k: Tensor, lengths: object = None, **inputs: Any) -> None:
        """Adds new keys k [batch, key heads, new, head dim], or in the attention's layout, after those of the state.

        `lengths`, a number or integers [batch], says how many of them each entry has; by default all. `inputs` are
        those of a call, for all tokens. Raises `AttnError` for keys or inputs that do not fit.
        """
        k, tensors = self._given(k, inputs)
        counts = self._numbers("lengths", lengths, k.shape[2])
        self._extend(k, self.lengths + counts, None, tensors)

    def update(self, k: Tensor, key_lengths: object = None, page_table: object = None, **inputs: Any) -> None:
        """Makes the state one of the first `key_lengths` keys of a cache: adds new keys, forgets later ones.

        `k`, `key_lengths`, `page_table` and `inputs` are those of a call, which does the same by itself. If cached keys
        were overwritten, `truncate` the state first. Raises `AttnError` for arguments that do not fit.
        """
        k, tensors = self._given(k, inputs)
        self._follow(k, key_lengths, None if page_table is None else self._table(page_table, k), tensors)

    def truncate(self, lengths: object) -> None:
        """Forgets all but the first `lengths` keys of each entry; `lengths` is a number or integers [batch].

        A group that loses keys is forgotten whole. The state's own `lengths` is then less than asked for, and the next
        call adds the missing keys again from the cache. If groups depend on inputs, all keys are forgotten.
        """
        kept = torch.minimum(self._numbers("lengths", lengths, None), self.lengths)
        for entry in (kept < self.lengths).nonzero().flatten().tolist():
            kept[entry] = self._summaries.forget(entry, int(kept[entry]), int(self.lengths[entry]))
        self.lengths = kept

    def reorder(self, entries: object) -> None:
        """Batch entry n becomes a copy of entry `entries[n]`, as in beam search; `entries` are integers of any number.

        Raises `AttnError` for entries that do not exist.
        """
        chosen, count = integers_of("entries", entries, torch.device("cpu")).cpu().long(), len(self.lengths)
        if chosen.dim() != 1:
            raise AttnError(NotOneAxis(name="entries", found=tuple(chosen.shape)))
        outside = [each for each in chosen.tolist() if not 0 <= each < count]
        if outside:
            raise AttnError(OutsideMap(what="batch entry", number=outside[0], last=count - 1))
        self.lengths = self.lengths[chosen]
        self._summaries = self._summaries.entries(chosen)

    def clone(self) -> "RoutingState":
        """An independent copy."""
        other = copy(self)
        other.reorder(torch.arange(len(self.lengths), device="cpu"))
        return other

    def __getstate__(self) -> tuple[object, ...]:
        return self._compiled, self._layout, self.lengths, self._summaries.tensors, self._summaries.key_heads

    def __setstate__(self, kept: tuple[Any, ...]) -> None:
        self._compiled, self._layout, self.lengths, tensors, key_heads = kept
        self._summaries = self._compiled.partial_route_finder.summaries()
        self._summaries.tensors, self._summaries.key_heads = dict(tensors), key_heads

    # Calls

    @_disable_dynamo  # as `torch.compiler.disable`, which takes a second to import, at the first call
    def _find(
        self, handle: str, q: Tensor, k: Tensor, inputs: Sequence[Tensor], positions: CallPositions
    ) -> list[Tensor]:
        """The routed inputs of a partial call of the mask of this handle. Adds new keys first."""
        compiled = checked_mask(handle, q, k, k, positions)
        mask = compiled.plan.mask
        if compiled.handle != self._compiled.handle:
            raise AttnError(OtherState(pattern=mask.name, other=self._compiled.plan.mask.name, span=mask.span))
        if len(q) != len(self.lengths):
            raise AttnError(StateBatch(found=len(q), batch=len(self.lengths)))
        with torch._C.DisableTorchFunction():  # as inside of operators: no default device of the caller
            starts, lengths, table = normalized(compiled, q, k, positions)
            self._follow(k, positions.key_lengths, positions.page_table, inputs)
            keys = cache(lambda: all_keys(compiled, k, lengths, table, inputs)[0])
            queries = all_queries(compiled, q, starts, lengths)
            available = min(room(k, positions), mask.keys.length)
            return compiled.partial_route_finder.find(q, queries, self._summaries, available, keys, inputs)

    def _follow(self, k: Tensor, key_lengths: object, table: Tensor | None, inputs: Sequence[Tensor]) -> None:
        """Adds and forgets keys so that the state is one of the first keys of a cache."""
        most = k.shape[2] * (1 if table is None else table.shape[1])
        ends = self._numbers("key_lengths", key_lengths, most).clamp(
            max=min(most, self._compiled.plan.mask.keys.length)
        )
        if bool((ends < self.lengths).any()):
            self.truncate(ends)
        new = int((ends - self.lengths).max()) if len(ends) else 0
        if not new and self._summaries.tensors:
            return
        positions = (self.lengths[:, None] + torch.arange(new, device="cpu")).clamp(max=most - 1).to(k.device)
        rows, exists = page_rows(k, positions, None if table is None else existing_pages(table, len(k)))
        self._extend(rows, ends, exists, inputs)

    def _extend(self, k: Tensor, ends: Tensor, exists: Tensor | None, inputs: Sequence[Tensor]) -> None:
        """Adds keys after the known ones, up to `ends`, int64 [batch]; only those that exist, bool [batch, new]."""
        self._check(k, ends, inputs)
        positions = self.lengths[:, None] + torch.arange(k.shape[2], device="cpu")
        present = (positions < ends[:, None]).to(k.device)
        present = present if exists is None else present & exists
        k = k.detach().masked_fill(~present[:, None, :, None], 0).to(sum_type(k))
        values = self._compiled.partial_route_finder.values(len(k), k.device, inputs)
        self._summaries.add(k, positions.to(k.device), present, values)
        self.lengths = ends

    # Checks

    def _check(self, k: Tensor, ends: Tensor, inputs: Sequence[Tensor]) -> None:
        """Raises if keys or inputs do not fit the state."""
        mask, longest = self._compiled.plan.mask, int(ends.max()) if len(ends) else 0
        if k.dim() != 4:
            raise AttnError(NotFourAxes(name="k", shape=tuple(k.shape)))
        if len(k) != len(self.lengths):
            raise AttnError(StateBatch(found=len(k), batch=len(self.lengths)))
        if longest > mask.keys.length:
            raise AttnError(TooManyKeys(found=longest, length=mask.keys.length, pattern=mask.name, span=mask.span))
        check_inputs(mask.passed, inputs, k)
        check_values(mask.passed, inputs)

    def _given(self, k: object, inputs: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
        """Keys and inputs as tensors. Raises if they are none."""
        keys, _, _, tensors = arguments(self._compiled.signature, k, k, k, inputs)
        if keys.dim() == 4:
            tensors = passed(self._compiled.signature, tensors, len(self.lengths), keys.shape[3], keys.device)
        errors = list(malformed({"k": keys}))
        if errors:
            raise AttnError(*errors)
        return keys if self._layout == "bhnd" else keys.transpose(1, 2), tensors

    def _table(self, page_table: object, k: Tensor) -> Tensor:
        """The page table as integers [batch, pages]. Raises if it is none."""
        table = integers("page_table", page_table, k.device)
        if table.dtype not in INTEGER_TYPES:
            raise AttnError(NotIntegers(name="page_table", found=type_name(table)))
        if table.dim() != 2 or len(table) != len(self.lengths):
            raise AttnError(NotOneAnEntry(name="page_table", found=tuple(table.shape), batch=len(self.lengths)))
        if not k.shape[2]:
            raise AttnError(EmptyPages())
        return table

    def _numbers(self, name: str, value: object, default: int | None) -> Tensor:
        """int64 [batch] on the host, from 0 to `default`; one number, or the default for None, serves all entries."""
        tensor = integers(name, default if value is None else value, self.lengths.device)
        if tensor.dtype not in INTEGER_TYPES:
            raise AttnError(NotIntegers(name=name, found=type_name(tensor)))
        if tensor.dim() and tensor.shape != self.lengths.shape:
            raise AttnError(NotOneAnEntry(name=name, found=tuple(tensor.shape), batch=len(self.lengths)))
        if is_on_host(tensor):
            low, high = (int(each) for each in torch.aminmax(tensor))
            if low < 0 or (default is not None and high > default):
                most = self._compiled.plan.mask.keys.length if default is None else default
                hint = "give each batch entry the number of its keys"
                raise AttnError(KeyLength(name=name, found=low if low < 0 else high, room=most, hint=hint))
        return tensor.cpu().long().expand_as(self.lengths).clamp(min=0)
