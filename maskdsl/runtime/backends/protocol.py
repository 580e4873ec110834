"""The protocol of backends: a backend emits a module for a plan and runs it on checked calls in its own token order.

`runtime/backends/available.py` lists the backends.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from maskdsl.base.arguments import BackendName
from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.base.call import Attend, Gradients, KernelCall, Saved, TokenPositions


class Backend(ABC):
    """One way to compute a mask. Stateless: one instance serves all masks.

    Fields and methods with defaults declare capabilities; no code outside compares a backend's name.
    """

    name: ClassVar[BackendName]
    in_layout: ClassVar[bool] = False
    """Whether tensors go in and out in laid-out order; otherwise in declared order."""
    takes_some_queries: ClassVar[bool] = False
    """Whether `some_queries` may compute partial calls without gradients."""
    permutes: ClassVar[bool] = False
    """Whether it also takes tensors in declared order, where `in_layout`, and gives results in that order."""
    decodes: ClassVar[bool] = False
    """Whether partial calls may run the split-KV kernel of `runtime/kernels/split_kernel.py`; otherwise they run
    `prepared`.
    """
    finds_routes: ClassVar[bool] = False
    """Whether the Triton kernels of `runtime/kernels/route_finder.py` may compute routes; otherwise torch does."""
    gathers: ClassVar[bool] = True
    """Whether small partial calls without gradients may run `runtime/decode/gather.py`, which reads only keys that some
    query attends.
    """
    regroups: ClassVar[bool] = True
    """Whether routes may be computed in the two passes of `runtime/decode/regrouped.py`."""
    lists_routes: ClassVar[bool] = False
    """Whether routes that select few keys a query give lists on a CPU: see `ir/rewrites/listed_routes.py`."""
    writes_output: ClassVar[bool] = False
    """Whether functions of `prepared` can write the output into a tensor that is given."""
    is_dense: ClassVar[bool] = False
    """Whether it takes memory for every pair of tokens."""

    @abstractmethod
    def emit(self, plan: KernelPlan) -> str:
        """The source text of the plan's module."""

    @abstractmethod
    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        """A function for this call, and for all calls that differ from it only in the values and strides of q, k, v.

        The function returns the output [batch, heads, queries, dim] in q's dtype, and the log-sum-exp [batch, heads,
        queries], which may be None where the call does not want it.
        """

    def backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """The gradients of q, k and v, and of the `wanted` values, by identifier.

        This default computes the forward pass again under autograd, so it needs a `prepared` that torch can record.
        """
        named = {name: call.values[name].detach().requires_grad_() for name in wanted}
        leaves = [x.detach().requires_grad_() for x in (saved.q, saved.k, saved.v)]
        with torch.enable_grad():
            out, lse = self.prepared(replace(call, values={**call.values, **named}), *leaves)(*leaves)
        assert lse is not None, "calls with gradients want the log-sum-exp"
        ends = {out: saved.grad_out, lse: saved.grad_lse} if lse.requires_grad else {out: saved.grad_out}
        sources = [*leaves, *named.values()]
        q, k, v, *others = torch.autograd.grad([*ends], sources, [*ends.values()], materialize_grads=True)
        return Gradients(q, k, v, dict(zip(named, others, strict=True)))

    def prepared_backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Callable[[Saved], Gradients]:
        """`backward` of this call, and of all that differ from it only in the values and strides of saved tensors."""
        return lambda saved: self.backward(call, saved, wanted)

    def planned(self, plan: KernelPlan) -> KernelPlan:
        """The plan that it computes: of the same mask, in blocks and, if it has no order, in an order of its choice.

        Callers do not know of that order: for them tokens lie as declared.
        """
        return plan

    def tile(self, plan: KernelPlan) -> tuple[int, int]:
        """Queries and keys of a tile of this planned plan: of a tile in which any pair attends, all are computed."""
        return plan.query_block, plan.key_block

    def some_queries(
        self,
        call: KernelCall,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        positions: TokenPositions,
        target: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | None:
        """The results of a call with some queries and keys, in declared order, the output in `target` if it can be.

        None where it has no kernel of its own for such calls.
        """
        return None

    def gathers_choices(self, plan: KernelPlan) -> bool:
        """Whether it gathers the queries that a table chooses for keys itself: see `KernelPlan.chosen_pairs`."""
        return False

    def host_inputs(self, plan: KernelPlan) -> tuple[str, ...]:
        """Names of the inputs that the host reads to compute tiles or the order, which waits for the device."""
        return plan.tile_inputs

    def uncomputed_integers(self, plan: KernelPlan) -> frozenset[str]:
        """Names of the inputs of integers of any type, with which no function of the module computes in torch."""
        return frozenset()

    def finds_order(self, plan: KernelPlan) -> bool:
        """Whether the module's `layouts` computes the order of tokens on the device; otherwise the host does."""
        return False

    def computes(self, plan: KernelPlan, q: Tensor, v: Tensor) -> bool:
        """Whether it computes this plan for these tensors; otherwise the backend `tiled` does so in its place."""
        return True

    def serves(self, plan: KernelPlan, q: Tensor, v: Tensor) -> bool:
        """Whether "auto" may use it for this plan and these tensors."""
        return False

    def runs_on_cpu(self) -> bool:
        """Whether it can compute on the CPU of this machine."""
        return True
