"""One plan for one backend: what operators call. Lays tokens out, and hands them to the backend's generated module."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import Attend, KernelCall, Saved
from maskdsl.runtime.base.call_cache import CallState, CallStates
from maskdsl.runtime.base.input_tensors import as_given, as_value
from maskdsl.runtime.base.module_cache import load_module
from maskdsl.runtime.base.permute import Move, moved, moves


class Kernel:
    """Computes checked calls. q, k and v are [batch, heads, tokens, head dim], inputs in declared order."""

    def __init__(self, plan: KernelPlan, backend: Backend, states: CallStates) -> None:
        self.plan = plan
        self.backend = backend
        self.states = states

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
        """The output, and the log-sum-exp [batch, heads, tokens]; empty unless wanted."""
        return self.prepared(q, k, inputs, layout, wants_lse)(q, k, v)

    def prepared(self, q: Tensor, k: Tensor, inputs: Sequence[Tensor], layout: str, wants_lse: bool) -> "Forward":
        """What computes this call, and all that differ from it in the values and the strides of q, k and v alone."""
        if _is_empty(q, k):
            return lambda q, k, v: nothing(q, v, wants_lse)
        call = self.call(inputs, q, wants_lse)
        return _Prepared(self, call, self.route(call, q, k, layout), None if wants_lse else _lse_type(q)).forward

    def backward(self, saved: Saved, inputs: Sequence[Tensor], layout: str, needs: Sequence[bool]) -> list[Tensor]:
        """The gradients of those of q, k, v and the inputs that need one."""
        needed = [x for x, need in zip((saved.q, saved.k, saved.v, *inputs), needs, strict=True) if need]
        if _is_empty(saved.q, saved.k):
            return [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in needed]
        declared = [each for each, need in zip(self.plan.mask.inputs, needs[3:], strict=True) if need]
        wanted = [self.plan.input_identifiers[each.name] for each in declared]
        call = self.call(inputs, saved.q, wants_lse=True)
        given = [x.detach().requires_grad_(self.plan.mask.keys.is_pooled) for x in (saved.k, saved.v)]
        with torch.enable_grad():
            k, v = (self.all_keys(x) for x in given)
        saved = saved._replace(k=k.detach(), v=v.detach())
        route = self.route(call, saved.q, saved.k, layout)
        found = self.backend.backward(call, route.taken(saved), wanted)
        grads = [route.queries_back(found.q), route.keys_back(found.k), route.keys_back(found.v)]
        if self.plan.mask.keys.is_pooled:
            grads[1:] = torch.autograd.grad((k, v), given, grads[1:])
        grads = [grad for grad, need in zip(grads, needs, strict=False) if need]
        grads += [as_given(each, found.values[name]) for each, name in zip(declared, wanted, strict=True)]
        return [grad.contiguous() for grad in grads]

    def all_keys(self, x: Tensor) -> Tensor:
        """Keys or values with those pooled from them, in declared order."""
        if not self.plan.mask.keys.is_pooled:
            return x
        found: Tensor = self.module.with_pooled(x)[0]
        return found

    def call(self, inputs: Sequence[Tensor], q: Tensor, wants_lse: bool) -> KernelCall:
        """A call; of a pattern without inputs the same for all."""
        plan = self.plan
        if not plan.mask.inputs:
            state = self.states.find(plan, {}, q.shape[0])
            key = "call", self.backend.name, q.device, wants_lse
            return state.keep(key, lambda: self.made(state, {}, q, wants_lse))
        given = {each.name: x for each, x in zip(plan.mask.inputs, inputs, strict=True)}
        known = {name: given[name] for name in self.backend.host_inputs(plan)}
        return self.made(self.states.find(plan, known, q.shape[0]), given, q, wants_lse)

    def made(self, state: CallState, given: Mapping[str, Tensor], q: Tensor, wants_lse: bool) -> KernelCall:
        names = self.plan.input_identifiers
        values = {names[each.name]: as_value(each, given[each.name]) for each in self.plan.mask.inputs}
        values |= state.curves(q.device)
        if self.backend.finds_order(self.plan):
            layout = self.module.layouts(q.device, *q.shape[:2], values)
        else:
            layout = state.layout(q.device)
        return KernelCall(self.plan, self.module, given, values, wants_lse, state, layout)

    def route(self, call: KernelCall, q: Tensor, k: Tensor, layout: str) -> "TokenMoves":
        if not self.plan.order_keys or layout == ("ordered" if self.backend.in_layout else "declared"):
            return _AS_GIVEN
        queries, keys = self.moves(call, q.device)
        apart = keys is not None and keys.positions.shape[1] > k.shape[1]
        return TokenMoves(queries, keys, q.shape[1] // k.shape[1] if apart else 1)

    def moves(self, call: KernelCall, device: torch.device) -> tuple[Move | None, Move | None]:
        """From the order of the caller, which is not the backend's."""
        found = self.backend.finds_order(self.plan)
        queries, keys = moves(call.layout) if found else call.state.moves(device)
        return (queries, keys) if self.backend.in_layout else (queries and queries.reverse, keys and keys.reverse)


