"""What the two kinds of attention have in common: their calls. What computes is behind the operators of torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from torch import Tensor, nn
from torch.compiler import is_compiling

from maskdsl.base.arguments import LayoutName
from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.base.errors.calls.lengths import ChunkLayout
from maskdsl.base.errors.calls.selection import LaidOutRoute, PartDebugged
from maskdsl.base.source import Span
from maskdsl.runtime.base.kept import in_no_mode
from maskdsl.runtime.base.validate import arguments, check_options, integers_of
from maskdsl.runtime.compiled_mask import CompiledMask, register
from maskdsl.runtime.debugging import check_reads, check_scores
from maskdsl.runtime.decode.decode_call import attend
from maskdsl.runtime.decode.paging import call_positions
from maskdsl.runtime.decode.regrouped import two_passes
from maskdsl.runtime.routing.find_op import with_partial_routed, with_routed
from maskdsl.runtime.routing.routing_state import RoutingState
from maskdsl.runtime.torch_ops.attention_op import ATTENTION
from maskdsl.runtime.torch_ops.vmap import is_mapped, unwrapped
from maskdsl.runtime.varlen import attend_packed

_NOT_GIVEN: Any = None
"""The default of what must be given, so that leaving it out is a declared error: `takes` is not for what is compiled.
"""


_Function = TypeVar("_Function")


def _typed_as(function: _Function) -> Callable[[object], _Function]:
    """The decorator of a method that has the type of another; `nn.Module` says that its calls give anything."""
    return lambda _: function


class BaseAttention(nn.Module):
    """A compiled pattern: `attention(q, k, v, **inputs)`. A module without parameters; computes where `q` is.

    Nothing of it is in a `state_dict`, and nothing changes by `to`, `half` or `train`. Copies and pickles are the same
    attention: graphs know them by one handle.
    """

    def __init__(self, compiled: CompiledMask) -> None:
        super().__init__()
        self._hold(compiled)

    def _hold(self, compiled: CompiledMask) -> None:
        """With what a call asks of it: attributes, which `torch.compile` can read."""
        self._compiled = register(compiled)
        self._handle = compiled.handle
        self._signature = compiled.signature

    @property
    def name(self) -> str:
        """The pattern's."""
        return self._signature.pattern

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that a call gives, as the pattern declares them."""
        return tuple(self._signature.inputs)

    @property
    def span(self) -> Span | None:
        """Where the pattern is declared, for errors that point there."""
        return self._signature.span

    @overload
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        return_lse: Literal[False] = ...,
        layout: LayoutName = ...,
        query_start: int | Tensor | None = ...,
        key_lengths: Tensor | None = ...,
        page_table: Tensor | None = ...,
        page_size: int | None = ...,
        routing_state: RoutingState | None = ...,
        debug: bool = ...,
        **inputs: Any,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        return_lse: Literal[True],
        layout: LayoutName = ...,
        query_start: int | Tensor | None = ...,
        key_lengths: Tensor | None = ...,
        page_table: Tensor | None = ...,
        page_size: int | None = ...,
        routing_state: RoutingState | None = ...,
        debug: bool = ...,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        return_lse: bool,
        layout: LayoutName = ...,
        query_start: int | Tensor | None = ...,
        key_lengths: Tensor | None = ...,
        page_table: Tensor | None = ...,
        page_size: int | None = ...,
        routing_state: RoutingState | None = ...,
        debug: bool = ...,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]: ...

    def forward(
        self,
        q: Tensor = _NOT_GIVEN,
        k: Tensor = _NOT_GIVEN,
        v: Tensor = _NOT_GIVEN,
        *,
        return_lse: bool = False,
        layout: LayoutName = "declared",
        query_start: int | Tensor | None = None,
        key_lengths: Tensor | None = None,
        page_table: Tensor | None = None,
        page_size: int | None = None,
        routing_state: RoutingState | None = None,
        debug: bool = False,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention over [batch, heads, tokens, head dim]; heads of k and v may divide those of q.

        Where the pattern pools keys, k and v hold those that are not pooled: see `Sequence.given`.

        `return_lse` adds the natural log-sum-exp of each query's final scores, [batch, heads, tokens]. With
        `layout="ordered"` q, k, v and the results are in the order that the pattern lays tokens out in; inputs are
        always in declared order.

        With `query_start`, a number or integers [batch], q holds some of the pattern's queries, from this one on, and k
        and v its first keys, of which each batch entry has `key_lengths` (all, if not given). With a `page_table`,
        integers [batch, pages], k and v are [pages, heads, page size, head dim]: key n of an entry is in its page
        n // page size, and there is none where the number is negative. Inputs are those of all tokens. On a GPU,
        queries outside the pattern are not found by a check, and give zeros; nor are pages that do not exist, which
        are as none, and lengths beyond the keys that there is room for, which are cut. A `routing_state` keeps what
        routes need of the keys, and adds those that it does not know yet.

        With `debug`, an index that leaves its table for a pair that attends is an error, on a GPU too and however long
        it takes to see it, and so is a score of a route that is NaN; without, it is never selected. For calls with all
        queries, and slow: on the host.
        """
        if not (type(layout) is str and type(return_lse) is type(debug) is bool):
            check_options(layout, return_lse=return_lse, debug=debug)
        if routing_state is not None and not isinstance(routing_state, RoutingState):
            expected = "what `attention.routing_state(batch)` makes, or None,"
            found = shown(routing_state)
            raise AttnError(WrongArgument(name="routing_state", found=found, expected=expected))
        q, k, v, tensors = arguments(self._signature, q, k, v, inputs)
        query_start = 0 if query_start is None and routing_state is not None else query_start
        if query_start is None and key_lengths is None and page_table is None and page_size is None:
            out, lse = self._whole(q, k, v, tensors, layout, return_lse, debug)
        else:
            where = call_positions(q, query_start, key_lengths, page_table, page_size)
            if layout != "declared":
                raise AttnError(ChunkLayout(layout=layout))
            if debug:
                raise AttnError(PartDebugged())
            if routing_state is None:
                tensors = with_partial_routed(self._compiled, q, k, tensors, where)
            elif self._signature.is_routed:
                tensors = [*tensors, *routing_state._find(self._handle, q, k, tensors, where)]
            out, lse = attend(self._handle, q, k, v, tensors, where)
        return (out, lse) if return_lse else out

    def _whole(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: list[Tensor], layout: str, wants_lse: bool, debug: bool
    ) -> tuple[Tensor, Tensor]:
        """All queries of the pattern, from given inputs."""
        if self._signature.is_routed:
            if layout != "declared":
                raise AttnError(LaidOutRoute(pattern=self._signature.pattern, span=self._signature.span))
            inputs = with_routed(self._compiled, q, k, inputs)
        if debug:
            check_reads(self._compiled.bound(q.shape[2], k.shape[2]), q, k, v, inputs)
            check_scores(self._compiled.bound(q.shape[2], k.shape[2]).plan.mask, q, k, inputs)
        if self._signature.is_routed:
            compiled = self._compiled.bound(q.shape[2], k.shape[2])
            passes = two_passes(compiled)
            if not is_compiling() and any(map(is_mapped, (q, k, v, *inputs))):
                passes = None  # the host sees no values, on which two passes depend
            if passes is not None and not is_compiling():
                with in_no_mode():
                    compiled.open_reads.check([*map(unwrapped, inputs)], q.shape[0])
            found = None if passes is None else passes.attend(q, k, v, inputs)
            if found is not None:
                return found
        out, lse = ATTENTION(q, k, v, inputs, self._handle, layout, wants_lse)
        return out, lse

    @overload
    def varlen(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor | None = ...,
        *,
        query_start: Tensor | None = ...,
        return_lse: Literal[False] = ...,
        **inputs: Any,
    ) -> Tensor: ...

    @overload
    def varlen(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor | None = ...,
        *,
        query_start: Tensor | None = ...,
        return_lse: Literal[True],
        **inputs: Any,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def varlen(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor | None = ...,
        *,
        query_start: Tensor | None = ...,
        return_lse: bool,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]: ...

    def varlen(
        self,
        q: Tensor = _NOT_GIVEN,
        k: Tensor = _NOT_GIVEN,
        v: Tensor = _NOT_GIVEN,
        cu_seqlens_q: Tensor = _NOT_GIVEN,
        cu_seqlens_k: Tensor | None = None,
        *,
        query_start: Tensor | None = None,
        return_lse: bool = False,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention within sequences of different lengths that follow each other: q is [all queries, heads, head dim].

        Sequence n has the queries `cu_seqlens_q[n]` to `cu_seqlens_q[n + 1]`, and keys likewise; both are integers
        [sequences + 1], as FlashAttention takes them. Each is the first tokens of the pattern, whose length is a bound,
        or follows the longest; inputs have one batch entry a sequence. Queries are the last tokens of their sequence
        (in cross-attention, the first), or begin at `query_start`, [sequences]. The log-sum-exp is [heads, queries].
        """
        q, k, v, tensors = arguments(self._signature, q, k, v, inputs)
        check_options("declared", return_lse=return_lse)
        cu_seqlens_q = integers_of("cu_seqlens_q", cu_seqlens_q, q.device)
        ends = cu_seqlens_q if cu_seqlens_k is None else integers_of("cu_seqlens_k", cu_seqlens_k, q.device)
        if query_start is not None:
            query_start = integers_of("query_start", query_start, q.device)
        out, lse = attend_packed(self._handle, q, k, v, tensors, cu_seqlens_q, ends, query_start)
        return (out, lse) if return_lse else out

    if TYPE_CHECKING:

        @_typed_as(forward)
        def __call__(self) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_handle", "_signature")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._hold(self._compiled)
