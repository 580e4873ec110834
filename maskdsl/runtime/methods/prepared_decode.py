"""`PreparedDecode`: steps of decoding from one cache, prepared once: checks, masks, and memory for what comes out.

Made by `BaseAttention.prepare_decode`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.arguments import ChangedInput
from maskdsl.base.errors.calls.serving import ForwardOnly, OtherStep
from maskdsl.base.errors.calls.vectors import NotATensor
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import KernelCall, TokenPositions
from maskdsl.runtime.base.validate import type_name
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode.decode_call import decoded, ready
from maskdsl.runtime.decode.paging import CallPositions, fit_on_host, room
from maskdsl.runtime.methods.attention_facts import AttentionModule
from maskdsl.runtime.methods.given_out import check_out
from maskdsl.runtime.methods.prepared import states
from maskdsl.runtime.routing.routing_state import RoutingState
from maskdsl.runtime.torch_ops.attention_op import is_ordinary, needs_recording


class DecodeStep(NamedTuple):
    """What a step of decoding reads, but for the queries."""

    k: Tensor
    v: Tensor
    key_lengths: Tensor
    query_start: Tensor | None
    """None where the queries are the last of the keys."""
    page_table: Tensor | None
    routing_state: RoutingState | None
    scales: tuple[float | Tensor | None, float | Tensor | None]
    """`key_scale` and `value_scale`."""
    inputs: Mapping[str, Any]
    """By name, in declared order."""


class _ShortCall(NamedTuple):
    """What is left of a call whose arguments need not be looked at again."""

    whole: Bound
    compiled: Bound
    """The mask of partial calls."""
    backend: Backend
    room: int
    """The most keys of an entry."""
    k: Tensor
    v: Tensor
    inputs: Sequence[Tensor]
    call: KernelCall | None
    """What the backend takes for some queries, on the host; None for other backends."""


class PreparedDecode:
    """Steps of decoding: `step = attention.prepare_decode(q, k, v, key_lengths)`, called as `step(q)`.

    `q` are the queries that `step()` takes. `out` is what every call writes its output into and returns; None before
    the first call, if none was given. A copy, or an unpickled one, is prepared anew, with copies of the tensors.
    """

    q: Tensor
    out: Tensor | None

    def __init__(
        self, attention: AttentionModule, q: Tensor, step: DecodeStep, out: Tensor | None, return_lse: bool
    ) -> None:
        self.q, self.out = q, out
        self._attention, self._step, self._return_lse = attention, step, return_lse
        self._is_heads_first = attention.layout == "bhnd"
        self._starts = torch.empty_like(step.key_lengths) if step.query_start is None else step.query_start
        self._lse: Tensor | None = None
        self._short: _ShortCall | None = None
        self._was_called = False
        self._states = states(step.inputs)
        named = {"q": q, "k": step.k, "v": step.v, **step.inputs}
        if out is not None:
            check_out(out, (*q.shape[:-1], step.v.shape[-1]), named)
        _check_gradients(named)

    def __call__(self, q: Tensor | None = None) -> Any:
        """The output of one step, and the log-sum-exp if it was asked for, as a call of the attention returns them.

        Reads lengths, positions, pages and keys anew. `q` has the shape, dtype and device of the first one, which is
        taken by default. The results are the same tensors in every call. Raises `AttnError` as the attention does, and
        if `q` is another one or an input has changed.
        """
        for name, x, version, address in self._states:
            if x._version != version or x.data_ptr() != address:
                raise AttnError(ChangedInput(name=name))
        q = self.q if q is None else self._checked(q)
        short = self._short
        if short is None or torch._C._is_any_autocast_enabled() or not is_ordinary(q):
            return self._whole_call(q)
        rows = q if self._is_heads_first else q.transpose(1, 2)
        if short.call is not None:
            where = self._on_host(short)
            some = None if where is None else short.backend.some_queries(short.call, rows, short.k, short.v, where)
            if some is None:
                return self._whole_call(q)  # which says what is wrong
            out, lse = some
        else:
            positions = self._positions(rows.shape[2])
            if q.device.type == "cpu" and not fit_on_host(short.whole, rows, short.k, positions):
                return self._whole_call(q)
            out, lse = decoded(short.compiled, rows, short.k, short.v, short.inputs, positions)
        if self._is_heads_first:
            return self._returned(out, lse)
        return self._returned(out.transpose(1, 2), lse.transpose(1, 2))

    def _on_host(self, short: _ShortCall) -> TokenPositions | None:
        """Where the tokens of a step are; None if they are outside the pattern, the cache or its pages."""
        step, queries = self._step, self.q.shape[2 if self._is_heads_first else 1]
        lengths: list[int] = step.key_lengths.tolist()
        starts = [each - queries for each in lengths] if step.query_start is None else step.query_start.tolist()
        last = short.whole.plan.mask.queries.length - queries
        if min(lengths) < 0 or max(lengths) > short.room or min(starts) < 0 or max(starts) > last:
            return None
        table = step.page_table
        if table is not None:
            if int(table.max()) >= short.k.shape[0]:
                return None
            table = table.to(torch.int32).contiguous()
        return TokenPositions(tuple(starts), tuple(lengths), table)

    def _checked(self, q: object) -> Tensor:
        if not isinstance(q, Tensor):
            raise AttnError(NotATensor(name="q", found=type(q).__name__))
        first = self.q
        if q.shape != first.shape or q.dtype != first.dtype or q.device != first.device:
            given, wanted = (f"{type_name(x)} {list(x.shape)} on {x.device}" for x in (q, first))
            raise AttnError(OtherStep(given=given, wanted=wanted))
        if q.requires_grad:
            _check_gradients({"q": q})
        return q

    def _positions(self, queries: int) -> CallPositions:
        step = self._step
        if step.query_start is None:
            torch.sub(step.key_lengths, queries, out=self._starts)
        return CallPositions(self._starts, step.key_lengths, step.page_table, None)

    def _returned(self, out: Tensor, lse: Tensor | None) -> Any:
        """The results in the memory of the first ones."""
        self.out = out if self.out is None else self.out.copy_(out)
        if not self._return_lse:
            return self.out
        assert lse is not None
        self._lse = lse if self._lse is None else self._lse.copy_(lse)
        return self.out, self._lse

    def _whole_call(self, q: Tensor) -> Any:
        """A call of the attention. The first one says whether others are short."""
        step, positions = self._step, self._positions(q.shape[2 if self._is_heads_first else 1])
        results = self._attention(
            q,
            step.k,
            step.v,
            query_start=positions.query_starts,
            key_lengths=step.key_lengths,
            page_table=step.page_table,
            routing_state=step.routing_state,
            return_lse=self._return_lse,
            key_scale=step.scales[0],
            value_scale=step.scales[1],
            **step.inputs,
        )
        if not self._was_called:
            self._was_called, self._short = True, self._shortened(positions)
        return self._returned(*results) if self._return_lse else self._returned(results, None)

    def _shortened(self, positions: CallPositions) -> _ShortCall | None:
        """The short call of one that has been checked; None where the attention has more to do in each."""
        attention, step, (q, k, v) = self._attention, self._step, (self.q, self._step.k, self._step.v)
        signature = attention._signature
        converts = step.scales != (None, None) or not q.dtype == k.dtype == v.dtype
        if signature.is_routed or signature.multiplies or signature.sparse or attention._summands or converts:
            return None
        if not self._is_heads_first:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        whole = attention._compiled.bound(q.shape[2], room(k, positions))
        if 0 in (q.shape[0], q.shape[2], room(k, positions)) or (whole.checks_reads and whole.open_reads.questions):
            return None
        if any(x.is_inference() for x in step.inputs.values()):  # of which nobody knows whether they have changed
            return None
        inputs = attention._single.passed(q, k, [*step.inputs.values()], positions)
        compiled = ready(attention._handle, q, k, v, inputs, positions)
        backend, pools = compiled.kernel(q, v).backend, compiled.plan.mask.keys.is_pooled
        takes_some = backend.takes_some_queries and not backend.decodes and not pools
        call = compiled.declared_call(backend, q, inputs) if takes_some else None
        room_of_keys = min(room(k, positions), whole.plan.mask.keys.given_length)
        return _ShortCall(whole, compiled, backend, room_of_keys, k, v, inputs, call)

    def __reduce__(self) -> tuple[object, ...]:
        return PreparedDecode, (self._attention, self.q, self._step, self.out, self._return_lse)


def _check_gradients(tensors: Mapping[str, Any]) -> None:
    for name, x in tensors.items():
        if isinstance(x, Tensor) and needs_recording(x):
            hint = "prepare and call it under `torch.no_grad()`"
            raise AttnError(ForwardOnly(what="a prepared step of decoding", name=name, hint=hint))