Forward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""The results of `Kernel.forward`, all but q, k and v being settled."""


class _Prepared:
    """A call that is settled but for the values of q, k and v."""

    def __init__(self, kernel: Kernel, call: KernelCall, route: "TokenMoves", unwanted: torch.dtype | None) -> None:
        self.kernel = kernel
        self.call = call
        self.route = route
        self.unwanted = unwanted
        """The type of a log-sum-exp that nobody wants; None where it is wanted."""
        self.pools = kernel.plan.mask.keys.is_pooled
        self.attend: Attend | None = None
        """The backend's part, made for the first tensors that come to it."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        route = self.route
        if self.pools:
            k, v = self.kernel.all_keys(k), self.kernel.all_keys(v)
        if route is not _AS_GIVEN:
            q, k, v = route.queries(q), route.keys(k), route.keys(v)
        if self.attend is None:
            self.attend = self.kernel.backend.prepared(self.call, q, k, v)
        out, lse = self.attend(q, k, v)
        if route is not _AS_GIVEN:
            out = route.queries_back(out)
        if self.unwanted is not None:
            return out.contiguous(), out.new_empty(0, dtype=self.unwanted)
        assert lse is not None
        if route is not _AS_GIVEN:
            lse = route.queries_back(lse.unsqueeze(-1)).squeeze(-1)
        return out.contiguous(), lse.contiguous()


class TokenMoves(NamedTuple):
    """The way of tokens from the order of the caller to that of the backend, and back."""

    to_queries: Move | None
    to_keys: Move | None
    copies: int
    """Of every key head: where heads of queries that share one lay out keys in orders of their own."""

    def queries(self, x: Tensor) -> Tensor:
        return moved(x, self.to_queries)

    def keys(self, x: Tensor) -> Tensor:
        return moved(x if self.copies == 1 else x.repeat_interleave(self.copies, dim=1), self.to_keys)

    def queries_back(self, x: Tensor) -> Tensor:
        return moved(x, self.to_queries and self.to_queries.reverse)

    def keys_back(self, grad: Tensor) -> Tensor:
        """The gradient of a key head is the sum of those of its copies."""
        grad = moved(grad, self.to_keys and self.to_keys.reverse)
        return grad if self.copies == 1 else grad.view(len(grad), -1, self.copies, *grad.shape[2:]).sum(dim=2)

    def taken(self, saved: Saved) -> Saved:
        lse, grad_lse = (self.queries(x.unsqueeze(-1)).squeeze(-1) for x in (saved.lse, saved.grad_lse))
        q, out, grad_out = (self.queries(x) for x in (saved.q, saved.out, saved.grad_out))
        return Saved(q, self.keys(saved.k), self.keys(saved.v), out, lse, grad_out, grad_lse)


_AS_GIVEN = TokenMoves(None, None, 1)
"""The order of the caller is that of the backend."""


def _lse_type(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)


def blank(q: Tensor, v: Tensor, wants_lse: bool) -> tuple[Tensor, Tensor]:
    """Tensors like the results of `Kernel.forward`, with anything in them."""
    out = q.new_empty(*q.shape[:3], v.shape[3])
    return out, q.new_empty(q.shape[:3] if wants_lse else 0, dtype=_lse_type(q))


def _is_empty(q: Tensor, k: Tensor) -> bool:
    """No entries, no queries or no keys: there are no pairs."""
    return 0 in (q.shape[0], q.shape[2], k.shape[2])


def nothing(q: Tensor, v: Tensor, wants_lse: bool) -> tuple[Tensor, Tensor]:
    """The results of `Kernel.forward` where no query attends anything."""
    out, lse = blank(q, v, wants_lse)
    return out.zero_(), lse.fill_(-torch.inf)
