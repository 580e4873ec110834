"""What a backend is. `Attention` checks and lays out; a backend emits a module and runs it.

Those that there are stand in `runtime/backends/available.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from maskdsl.base.arguments import BackendName
from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.base.call import Attend, Gradients, KernelCall, Saved


class Backend(ABC):
    """One way to compute. Stateless: an instance is shared by all.

    The fields and the methods that have a default say what it can do beyond that; nothing asks for its name.
    """

    name: ClassVar[BackendName]
    in_layout: ClassVar[bool] = False
    """Takes and gives tensors in laid-out order; otherwise in declared order."""
    decodes: ClassVar[bool] = False
    """The kernel of `runtime/kernels/split_kernel.py` may compute queries that stand anywhere; otherwise `prepared`
    does it all.
    """
    finds_routes: ClassVar[bool] = False
    """The kernels of `runtime/kernels/route_finder.py` may find routes; otherwise torch does."""
    gathers: ClassVar[bool] = True
    """A few queries without gradients may be computed by `runtime/decode/gather.py`, which reads the keys alone that
    they attend.
    """
    regroups: ClassVar[bool] = True
    """Routes may be computed in the two passes of `runtime/decode/regrouped.py`."""
    is_dense: ClassVar[bool] = False
    """Takes memory for every pair of tokens."""

    @abstractmethod
    def emit(self, plan: KernelPlan) -> str:
        """The source text of the module."""

    @abstractmethod
    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        """What computes this call, and all others that differ from it in the values and the strides of q, k, v alone.

        It gives the output like q, and the log-sum-exp (None where it is not wanted, if the backend can do without).
        """

    def backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """The gradients of q, k and v, and those of the wanted values, by identifier.

        Computes all of it again, this time recorded by torch: for those whose `prepared` torch can record.
        """
        named = {name: call.values[name].detach().requires_grad_() for name in wanted}
        leaves = [x.detach().requires_grad_() for x in (saved.q, saved.k, saved.v)]
        with torch.enable_grad():
            out, lse = self.prepared(replace(call, values={**call.values, **named}), *leaves)(*leaves)
        assert lse is not None, "calls with gradients want it"
        ends = {out: saved.grad_out, lse: saved.grad_lse} if lse.requires_grad else {out: saved.grad_out}
        sources = [*leaves, *named.values()]
        q, k, v, *others = torch.autograd.grad([*ends], sources, [*ends.values()], materialize_grads=True)
        return Gradients(q, k, v, dict(zip(named, others, strict=True)))

    def host_inputs(self, plan: KernelPlan) -> tuple[str, ...]:
        """The inputs that the host has to read, for tiles or the order: it waits for the device then."""
        return plan.tile_inputs

    def finds_order(self, plan: KernelPlan) -> bool:
        """Whether the module's `layouts` finds the order of tokens, where the inputs are; otherwise the host does."""
        return False

    def serves(self, q: Tensor, v: Tensor) -> bool:
        """Whether "auto" takes it for tensors like these, where no backend before it does."""
        return False

    def runs_on_cpu(self) -> bool:
        """Whether it can compute on the CPU here."""
        return True
