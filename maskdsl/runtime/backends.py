"""What a backend is, and which there are. `Attention` checks and lays out; a backend emits a module and runs it."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from maskdsl.arguments import BackendName
from maskdsl.emit.reference import emit_reference
from maskdsl.plan import KernelPlan
from maskdsl.runtime.call import Attend, Call, Gradients, Saved
from maskdsl.runtime.tiled import Tiled
from maskdsl.runtime.triton import Triton, interpreted


class Backend(Protocol):
    """One way to compute. Stateless: an instance is shared by all."""

    name: BackendName
    in_layout: bool
    """Takes and gives tensors in laid-out order; otherwise in declared order."""

    def emit(self, plan: KernelPlan) -> str:
        """The source text of the module."""

    def host_inputs(self, plan: KernelPlan) -> tuple[str, ...]:
        """The inputs that the host has to read, for tiles or the order: it waits for the device then."""

    def finds_order(self, plan: KernelPlan) -> bool:
        """Whether the module's `layouts` finds the order of tokens, where the inputs are; otherwise the host does."""

    def prepared(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        """What computes this call, and all others that differ from it in the values and the strides of q, k, v alone.

        It gives the output like q, and the log-sum-exp (None where it is not wanted, if the backend can do without).
        """

    def backward(self, call: Call, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """The gradients of q, k and v, and those of the wanted values, by identifier."""


class Reference:
    """Dense torch."""

    name: BackendName = "reference"
    in_layout = False

    def emit(self, plan: KernelPlan) -> str:
        return emit_reference(plan)

    def host_inputs(self, plan: KernelPlan) -> tuple[str, ...]:
        return plan.tile_inputs

    def finds_order(self, plan: KernelPlan) -> bool:
        return False

    def prepared(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        return partial(call.module.attention, inputs=call.values)

    def backward(self, call: Call, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """Computes all of it again, this time recorded by torch."""
        named = {name: call.values[name].detach().requires_grad_() for name in wanted}
        leaves = [x.detach().requires_grad_() for x in (saved.q, saved.k, saved.v)]
        with torch.enable_grad():
            out, lse = call.module.attention(*leaves, {**call.values, **named})
        ends = {out: saved.grad_out, lse: saved.grad_lse} if lse.requires_grad else {out: saved.grad_out}
        sources = [*leaves, *named.values()]
        q, k, v, *others = torch.autograd.grad([*ends], sources, [*ends.values()], materialize_grads=True)
        return Gradients(q, k, v, dict(zip(named, others, strict=True)))


def usable_backends() -> tuple[BackendName, ...]:
    """The names of the backends that can compute on the CPU here."""
    return tuple(name for name in BACKENDS if name != "triton" or interpreted())


BACKENDS: dict[BackendName, Backend] = {backend.name: backend for backend in (Triton(), Tiled(), Reference())}
