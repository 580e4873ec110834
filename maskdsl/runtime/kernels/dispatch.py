"""A plan on a backend, as operators call it: permutes tokens to the backend's order and runs its generated module."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.expressions import Side
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import Attend, KernelCall, Saved
from maskdsl.runtime.base.call_cache import CallState, CallStates, curves_of
from maskdsl.runtime.base.input_tensors import as_given, as_value
from maskdsl.runtime.base.kept import NOTHING_KEPT, Kept
from maskdsl.runtime.base.module_cache import load_module
from maskdsl.runtime.base.permute import Move, moved, moves
from maskdsl.runtime.kernels.known_inputs import KnownInputs

_SIDES = (Side.QUERY, Side.KEY, Side.KEY)
"""The sides of q, k and v."""


class Kernel:
    """Computes checked calls of one plan on one backend.

    q, k and v are [batch, heads, tokens, head dim]; `inputs` are tensors in the order of declaration.
    """

    def __init__(self, plan: KernelPlan, backend: Backend, states: CallStates, hides_order: bool = False) -> None:
        self.plan = plan
        self.backend = backend
        self.states = states
        self.hides_order = hides_order
        """Whether callers do not know of the plan's order: then each layout of theirs is the declared one."""

    @cached_property
    def source(self) -> str:
        """The text of the generated module."""
        return self.backend.emit(self.plan)

    @property
    def module(self) -> ModuleType:
        """The generated module, loaded."""
        return load_module(self.source, f"{self.plan.mask.name}_{self.backend.name}")

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], layout: str, wants_lse: bool
    ) -> tuple[Tensor, Tensor]:
        """The output [batch, heads, queries, dim], and the log-sum-exp [batch, heads, queries], empty unless wanted."""
        return self.prepared(q, k, inputs, layout, wants_lse)(q, k, v, None)

    def prepared(
        self,
        q: Tensor,
        k: Tensor,
        inputs: Sequence[Tensor],
        layout: str,
        wants_lse: bool,
        known: KnownInputs | None = None,
    ) -> "Forward":
        """A function for this call, and for all calls that differ from it only in the values and strides of q, k, v."""
        if _is_empty(q, k):
            positions = self.positions(q, inputs, layout) if self.plan.mask.sinks else None

            def attend(q: Tensor, k: Tensor, v: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
                return self.without_keys(q, v, inputs, wants_lse, positions)

            return attend
        call, moves = self.moves(self.call(inputs, q, wants_lse, known), q, k, layout)
        return _PreparedCall(self, call, moves, None if wants_lse else _lse_type(q)).forward

    def rows(self, q: Tensor) -> int:
        """The number of rows of the output: its queries, where the pattern pools them."""
        return self.plan.mask.queries.length if self.pools(Side.QUERY) else q.shape[2]

    def backward(
        self,
        saved: Saved,
        inputs: Sequence[Tensor],
        layout: str,
        needs: Sequence[bool],
        known: KnownInputs | None = None,
    ) -> list[Tensor]:
        """The gradients of q, k, v and the inputs, of those that `needs` marks, in this order."""
        return self.prepared_backward(saved, inputs, layout, needs, known)(saved)

    def prepared_backward(
        self,
        saved: Saved,
        inputs: Sequence[Tensor],
        layout: str,
        needs: Sequence[bool],
        known: KnownInputs | None = None,
    ) -> "Callable[[Saved], list[Tensor]]":
        """A function for this call, and for all that differ from it only in the values and strides of saved tensors."""
        if inputs or _is_empty(saved.q, saved.k) or self.pools(Side.QUERY) or self.pools(Side.KEY):
            return lambda saved: self.gradients(saved, inputs, layout, needs, known)
        call, moves = self.moves(self.call(inputs, saved.q, wants_lse=True), saved.q, saved.k, layout)
        gradients = self.backend.prepared_backward(call, moves.saved(saved), ())

        def backward(saved: Saved) -> list[Tensor]:
            of = gradients(saved if moves is _UNMOVED else moves.saved(saved))
            grads = moves.queries_back(of.q), moves.keys_back(of.k), moves.keys_back(of.v)
            return [grad.contiguous() for grad, need in zip(grads, needs, strict=True) if need]

        return backward

    def gradients(
        self,
        saved: Saved,
        inputs: Sequence[Tensor],
        layout: str,
        needs: Sequence[bool],
        known: KnownInputs | None = None,
    ) -> list[Tensor]:
        """The results of `backward` of any call."""
        declared = [each for each, need in zip(self.plan.mask.inputs, needs[3:], strict=True) if need]
        wanted = [self.plan.input_identifiers[each.name] for each in declared]
        if _is_empty(saved.q, saved.k):
            named = self.gradients_without_keys(saved, inputs, layout, wanted)
            needed = [x for x, need in zip((saved.q, saved.k, saved.v, *inputs), needs, strict=True) if need]
            zeros = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in needed]
            first = len(zeros) - len(wanted)
            others = zip(declared, wanted, zeros[first:], strict=True)
            return [*zeros[:first], *(as_given(one, named[name]) if name in named else x for one, name, x in others)]
        call = self.call(inputs, saved.q, wants_lse=True, known=known)
        leaves = [x.detach().requires_grad_(self.pools(side)) for side, x in zip(_SIDES, saved[:3], strict=True)]
        with torch.enable_grad():
            q, k, v = tokens = [self.all_tokens(side, x, call.values) for side, x in zip(_SIDES, leaves, strict=True)]
        saved = saved._replace(q=q.detach(), k=k.detach(), v=v.detach())
        call, moves = self.moves(call, saved.q, saved.k, layout)
        gradients = self.backend.backward(call, moves.saved(saved), wanted)
        grads = [moves.queries_back(gradients.q), moves.keys_back(gradients.k), moves.keys_back(gradients.v)]
        for number, (leaf, x) in enumerate(zip(leaves, tokens, strict=True)):
            if leaf.requires_grad:
                (grads[number],) = torch.autograd.grad(x, leaf, grads[number])
        grads = [grad for grad, need in zip(grads, needs, strict=False) if need]
        grads += [as_given(each, gradients.values[name]) for each, name in zip(declared, wanted, strict=True)]
        return [grad.contiguous() for grad in grads]

    def positions(self, q: Tensor, inputs: Sequence[Tensor], layout: str) -> Tensor | None:
        """The declared positions of queries in the caller's layout; None for declared order."""
        if layout == "declared" or self.hides_order or not self.plan.order_keys:
            return None
        positions, _ = self.call(inputs, q, wants_lse=True).layout
        return positions

    def without_keys(
        self, q: Tensor, v: Tensor, inputs: Sequence[Tensor], wants_lse: bool, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The results of `forward` where there are no keys: zeros, and the log-sum-exp of sinks.

        `positions` are the declared ones of the queries; None for all of them in declared order.
        """
        out, lse = nothing(q, v, wants_lse, self.rows(q))
        if lse.numel() and self.plan.mask.sinks:
            lse = torch.stack(self.sinks(out, inputs, positions)).logsumexp(dim=0)
        return out, lse

    def sinks(self, out: Tensor, inputs: Sequence[Tensor], positions: Tensor | None) -> list[Tensor]:
        """The scores of the sinks of queries, each [batch, heads, queries]."""
        values: list[Tensor] = self.module.query_values(out, self.values(inputs, out.device), positions)
        return values[: len(self.plan.mask.sinks)]

    def gradients_without_keys(
        self, saved: Saved, inputs: Sequence[Tensor], layout: str, wanted: Sequence[str]
    ) -> dict[str, Tensor]:
        """The gradients of the `wanted` inputs, by identifier, through the log-sum-exp of sinks."""
        if not (self.plan.mask.sinks and saved.lse.numel()):
            return {}
        positions = self.positions(saved.q, inputs, layout)
        empty = saved.lse == -torch.inf
        sinks = self.sinks(saved.out, inputs, positions)
        grads = [saved.grad_lse * (sink - saved.lse).exp().masked_fill(empty, 0) for sink in sinks]
        grads += [torch.zeros_like(saved.lse)] * (self.plan.mask.factor is not None)
        values = self.values(inputs, saved.q.device)
        named: dict[str, Tensor] = self.module.query_gradients(saved.out, values, positions, wanted, grads)
        return named

    def pools(self, side: Side) -> bool:
        """Whether the pattern pools tokens of a side."""
        return self.plan.mask.sequences[side].is_pooled

    def all_tokens(self, side: Side, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Queries, or keys or values, with those that the pattern pools from them, in declared order."""
        return self.with_pooled(side, x, values)[0] if self.pools(side) else x

    def values(self, inputs: Sequence[Tensor], device: torch.device) -> dict[str, Tensor]:
        """The first inputs of the mask, and its curves, for generated functions: see `KernelCall.values`."""
        names = self.plan.input_identifiers
        values = {names[each.name]: as_value(each, x) for each, x in zip(self.plan.mask.passed, inputs, strict=False)}
        return {**values, **curves_of(self.plan, self.states)(device)}

    def with_pooled(
        self, side: Side, x: Tensor, values: Mapping[str, Tensor], present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """All tokens of a pooled side, and which are present, from those that are given: see the generated function."""
        function = getattr(self.module, f"with_pooled_{self.plan.mask.kind(side).plural}")
        tokens, there = function(x, values, present)
        return tokens, there

    def call(
        self, inputs: Sequence[Tensor], q: Tensor, wants_lse: bool, known: KnownInputs | None = None
    ) -> KernelCall:
        """The `KernelCall` of these inputs; cached for a pattern without inputs."""
        plan = self.plan
        if not plan.mask.inputs:
            state = self.states.find(plan, {}, q.shape[0])
            key = "call", self.backend.name, q.device, wants_lse
            return state.keep(key, lambda: self._make_call(state, NOTHING_KEPT, {}, {}, q, wants_lse))
        given = {each.name: x for each, x in zip(plan.mask.inputs, inputs, strict=True)}
        on_host = {name: given[name] for name in self.backend.host_inputs(plan)}
        if known is None:
            state = self.states.find(plan, on_host, q.shape[0])
            values = self._values_of(plan.mask.inputs, given)
            return self._make_call(state, NOTHING_KEPT, given, values, q, wants_lse)
        kept = known.keep((self, q.device, q.shape[:2]), Kept)
        state = kept.keep("state", lambda: self.states.find(plan, on_host, q.shape[0]))
        values = kept.keep("values", lambda: self._values_of(plan.copied_inputs, given))
        values = {**values, **self._values_of(plan.viewed_inputs, given)}
        return self._make_call(state, kept, given, values, q, wants_lse)

    def _values_of(self, inputs: Iterable[Input], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names, narrow = self.plan.input_identifiers, self.uncomputed_integers
        return {names[each.name]: as_value(each, given[each.name], each.name not in narrow) for each in inputs}

    @cached_property
    def uncomputed_integers(self) -> frozenset[str]:
        """The names of the inputs of integers that the backend takes as they are."""
        return self.backend.uncomputed_integers(self.plan)

    def _make_call(
        self,
        state: CallState,
        kept: Kept,
        given: Mapping[str, Tensor],
        values: dict[str, Tensor],
        q: Tensor,
        wants_lse: bool,
    ) -> KernelCall:
        values |= state.curves(q.device)
        if self.backend.finds_order(self.plan):
            layout = kept.keep("layout", lambda: self.module.layouts(q.device, *q.shape[:2], values))
        else:
            layout = state.layout(q.device)
        return KernelCall(self.plan, self.module, given, values, wants_lse, state, layout, kept)

    def moves(self, call: KernelCall, q: Tensor, k: Tensor, layout: str) -> "tuple[KernelCall, TokenMoves]":
        """The permutations from the caller's layout to the backend's order; the call says if the backend does them."""
        layout = "declared" if self.hides_order else layout
        if not self.plan.order_keys or layout == ("ordered" if self.backend.in_layout else "declared"):
            return call, _UNMOVED
        queries, keys = self._side_moves(call, q.device)
        differ = keys is not None and keys.positions.shape[1] > k.shape[1]
        if self.backend.permutes and not differ:
            return replace(call, permutes=True), _UNMOVED
        return call, TokenMoves(queries, keys, q.shape[1] // k.shape[1] if differ else 1)

    def _side_moves(self, call: KernelCall, device: torch.device) -> tuple[Move | None, Move | None]:
        """The permutations of queries and of keys, for a caller whose order is not the backend's."""
        on_device = self.backend.finds_order(self.plan)
        if on_device:
            queries, keys = call.kept.keep("moves", lambda: moves(call.layout))
        else:
            queries, keys = call.state.moves(device)
        return (queries, keys) if self.backend.in_layout else (queries and queries.reverse, keys and keys.reverse)


def planned_kernel(plan: KernelPlan, backend: Backend, states: CallStates) -> Kernel:
    """The kernel of a backend, for callers who know of no order but that of `plan`, whose `states` are given."""
    planned = backend.planned(plan)
    if planned is plan:
        return Kernel(plan, backend, states)
    return Kernel(planned, backend, CallStates(), hides_order=not plan.order_keys)


Forward = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Maps q, k and v to the results of `Kernel.forward`; everything else of the call is bound.

The fourth is a tensor shaped as the output and of its type, which kernels may write it into, or None.
"""


class _PreparedCall:
    """A call with everything bound but the values of q, k and v."""

    def __init__(
        self, kernel: Kernel, call: KernelCall, moves: "TokenMoves", empty_lse_type: torch.dtype | None
    ) -> None:
        self.kernel = kernel
        self.call = call
        self.moves = moves
        self.empty_lse_type = empty_lse_type
        """The dtype of the empty log-sum-exp that is returned where none is wanted; None where it is wanted."""
        self.pools = kernel.pools(Side.QUERY) or kernel.pools(Side.KEY)
        self.attend: Attend | None = None
        """The backend's function, made when the first tensors come."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """The results of `Kernel.forward`."""
        moves = self.moves
        if self.pools:
            q, k, v = (
                self.kernel.all_tokens(side, x, self.call.values) for side, x in zip(_SIDES, (q, k, v), strict=True)
            )
        if moves is not _UNMOVED:
            q, k, v = moves.queries(q), moves.keys(k), moves.keys(v)
        if self.attend is None:
            self.attend = self.kernel.backend.prepared(self.call, q, k, v)
        if target is not None and moves is _UNMOVED and self.kernel.backend.writes_output:
            out, lse = self.attend(q, k, v, out=target)
        else:
            out, lse = self.attend(q, k, v)
        if moves is not _UNMOVED:
            out = moves.queries_back(out)
        if out is not target:
            out = out.contiguous()
        if self.empty_lse_type is not None:
            return out, _no_lse(self.empty_lse_type, out.device)
        assert lse is not None
        if moves is not _UNMOVED:
            lse = moves.queries_back(lse.unsqueeze(-1)).squeeze(-1)
        return out, lse.contiguous()


class TokenMoves(NamedTuple):
    """The permutations of queries and keys from the caller's order to the backend's, and back."""

    query_move: Move | None
    key_move: Move | None
    copies: int
    """Copies of every key head: more than 1 where query heads that share it lay out keys in different orders."""

    def queries(self, x: Tensor) -> Tensor:
        """Queries in the backend's order."""
        return moved(x, self.query_move)

    def keys(self, x: Tensor) -> Tensor:
        """Keys or values in the backend's order, with their copies."""
        return moved(x if self.copies == 1 else x.repeat_interleave(self.copies, dim=1), self.key_move)

    def queries_back(self, x: Tensor) -> Tensor:
        """Results or gradients of queries in the caller's order."""
        return moved(x, self.query_move and self.query_move.reverse)

    def keys_back(self, grad: Tensor) -> Tensor:
        """dK or dV in the caller's order: the sum over the copies of each key head."""
        grad = moved(grad, self.key_move and self.key_move.reverse)
        return grad if self.copies == 1 else grad.view(len(grad), -1, self.copies, *grad.shape[2:]).sum(dim=2)

    def saved(self, saved: Saved) -> Saved:
        """Saved tensors in the backend's order."""
        lse, grad_lse = (self.queries(x.unsqueeze(-1)).squeeze(-1) for x in (saved.lse, saved.grad_lse))
        q, out, grad_out = (self.queries(x) for x in (saved.q, saved.out, saved.grad_out))
        return Saved(q, self.keys(saved.k), self.keys(saved.v), out, lse, grad_out, grad_lse)


_UNMOVED = TokenMoves(None, None, 1)
"""The caller's order is the backend's."""


@lru_cache(64)
def _no_lse(dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty tensor in place of a log-sum-exp that nobody wants: one for all calls, in inference mode or not."""
    with torch.inference_mode(False):
        return torch.empty(0, dtype=dtype, device=device)


def _lse_type(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)


def blank(q: Tensor, v: Tensor, wants_lse: bool, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """Uninitialized tensors with the shapes and dtypes of the results of `Kernel.forward`.

    `rows` is the number of queries, where the pattern pools them from those of q.
    """
    shape = (*q.shape[:2], q.shape[2] if rows is None else rows)
    return q.new_empty(*shape, v.shape[3]), q.new_empty(shape if wants_lse else 0, dtype=_lse_type(q))


def _is_empty(q: Tensor, k: Tensor) -> bool:
    """Whether there are no batch entries, no queries or no keys, and so no pairs."""
    return 0 in (q.shape[0], q.shape[2], k.shape[2])


def nothing(q: Tensor, v: Tensor, wants_lse: bool, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """The results of `Kernel.forward` where no query attends any key: zeros, and a log-sum-exp of minus infinity."""
    out, lse = blank(q, v, wants_lse, rows)
    return out.zero_(), lse.fill_(-torch.inf)
