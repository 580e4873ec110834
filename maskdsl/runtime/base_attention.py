"""The base of both attention modules: argument handling of a call. Computation is behind torch's operators."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from torch import Tensor

from maskdsl.base.arguments import LayoutName
from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.base.errors.calls.lengths import ChunkLayout
from maskdsl.base.errors.calls.selection import PartDebugged
from maskdsl.runtime.base.processes import distributed_tensor
from maskdsl.runtime.base.tokens_first import with_tokens_first
from maskdsl.runtime.base.validate import arguments, check_options, check_sums, check_tensors, integers_of
from maskdsl.runtime.calls.summand import CallOptions
from maskdsl.runtime.compiled.compiled_mask import CompiledMask
from maskdsl.runtime.decode.cache_types import NO_SCALES, scales_of
from maskdsl.runtime.decode.paging import call_positions, room
from maskdsl.runtime.methods.given_out import check_out, written
from maskdsl.runtime.methods.prepared import PlainCall, PreparedAttention, copied
from maskdsl.runtime.methods.prepared_decode import DecodeStep, PreparedDecode
from maskdsl.runtime.methods.varlen_attention import NO_DROPOUT, NOT_GIVEN, VarlenAttention
from maskdsl.runtime.routing.routing_state import RoutingState
from maskdsl.runtime.routing.selected_tables import SelectedTables
from maskdsl.runtime.routing.shared_routes import SharedRoutes
from maskdsl.runtime.torch_ops.dropped_mask import DroppedMask, drops
from maskdsl.runtime.torch_ops.hold_op import held_inputs

_Function = TypeVar("_Function")


def _typed_as(function: _Function) -> Callable[[object], _Function]:
    """A decorator that gives a method the type of `function`; the type of `nn.Module.__call__` returns anything."""
    return lambda _: function


class BaseAttention(VarlenAttention):
    """The calls of both attention modules."""

    def _hold(self, compiled: CompiledMask) -> None:
        super()._hold(compiled)
        drops = isinstance(compiled, DroppedMask)
        self._dropping: tuple[BaseAttention, ...] = (
            () if drops else (BaseAttention(DroppedMask(compiled), self._tokens_first),)
        )

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
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        debug: bool = ...,
        return_routes: Literal[False] = ...,
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
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
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        debug: bool = ...,
        return_routes: Literal[False] = ...,
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
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
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        debug: bool = ...,
        return_routes: Literal[False] = ...,
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]: ...

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
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        debug: bool = ...,
        return_routes: Literal[True],
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
        **inputs: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]: ...

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
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        debug: bool = ...,
        return_routes: Literal[True],
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]: ...

    def forward(
        self,
        q: Tensor = NOT_GIVEN,
        k: Tensor = NOT_GIVEN,
        v: Tensor = NOT_GIVEN,
        *,
        return_lse: bool = False,
        layout: LayoutName = "declared",
        query_start: int | Tensor | None = None,
        key_lengths: Tensor | None = None,
        page_table: Tensor | None = None,
        page_size: int | None = None,
        routing_state: RoutingState | None = None,
        dropout_p: float = NO_DROPOUT,
        seed: int | Tensor | None = None,
        debug: bool = False,
        return_routes: bool = False,
        key_scale: float | Tensor | None = None,
        value_scale: float | Tensor | None = None,
        out: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor | tuple[Any, ...]:
        """Attention of q [batch, heads, queries, head dim] over k and v [batch, key heads, keys, head dim].

        All three have one dtype (float64, float32, bfloat16 or float16) and one device; `key heads` divides `heads`,
        and v may have another head dim. Returns the output [batch, heads, queries, head dim of v] in the dtype of q.
        `return_lse` adds the natural log-sum-exp of each query's final scores, [batch, heads, queries], in float32 or
        wider. Where the pattern pools keys, k and v hold the keys before pooling. `inputs` are the pattern's, by name,
        in declared order. With `layout="ordered"` q, k, v and the results are in laid-out order.

        A partial call has `query_start`, a number or integers [batch]: q holds the queries from this position on, and
        k and v the first keys, `key_lengths` [batch] of them per entry (by default all). With a `page_table`, integers
        [batch, pages], k and v are [pages, key heads, page size, head dim]: key n of an entry is in page
        `page_table[entry, n // page size]`, and absent if that is negative. Inputs are those of all tokens.
        `routing_state` holds summaries of the keys for routes; the call adds new keys to it. On a GPU positions are not
        checked: queries outside the pattern give zeros, pages that do not exist count as absent, and lengths are cut to
        the keys that there is room for.

        In a partial call keys and values may be of other types than q, float8_e4m3fn and float8_e5m2 too. They are read
        as they are and multiplied by `key_scale` and `value_scale`, a number or floats [key heads]. Products are
        computed in float32 at least, and there are no gradients.

        `dropout_p` drops pairs, after the softmax and before weights. A pair is kept where `random(seed, batch, head,
        q, k)` is at least `dropout_p * 2 ** 31`, by declared positions and heads of the whole attention, and divided by
        `1 - dropout_p`. `seed` is an integer, or a tensor of one. So the same pairs are dropped on every backend, in
        every layout, in chunks and in gradients.

        `debug` also raises, on any device, where an attending pair reads outside a table or the score of a route is NaN
        (which is otherwise never selected). It is slow, runs on the host, and serves calls with all queries only.

        `return_routes` adds, last, what was selected: a dictionary by the names of routes. A table, bool [batch, heads,
        query groups, key groups], says which groups each group of queries has selected; it has no heads where all
        select the same, and key heads where those that share one do. In a partial call its rows are the queries of the
        call. Of clusters it has, by `name_queries` and `name_keys`, the cluster of each token. Inputs of the same names
        give them to `Mask.tiles`, `stats` and `explain`.

        `out` is a tensor that the output is written into, and that is returned in its place: of the output's shape, in
        the dtype and on the device of q, with any strides, but in no memory of the arguments. There are no gradients.

        An attention that was compiled with `layout="bnhd"` takes tokens before heads everywhere: q as [batch, queries,
        heads, head dim], pages as [pages, page size, key heads, head dim]. It returns views in which they come first,
        and a log-sum-exp [batch, queries, heads]. Tokens of a single space may have its axes, in q, in k and v, or in
        all: q as [batch, h, w, heads, head dim] gives results with the axes [batch, h, w, heads].

        Raises `AttnError` for tensors, inputs or options that do not fit the pattern.
        """
        if not (type(layout) is str and type(return_lse) is type(debug) is type(return_routes) is bool):
            check_options(layout, return_lse=return_lse, debug=debug, return_routes=return_routes)
        if routing_state is not None and not isinstance(routing_state, RoutingState):
            expected = "what `attention.routing_state(batch)` makes, or None,"
            raise AttnError(WrongArgument(name="routing_state", found=shown(routing_state), expected=expected))
        has_dropout = not (type(dropout_p) is int and dropout_p == 0 and seed is None) and drops(dropout_p, seed)
        is_shared = type(q) is not Tensor and isinstance(q, distributed_tensor())
        if has_dropout or is_shared:
            named: dict[str, Any] = {**inputs, "return_lse": return_lse, "layout": layout, "debug": debug}
            named |= {"query_start": query_start, "key_lengths": key_lengths, "routing_state": routing_state}
            named |= {"page_table": page_table, "page_size": page_size, "return_routes": return_routes, "out": out}
            named |= {"key_scale": key_scale, "value_scale": value_scale}
            if has_dropout:
                results: Tensor | tuple[Any, ...] = self._dropped("forward", (q, k, v), dropout_p, seed, named)
                return results
            from maskdsl.runtime.methods.distributed_call import attend_shards  # start-up time

            return attend_shards(self, BaseAttention, (q, k, v), named)
        q, k, v, given = arguments(self._signature, q, k, v, inputs)
        tensors = given
        axes: tuple[int, ...] = q.shape[1:-2]
        if out is not None:
            named = {"q": q, "k": k, "v": v, **dict(zip(self.inputs, given, strict=True))}
            check_out(out, None if self._signature.pools_queries else (*q.shape[:-1], v.shape[-1]), named)
        if return_lse:
            check_sums(self._signatures)
        if self._tokens_first is not None:
            q, k, v = self._tokens_first.heads_first(q, k, v, layout)
        if not (q.dim() == k.dim() == v.dim() == 4):
            check_tensors(q, k, v, layout)
        query_start = 0 if query_start is None and routing_state is not None else query_start
        positions = None
        if not (query_start is None and key_lengths is None and page_table is None and page_size is None):
            positions = call_positions(q, query_start, key_lengths, page_table, page_size)
            if layout != "declared":
                raise AttnError(ChunkLayout(layout=layout))
            if debug:
                raise AttnError(PartDebugged())
        scales = NO_SCALES if key_scale is value_scale is None else scales_of(key_scale, value_scale, k, positions)
        if self._signature.sparse:
            lengths = q.shape[2], k.shape[2] if positions is None else room(k, positions)
            tensors = held_inputs(self._single.handle.in_graphs(), self._signature, tensors, lengths, q.device)
        routes = SharedRoutes() if self._summands else None
        selected = SelectedTables() if return_routes else None
        options = CallOptions(layout, return_lse, debug, positions, routing_state, routes, selected, scales=scales)
        if self._summands:
            result, lses = self._added(q, k, v, tensors, options)
        else:
            if out is not None and out.dim() == 4 and not self._signature.pools_queries:
                options = options._replace(target=out if self._tokens_first is None else out.transpose(1, 2))
            result, lse = self._single.attended(q, k, v, tensors, options)
            lses = [lse]
        if self._tokens_first is not None:
            axes = self._pooled_axes(axes, k, result) if self._signature.pools_queries else axes
            result = with_tokens_first(result, axes)
            lses = [with_tokens_first(lse, axes) for lse in lses] if return_lse else lses
        if out is not None:
            result = written(out, result)
        if selected is not None:
            return (result, *((self._of_branches(lses, dim=1),) if return_lse else ()), selected.tables)
        return (result, self._of_branches(lses, dim=1)) if return_lse else result

    def prepare(self, **inputs: Any) -> PreparedAttention:
        """This attention with its inputs: `attend(q, k, v)` for `attention(q, k, v, **inputs)`, in less time.

        For a step of many layers, forward and backward. The inputs are checked once, and tiles, orders and per-token
        tables are computed from them by the first call of each kind (of batch, dtype, device and stream); while a CUDA
        graph is captured, by every call. Lists and arrays are copied; tensors are not, so that gradients reach those
        that have them. Prepare again where an input changes, as a learned one does in each step: an input that torch
        has written to is an error of the next call. Writes that torch does not count, through `.data`, by NumPy, by
        collectives or kernels of another library, and those to tensors made in inference mode go unnoticed, but in
        graphs of torch.compile. Raises `AttnError` for inputs that are missing, unknown or of a wrong shape or type.
        """
        plain = None if self._summands else PlainCall(self._signature, self._single, self._tokens_first)
        return PreparedAttention(self, self._signature, inputs, plain)

    def prepare_decode(
        self,
        q: Tensor = NOT_GIVEN,
        k: Tensor = NOT_GIVEN,
        v: Tensor = NOT_GIVEN,
        *,
        key_lengths: Tensor = NOT_GIVEN,
        query_start: Tensor | None = None,
        page_table: Tensor | None = None,
        routing_state: RoutingState | None = None,
        return_lse: bool = False,
        key_scale: float | Tensor | None = None,
        value_scale: float | Tensor | None = None,
        out: Tensor | None = None,
        **inputs: Any,
    ) -> PreparedDecode:
        """Steps of decoding from one cache: `step(q)` for a partial call with these arguments, in less time.

        They are those of `forward`, as tensors: `key_lengths`, integers [batch], `query_start`, integers [batch], by
        default such that queries are the last of the keys, and `page_table`. Each step reads their values, and k and v,
        where they are: write to them between steps. Lists and arrays of inputs are copied. What does not change is
        computed by the first call, and each step writes its output to the same memory, `out` if it is given. On a GPU a
        step does not wait for it, so that a CUDA graph can hold one, captured after a first call, and serve all
        lengths. The results have the bits of `forward`. Raises `AttnError` for arguments that do not fit, and where one
        requires a gradient.
        """
        q, k, v, tensors = arguments(self._signature, q, k, v, copied(inputs))
        check_options("declared", return_lse=return_lse)
        lengths = integers_of("key_lengths", key_lengths, q.device)
        start = None if query_start is None else integers_of("query_start", query_start, q.device)
        table = None if page_table is None else integers_of("page_table", page_table, q.device)
        given = dict(zip(self.inputs, tensors, strict=True))
        step = DecodeStep(k, v, lengths, start, table, routing_state, (key_scale, value_scale), given)
        return PreparedDecode(self, q, step, out, return_lse)

    if TYPE_CHECKING:

        @_typed_as(forward)
        def __call__(self) -> None: ...
