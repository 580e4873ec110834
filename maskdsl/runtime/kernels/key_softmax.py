"""Kernels of `normalize softmax by k`: attention of the transposed mask, and one without a softmax.

With P the probabilities, P^T u is ordinary attention of keys over queries with values u: `ir/rewrites/transpose.py`.
Its log-sum-exp normalizes the keys, so that P v needs no softmax. With u the gradient of the output, P^T u is dV, and
its gradients along v are dK, dQ and those of inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.expressions import Side
from maskdsl.ir.rewrites.transpose import less_sums, transposed, without_softmax
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import Saved
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.kernels.dispatch import Forward, Kernel, blank, nothing, planned_kernel
from maskdsl.runtime.kernels.known_inputs import KnownInputs

_LARGE = 1024
"""A log-sum-exp beyond it has an error of more than 2**-14 in float32."""


class KeySoftmaxKernel(Kernel):
    """A `Kernel` of one softmax for each key. Its log-sum-exps are zeros."""

    def __init__(self, plan: KernelPlan, backend: Backend, plain: Kernel, states: CallStates) -> None:
        super().__init__(plan, backend, states)
        self.inner = planned_kernel(replace(plan, mask=transposed(plan.mask)), backend, CallStates())
        self.plain = plain
        """A kernel whose module pools tokens as the pattern does."""

    @property
    def source(self) -> str:
        """The text of the generated module, in which queries and keys have changed places."""
        return self.inner.source

    def with_pooled(
        self, side: Side, x: Tensor, values: Mapping[str, Tensor], present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As that of `Kernel`."""
        return self.plain.with_pooled(side, x, values, present)

    def prepared(
        self,
        q: Tensor,
        k: Tensor,
        inputs: Sequence[Tensor],
        layout: str,
        wants_lse: bool,
        known: KnownInputs | None = None,
    ) -> Forward:
        """As that of `Kernel`. Nothing is kept of inputs that are known."""
        inputs = [x.detach() for x in inputs]
        positions = self.inner.positions(q, inputs, layout)

        def forward(q: Tensor, k: Tensor, v: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
            if 0 in (q.shape[0], q.shape[2], k.shape[2]):
                out, lse = nothing(q, v, wants_lse, self.rows(q))
                return out, lse.zero_()
            given = q.detach(), k.detach(), v.detach()
            q, keys, values = self._tokens(given, inputs)
            sums = self._sums(q, keys, inputs, layout, positions)
            out, _ = self.multiplied.forward(q, keys, values, [*inputs, *sums], layout, False)
            return out, blank(q, v, wants_lse)[1].zero_()

        return forward

    @cached_property
    def multiplied(self) -> Kernel:
        """Multiplies values by probabilities, once the sums of keys are known."""
        return planned_kernel(replace(self.plan, mask=without_softmax(self.plan.mask)), self.backend, CallStates())

    @cached_property
    def remaining(self) -> Kernel:
        """Sums again, of scores less their sums."""
        return planned_kernel(replace(self.plan, mask=less_sums(self.plan.mask)), self.backend, CallStates())

    def _sums(
        self, q: Tensor, k: Tensor, inputs: Sequence[Tensor], layout: str, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The log-sum-exp of each key in each query head, in declared order, and what is missing to it.

        `positions` are the declared ones of keys in the caller's order. Scores that a pattern changes may be so large
        that their log-sum-exp is coarse, which a GPU is not asked.
        """
        k, nothing_multiplied = self._of_heads(k, q), _zeros(q, q.shape[2], 1)

        def sums_of(kernel: Kernel, *others: Tensor) -> Tensor:
            _, sums = kernel.forward(k, q, nothing_multiplied, [*inputs, *others], layout, True)
            sums = sums.masked_fill(sums == -torch.inf, 0).masked_fill_(sums == torch.inf, torch.nan)
            return sums if positions is None else sums.clone().scatter_(-1, positions.expand_as(sums), sums)

        sums, changed = sums_of(self.inner), bool(self.plan.mask.scores) or self.plan.mask.scale is not None
        is_coarse = bool((sums.abs() > _LARGE).any()) if sums.device.type == "cpu" else changed
        return sums, sums_of(self.remaining, sums) if is_coarse else torch.zeros_like(sums)

    def prepared_backward(
        self,
        saved: Saved,
        inputs: Sequence[Tensor],
        layout: str,
        needs: Sequence[bool],
        known: KnownInputs | None = None,
    ) -> Callable[[Saved], list[Tensor]]:
        """As that of `Kernel`."""
        return lambda saved: self.backward(saved, inputs, layout, needs)

    def backward(
        self,
        saved: Saved,
        inputs: Sequence[Tensor],
        layout: str,
        needs: Sequence[bool],
        known: KnownInputs | None = None,
    ) -> list[Tensor]:
        """As that of `Kernel`."""
        given = saved[:3]
        if 0 in (given[0].shape[0], given[0].shape[2], given[1].shape[2]):
            sources = zip((*given, *inputs), needs, strict=True)
            return [torch.zeros_like(x, memory_format=torch.contiguous_format) for x, need in sources if need]
        leaves = [x.detach().requires_grad_() for x in given]
        with torch.enable_grad():
            tokens = self._tokens(leaves, inputs)
            heads = [self._of_heads(x, saved.q) for x in tokens]
        q, keys, values = (x.detach() for x in heads)
        # A query without keys has no gradient, even if its own is NaN.
        empty = (saved.out == 0).all(dim=-1) & ~saved.grad_out.isfinite().all(dim=-1)
        grad_out = saved.grad_out.to(q.dtype).masked_fill(empty.unsqueeze(-1), 0)
        grad_v, sums = self.inner.forward(keys, q, grad_out, inputs, layout, True)
        along = Saved(keys, q, grad_out, grad_v, sums, values, torch.zeros_like(sums))
        grad_k, grad_q, *others = self.inner.backward(along, inputs, layout, [True, True, False, *needs[3:]])
        grads = torch.autograd.grad(heads, leaves, [grad_q, grad_k, grad_v])
        wanted = [grad for grad, need in zip(grads, needs, strict=False) if need]
        return [grad.contiguous() for grad in (*wanted, *others)]

    def _tokens(self, given: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        """All queries, keys and values, pooled ones included."""
        sides = (Side.QUERY, Side.KEY, Side.KEY)
        values = self.values(inputs, given[0].device) if any(map(self.pools, sides)) else {}
        return [self.all_tokens(side, x, values) for side, x in zip(sides, given, strict=True)]

    def _of_heads(self, x: Tensor, q: Tensor) -> Tensor:
        """Keys or values with a copy for each query head."""
        return x if x.shape[1] == q.shape[1] else x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


def _zeros(q: Tensor, tokens: int, dim: int) -> Tensor:
    """Zeros [batch, heads, tokens, dim] that take memory for one token."""
    return q.new_zeros(dim).expand(*q.shape[:2], tokens, dim)
