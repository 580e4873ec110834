"""Masses of value terms: for every query, the probabilities of its pairs summed by the entry of a table they choose.

They are derivatives: of attention over values of one, whose weights are multiples of a table, by that table. So the
backward pass that every backend has computes them, forward and backward.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskdsl.runtime.compiled.compiled_mask import find
from maskdsl.runtime.torch_ops.attention_op import BACKWARD
from maskdsl.runtime.torch_ops.gather_ops import Attend


class _Masses(torch.autograd.Function):
    """Maps queries, keys, the log-sum-exp and inputs to the masses of the input number `table`."""

    @staticmethod
    def forward(
        ctx: Any, handle: str, table: int, q: Tensor, k: Tensor, ones: Tensor, lse: Tensor, *inputs: Tensor
    ) -> Tensor:
        ctx.handle, ctx.table = handle, table
        ctx.save_for_backward(q, k, ones, lse, *inputs)
        needs = [False, False, False, *(number == table for number in range(len(inputs)))]
        (masses,) = _backward(handle, q, k, ones, lse, inputs, needs)
        return masses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        q, k, ones, lse, *inputs = ctx.saved_tensors
        inputs[ctx.table] = grad
        needs = [*ctx.needs_input_grad[2:4], False, *ctx.needs_input_grad[6:]]
        needs[3 + ctx.table] = False
        computed = iter(_backward(ctx.handle, q, k, ones, lse, inputs, needs) if any(needs) else ())
        q_grad, k_grad, _, *others = (next(computed) if need else None for need in needs)
        return None, None, q_grad, k_grad, None, None, *others


def _backward(
    handle: str, q: Tensor, k: Tensor, ones: Tensor, lse: Tensor, inputs: Sequence[Tensor], needs: list[bool]
) -> list[Tensor]:
    """The gradients of the sum of the output. An output of zero leaves out what normalization takes off.

    The gradient of the output that the caller already knows has taken it off for all that adds to the output.
    """
    inputs = [x.detach() for x in inputs]
    out = q.new_zeros(*q.shape[:3], 1)
    grads: list[Tensor] = BACKWARD(
        q, k, ones, out, lse, torch.ones_like(out), torch.zeros_like(lse), inputs, handle, "declared", needs
    )
    return grads


def attend_masses(name: str, lse: Tensor) -> Attend:
    """The `Attend` that returns the masses of the table `name`, and the log-sum-exp, which is known."""

    def attend(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], handle: str) -> tuple[Tensor, Tensor]:
        mask = find(handle).bound(q.shape[2], k.shape[2]).plan.mask
        table = [each.name for each in mask.inputs].index(name)
        masses: Tensor = _Masses.apply(handle, table, q, k, v, lse, *inputs)  # type: ignore[no-untyped-call]
        return masses, lse

    return attend
