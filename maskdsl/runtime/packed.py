"""`packed_attention`: attention over batch entries that hold several texts, each of which attends only itself.

Where texts begin depends on values, which graphs of `torch.compile` cannot read. In a graph the call is therefore the
operator `maskdsl::texts`, whose kernel does what a call outside a graph does. One text per entry costs nothing extra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from maskdsl.base.diagnostics import AttnError, Diagnostic, shown
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.runtime.base.recording import recording
from maskdsl.runtime.base.validate import arguments, malformed
from maskdsl.runtime.base_attention import BaseAttention
from maskdsl.runtime.compiled.compiled_mask import find
from maskdsl.runtime.kernels.dispatch import blank
from maskdsl.runtime.torch_ops.attention_op import BACKWARD, LIBRARY, autocast


def packed_attention(
    attention: BaseAttention, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, /, **inputs: Any
) -> tuple[Tensor, Tensor]:
    """The output [batch, heads, tokens, dim] and the log-sum-exp of packed texts, as a call returns it.

    q, k and v are [batch, heads, tokens, dim]. `starts`, bool [batch, tokens], marks the first token of each text; the
    first token of every batch entry must be marked. Each text attends only itself, and its tokens are those of the
    pattern, from the first. `inputs` are those of `varlen`, with one batch entry per text. Works in graphs of
    `torch.compile`. Raises `AttnError` for arguments that do not fit.
    """
    if not isinstance(attention, BaseAttention):
        raise AttnError(WrongArgument(name="attention", found=shown(attention), expected="a compiled attention"))
    if attention.layout == "bnhd":
        attention = BaseAttention(attention._compiled)
    q, k, v, tensors = arguments(attention._signature, q, k, v, inputs)
    errors: list[Diagnostic] = [*malformed({"q": q})]
    if not errors and not _are_starts(starts, q):
        errors = [WrongArgument(name="starts", found=shown(starts), expected="a tensor bool [batch, tokens]")]
    if errors:
        raise AttnError(*errors)
    if attention._summands:
        summands = [BaseAttention(each.compiled) for each, _ in attention._summands]
        each_given = ((each, {name: inputs[name] for name in each.inputs}) for each in summands)
        return attention._sum_of(
            [packed_attention(each, q, k, v, starts, **given) for each, given in each_given], dim=1
        )
    if is_compiling():
        out, lse = _TEXTS(q, k, v, tensors, starts, attention._handle)
        return out, lse
    return _attend(attention, q, k, v, tensors, starts)


def _are_starts(starts: object, q: Tensor) -> bool:
    return isinstance(starts, Tensor) and starts.dtype == torch.bool and starts.shape == (len(q), q.shape[2])


def _attend(
    attention: BaseAttention, q: Tensor, k: Tensor, v: Tensor, tensors: Sequence[Tensor], starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes a call; reads the values of `starts`."""
    inputs: dict[str, Any] = dict(zip(attention.inputs, tensors, strict=True))
    if not bool(starts[:, 1:].any()):
        is_longer = attention._compiled.bound(q.shape[2], k.shape[2]).plan.mask.queries.given_length > q.shape[2]
        return _with_lse(attention, partial(attention, q, k, v, query_start=0 if is_longer else None, **inputs), q)
    first = starts.flatten().nonzero().flatten()
    ends = torch.cat([first, first.new_full((1,), starts.numel())])
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    out, lse = _with_lse(attention, partial(attention.varlen, q, k, v, ends, **inputs), q.transpose(0, 1)[..., :1])
    return out.reshape(*starts.shape, *out.shape[1:]).transpose(1, 2), lse.reshape(-1, *starts.shape).transpose(0, 1)


def _with_lse(attention: BaseAttention, call: Callable[..., Any], like: Tensor) -> tuple[Tensor, Tensor]:
    """The results of a call. Without a log-sum-exp, zeros in its place, shaped as `like` without the last axis."""
    if attention.has_lse:
        out, lse = call(return_lse=True)
        return out, lse
    return call(), torch.zeros(
        like.shape[:-1], dtype=torch.promote_types(like.dtype, torch.float32), device=like.device
    )


def _direct(handle: str, q: Tensor, k: Tensor, starts: Tensor) -> bool:
    """Whether a call is just one of `maskdsl::attention`: all queries, one text per entry, no routes."""
    compiled = find(handle)
    whole = compiled.bound(q.shape[2], k.shape[2]).plan.mask.queries.given_length == q.shape[2]
    return whole and not compiled.signature.is_routed and not bool(starts[:, 1:].any())


def _texts(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], starts: Tensor, handle: str
) -> tuple[Tensor, Tensor]:
    out, lse = _attend(BaseAttention(find(handle)), q, k, v, inputs, starts)
    return out.contiguous(), lse.contiguous()


def _texts_backward(*arguments: Any) -> list[Tensor]:
    """The gradients: from the saved results where the call was `maskdsl::attention`, else by a second forward pass."""
    q, k, v, out, lse, grad_out, grad_lse, inputs, starts, handle, needs = arguments
    if _direct(handle, q, k, starts):
        grads = BACKWARD(q, k, v, out, lse, grad_out, grad_lse, inputs, handle, "declared", needs)
        return [each.contiguous() for each in grads]
    leaves = [x.detach().requires_grad_(need) for x, need in zip((q, k, v, *inputs), needs, strict=True)]
    with torch.enable_grad(), recording():
        q, k, v, *inputs = leaves
        result = _attend(BaseAttention(find(handle)), q, k, v, inputs, starts)
        wanted = [x for x in leaves if x.requires_grad]
        again = torch.autograd.grad(result, wanted, (grad_out, grad_lse), materialize_grads=True)
    return [each.contiguous() for each in again]


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
    computed = iter(_TEXTS_BACKWARD(q, k, v, out, lse, grad_out, grad_lse, inputs, starts, ctx.handle, needs))
    grads = [next(computed) if need else None for need in needs]
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
_TEXTS_BACKWARD = torch.ops.maskdsl.texts_backward.default
LIBRARY.impl("texts", _texts, "CompositeExplicitAutograd")
LIBRARY.impl("texts_backward", _texts_backward, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::texts", _fake_texts, lib=LIBRARY)
torch.library.register_fake("maskdsl::texts_backward", _fake_texts_backward, lib=LIBRARY)
torch.library.register_autograd("maskdsl::texts", _differentiate, setup_context=_keep, lib=LIBRARY)
LIBRARY.impl("texts", _cast_texts, "AutocastCPU")
LIBRARY.impl("texts", _cast_texts, "AutocastCUDA")
