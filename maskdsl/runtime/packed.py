"""Sequences of texts that follow each other, each of which attends itself alone. Imports torch only.

Where texts begin is known from values, which graphs of `torch.compile` cannot ask for. There all is the operator
`maskdsl::texts`, which does what the same call outside of a graph does; if each sequence is one text, at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from maskdsl.base.diagnostics import AttnError, Diagnostic, shown
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.runtime.base.validate import arguments, malformed
from maskdsl.runtime.base_attention import BaseAttention
from maskdsl.runtime.compiled_mask import find
from maskdsl.runtime.kernels.dispatch import blank
from maskdsl.runtime.torch_ops.attention_op import BACKWARD, LIBRARY, autocast, recording


def packed_attention(
    attention: BaseAttention, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, /, **inputs: Any
) -> tuple[Tensor, Tensor]:
    """The output, and the log-sum-exp of each query's scores [batch, heads, tokens], where texts follow each other.

    q, k and v are [batch, heads, tokens, dim]; `starts`, bool [batch, tokens], says which tokens are the first ones of
    their text, as those of each batch entry are. Each text attends itself alone, and the pattern counts its tokens.
    Inputs are those of `varlen`, an entry for each text. Works in graphs of `torch.compile`. Raises `AttnError`.
    """
    if not isinstance(attention, BaseAttention):
        raise AttnError(WrongArgument(name="attention", found=shown(attention), expected="a compiled attention"))
    q, k, v, tensors = arguments(attention._signature, q, k, v, inputs)
    found: list[Diagnostic] = [*malformed({"q": q})]
    if not found and not _are_starts(starts, q):
        found = [WrongArgument(name="starts", found=shown(starts), expected="a tensor bool [batch, tokens]")]
    if found:
        raise AttnError(*found)
    if is_compiling():
        out, lse = _TEXTS(q, k, v, tensors, starts, attention._handle)
        return out, lse
    return _attend(attention, q, k, v, tensors, starts)


def _are_starts(starts: object, q: Tensor) -> bool:
    return isinstance(starts, Tensor) and starts.dtype == torch.bool and starts.shape == (len(q), q.shape[2])


def _attend(
    attention: BaseAttention, q: Tensor, k: Tensor, v: Tensor, tensors: Sequence[Tensor], starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Looks at values."""
    inputs: dict[str, Any] = dict(zip(attention.inputs, tensors, strict=True))
    if not bool(starts[:, 1:].any()):
        longer = attention._compiled.bound(q.shape[2], k.shape[2]).plan.mask.queries.length > q.shape[2]
        out, lse = attention(q, k, v, query_start=0 if longer else None, return_lse=True, **inputs)
        return out, lse
    first = starts.flatten().nonzero().flatten()
    ends = torch.cat([first, first.new_full((1,), starts.numel())])
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    out, lse = attention.varlen(q, k, v, ends, return_lse=True, **inputs)
    return out.unflatten(0, starts.shape).transpose(1, 2), lse.unflatten(1, starts.shape).transpose(0, 1)


def _direct(handle: str, q: Tensor, k: Tensor, starts: Tensor) -> bool:
    """Whether a call is one of `maskdsl::attention`."""
    compiled = find(handle)
    whole = compiled.bound(q.shape[2], k.shape[2]).plan.mask.queries.length == q.shape[2]
    return whole and not compiled.signature.is_routed and not bool(starts[:, 1:].any())


def _texts(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], starts: Tensor, handle: str
) -> tuple[Tensor, Tensor]:
    out, lse = _attend(BaseAttention(find(handle)), q, k, v, inputs, starts)
    return out.contiguous(), lse.contiguous()


def _texts_backward(*arguments: Any) -> list[Tensor]:
    """From what has been saved where that is enough, else from a forward pass done anew."""
    q, k, v, out, lse, grad_out, grad_lse, inputs, starts, handle, needs = arguments
    if _direct(handle, q, k, starts):
        found = BACKWARD(q, k, v, out, lse, grad_out, grad_lse, inputs, handle, "declared", needs)
        return [each.contiguous() for each in found]
    leaves = [x.detach().requires_grad_(need) for x, need in zip((q, k, v, *inputs), needs, strict=True)]
    with torch.enable_grad(), recording():
        q, k, v, *inputs = leaves
        result = _attend(BaseAttention(find(handle)), q, k, v, inputs, starts)
        wanted = [x for x in leaves if x.requires_grad]
        given = torch.autograd.grad(result, wanted, (grad_out, grad_lse), materialize_grads=True)
    return [each.contiguous() for each in given]


def _fake_texts(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return blank(q, v, True)


def _fake_texts_backward(*arguments: Any) -> list[Tensor]:
    q, k, v, *_, inputs, _, _, needs = arguments
    return [x.new_empty(x.shape) for x, need in zip((q, k, v, *inputs), needs, strict=True) if need]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, others, starts, ctx.handle = inputs
    ctx.save_for_backward(q, k, v, *output, starts, *others)


def _differentiate(ctx: Any, grad_out: Tensor, grad_lse: Tensor) -> tuple[Any, ...]:
    q, k, v, out, lse, starts, *inputs = ctx.saved_tensors
    needs = [*ctx.needs_input_grad[:3], *(x.is_floating_point() for x in inputs)]
    found = iter(_BACKWARDS(q, k, v, out, lse, grad_out, grad_lse, inputs, starts, ctx.handle, needs))
    grads = [next(found) if need else None for need in needs]
    return *grads[:3], grads[3:], None, None


def _cast_texts(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Any:
    with torch.autocast(q.device.type, enabled=False):
        return _TEXTS(*(autocast(x, q.device.type) for x in (q, k, v)), *others)


_TAGS = (torch.Tag.pt2_compliant_tag,)
LIBRARY.define(
    "texts(Tensor q, Tensor k, Tensor v, Tensor[] inputs, Tensor starts, str handle) -> (Tensor out, Tensor lse)",
    tags=_TAGS,
)
LIBRARY.define(
    "texts_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor grad_out, Tensor grad_lse,"
    " Tensor[] inputs, Tensor starts, str handle, bool[] needs) -> Tensor[]",
    tags=_TAGS,
)
_TEXTS = torch.ops.maskdsl.texts.default
_BACKWARDS = torch.ops.maskdsl.texts_backward.default
LIBRARY.impl("texts", _texts, "CompositeExplicitAutograd")
LIBRARY.impl("texts_backward", _texts_backward, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::texts", _fake_texts, lib=LIBRARY)
torch.library.register_fake("maskdsl::texts_backward", _fake_texts_backward, lib=LIBRARY)
torch.library.register_autograd("maskdsl::texts", _differentiate, setup_context=_keep, lib=LIBRARY)
LIBRARY.impl("texts", _cast_texts, "AutocastCPU")
LIBRARY.impl("texts", _cast_texts, "AutocastCUDA")
