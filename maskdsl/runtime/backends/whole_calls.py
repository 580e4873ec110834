"""Calls in which every query attends all keys, or all up to its position: by torch's kernel of attention for CPUs.

Its results are those of tiles, in a third to nine tenths of the time. Where they are not finite, or a backward pass
needs more than its log-sum-exps hold, it has no results: tiles then say which queries are concerned.
"""

import torch
from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.expressions import TRUE, Coordinate, Side, apply
from maskdsl.ir.ops import Op
from maskdsl.runtime.base.call import Gradients, Saved

_ATTEND = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_GRADIENTS = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_CAUSAL = apply(Op.LESS_EQUAL, Coordinate(Side.KEY, "i"), Coordinate(Side.QUERY, "i"))
_CAUSAL_DIM = 64
"""The largest head dim for which it takes less time than tiles of causal attention, of heads with keys of their own."""
_LARGEST = torch.finfo(torch.float32).max
_LARGE = 1024
"""A log-sum-exp beyond it has an error of more than 2**-14."""


def is_whole(plan: KernelPlan, q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether torch's kernel may compute calls of a plan that is plain, with tensors like these."""
    relation = plan.mask.relation
    if relation not in (TRUE, _CAUSAL) or plan.order_keys or {q.dtype, k.dtype, v.dtype} != {torch.float32}:
        return False
    if q.device.type != "cpu" or not 0 < q.shape[3] == v.shape[3]:
        return False
    is_small = q.shape[1] == k.shape[1] and q.shape[3] <= _CAUSAL_DIM
    return relation == TRUE or (q.shape[2] == k.shape[2] and is_small)


def attend_whole(plan: KernelPlan, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor] | None:
    """The output and the log-sum-exp; None if they may not be finite."""
    if not _have_products(q, k):
        return None
    out, lse = _ATTEND(*_by_key_head(k.shape[1], q, k, v), 0.0, _is_causal(plan))
    if not _are_finite(out):
        return None
    return out.reshape(q.shape), lse.reshape(q.shape[:3])


def gradients_of_whole(plan: KernelPlan, saved: Saved) -> Gradients | None:
    """The gradients of q, k and v; None where tiles compute them."""
    q, k, v, out, lse, grad_out, grad_lse = saved
    if bool(grad_lse.any()) or not bool(lse.abs().amax() <= _LARGE) or not _have_products(q, k):
        return None
    grad_out, q_, k_, v_, out = _by_key_head(k.shape[1], grad_out, q, k, v, out)
    grads = _GRADIENTS(grad_out, q_, k_, v_, out, lse.reshape(q_.shape[:3]), 0.0, _is_causal(plan))
    if not _are_finite(*grads):
        return None
    grad_q, *of_keys = grads
    grad_k, grad_v = (each.sum(dim=1).view(k.shape) for each in of_keys)
    return Gradients(grad_q.reshape(q.shape), grad_k, grad_v, {})


def _is_causal(plan: KernelPlan) -> bool:
    return plan.mask.relation != TRUE


def _by_key_head(key_heads: int, *tensors: Tensor) -> list[Tensor]:
    """[batch, heads, tokens, dim] as [batch * key heads, query heads of one, tokens, dim]; keys are there once."""
    heads = max(x.shape[1] for x in tensors) // key_heads
    return [x.reshape(-1, x.shape[1] // key_heads, *x.shape[2:]).expand(-1, heads, -1, -1) for x in tensors]


def _have_products(q: Tensor, k: Tensor) -> bool:
    """Whether all products of queries and keys are finite: none is larger than the product of both norms."""
    return float(torch.linalg.vector_norm(q)) * float(torch.linalg.vector_norm(k)) < _LARGEST


def _are_finite(*tensors: Tensor) -> bool:
    return all(bool(x.sum().isfinite()) for x in tensors)
