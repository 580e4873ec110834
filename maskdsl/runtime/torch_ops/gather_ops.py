"""Makes operators that gather tokens, such as pages, and run attention over them, as one node of a graph.

A backward pass gathers again under autograd and continues from the saved output: attention is not computed again. Used
by `runtime/decode/decode_call.py` and `runtime/calls/varlen.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction

from maskdsl.runtime.base.recording import recording
from maskdsl.runtime.kernels.dispatch import blank
from maskdsl.runtime.torch_ops.attention_op import (
    ATTENTION,
    LIBRARY,
    AttentionFunction,
    BackwardFunction,
    below_autograd,
    needs_recording,
    register_autocast,
    single_level,
)

Attend = Callable[[Tensor, Tensor, Tensor, Sequence[Tensor], str], tuple[Tensor, Tensor]]
"""Attention over gathered tokens: maps q, k, v, inputs and the handle of a compiled mask to (out, lse)."""
Gather = Callable[..., tuple[Tensor, Tensor]]
"""`(attend, q, k, v, inputs, positions, page_size, handle)`: gathers tokens and returns the result of `attend`.

`positions` are the integer tensors that say where tokens are.
"""

_Given = Sequence[Any] | None
"""Tensors of a call: packages of AOTInductor give None for an empty list."""
_OPTIONS = "Tensor?[] places, int? page_size, str handle"
"""The last parameters in an operator's schema."""
_TAGS = (torch.Tag.pt2_compliant_tag,)


def attention(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], handle: str) -> tuple[Tensor, Tensor]:
    """The `Attend` that computes, with a log-sum-exp."""
    out, lse = ATTENTION(q, k, v, inputs, handle, "declared", True)
    return out, lse


def _resumed(out: Tensor, lse: Tensor) -> Attend:
    """The `Attend` that returns these results: autograd records it, and nothing is computed."""

    def attend(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], handle: str) -> tuple[Tensor, Tensor]:
        results: tuple[Tensor, Tensor] = AttentionFunction.apply(q, k, v, handle, "declared", (out, lse), None, *inputs)  # type: ignore[attr-defined]
        return results

    return attend


class _GatheredAttention(_SingleLevelFunction):
    """The autograd function of an operator made by `define`."""

    @staticmethod
    def forward(
        operators: tuple[Any, Any], positions: Sequence[Tensor | None], options: Any, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        out, lse = below_autograd(operators[0], *tensors[:3], tensors[3:], positions, *options)
        return out, lse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        operators, positions, ctx.options, *tensors = inputs
        ctx.backward_operator, ctx.given = operators[1], [position is not None for position in positions]
        ctx.save_for_backward(
            *tensors[:3], *output, *tensors[3:], *(position for position in positions if position is not None)
        )

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        needs = [*ctx.needs_input_grad[3:]]
        count = 5 + len(needs) - 3
        saved = ctx.saved_tensors  # read once: activation checkpointing recomputes them
        tensors, given = saved[:count], iter(saved[count:])
        positions = [next(given) if each else None for each in ctx.given]
        operator = ctx.backward_operator
        computed = iter(operator(*tensors[:5], grad_out, grad_lse, tensors[5:], positions, *ctx.options, needs))
        return None, None, None, *(next(computed) if need else None for need in needs)


def define(name: str, gather: Gather) -> Any:
    """Registers and returns the operator `maskdsl::name(q, k, v, inputs, places, page_size, handle) -> (out, lse)`."""
    tensors = "Tensor q, Tensor k, Tensor v"
    results = "Tensor out, Tensor lse, Tensor grad_out, Tensor grad_lse"
    LIBRARY.define(f"{name}({tensors}, Tensor[] inputs, {_OPTIONS}) -> (Tensor out, Tensor lse)", tags=_TAGS)
    LIBRARY.define(
        f"{name}_backward({tensors}, {results}, Tensor[] inputs, {_OPTIONS}, bool[] needs) -> Tensor[]", tags=_TAGS
    )
    operators = tuple(getattr(torch.ops.maskdsl, each).default for each in (name, f"{name}_backward"))
    operator, backward_operator = operators

    def forward(q: Tensor, k: Tensor, v: Tensor, inputs: _Given, positions: _Given, *options: Any) -> Any:
        return gather(attention, q, k, v, inputs or (), positions or (), *options)

    def backward(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> list[Tensor]:
        out, lse, grad_out, grad_lse, inputs, *options, needs = others
        leaves = [x.detach().requires_grad_(need) for x, need in zip((q, k, v, *(inputs or ())), needs, strict=True)]
        with recording(), torch.enable_grad():
            again = gather(_resumed(out, lse), *leaves[:3], leaves[3:], *options)
            needed = [leaf for leaf in leaves if leaf.requires_grad]
            # The log-sum-exp depends on none of them where they are read by values alone.
            pairs = [each for each in zip(again, (grad_out, grad_lse), strict=True) if each[0].requires_grad]
            if not pairs:  # what learns decides selections alone
                return [torch.zeros_like(leaf) for leaf in needed]
            results, incoming = zip(*pairs, strict=True)
            grads = torch.autograd.grad(results, needed, incoming, materialize_grads=True)
        return [grad.contiguous() for grad in grads]

    def recorded(q: Tensor, k: Tensor, v: Tensor, given: _Given, at: _Given, *options: Any) -> Any:
        inputs, positions = given or (), at or ()
        if not needs_recording(q, k, v, *inputs):
            return below_autograd(operator, q, k, v, inputs, positions, *options)
        with single_level():
            return _GatheredAttention.apply(operators, positions, options, q, k, v, *inputs)  # type: ignore[attr-defined]

    def recorded_backward(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Any:
        given, *options = others[4:]
        inputs = given or ()

        def compute(*tensors: Tensor) -> list[Tensor]:
            grads: list[Tensor] = below_autograd(backward_operator, *tensors[:7], tensors[7:], *options)
            return grads

        if not needs_recording(q, k, v, *others[:4], *inputs):
            return compute(q, k, v, *others[:4], *inputs)
        with single_level():
            return list(BackwardFunction.apply(compute, q, k, v, *others[:4], *inputs))  # type: ignore[attr-defined]

    LIBRARY.impl(name, forward, "CompositeExplicitAutograd")
    LIBRARY.impl(name, recorded, "Autograd")
    LIBRARY.impl(f"{name}_backward", backward, "CompositeExplicitAutograd")
    LIBRARY.impl(f"{name}_backward", recorded_backward, "Autograd")
    register_autocast(name, "cpu")
    register_autocast(name, "cuda")
    torch.library.register_fake(f"maskdsl::{name}", _fake, lib=LIBRARY)
    torch.library.register_fake(f"maskdsl::{name}_backward", _fake_backward, lib=LIBRARY)
    torch.library.register_vmap(f"maskdsl::{name}", entry_by_entry(operator))
    torch.library.register_vmap(f"maskdsl::{name}_backward", entry_by_entry(backward_operator))
    return operator


def _fake(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return blank(q, v, True)


def _fake_backward(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> list[Tensor]:
    inputs, needs = others[4], others[-1]
    sources = zip((q, k, v, *inputs), needs, strict=True)
    return [source.new_empty(source.shape) for source, need in sources if need]


def entry_by_entry(operator: Any) -> Callable[..., Any]:
    """A `vmap` rule that calls an operator, of tensors and lists of tensors, once per entry of the mapped axis."""

    def entry(argument: Any, axis: Any, number: int) -> Any:
        if isinstance(axis, list | tuple):
            return [entry(*each, number) for each in zip(argument, axis, strict=True)]
        return argument if axis is None else argument.select(axis, number)

    def batched(info: Any, axes: Sequence[Any], *arguments: Any) -> Any:
        pairs = list(zip(arguments, axes, strict=True))
        calls = [operator(*(entry(*each, number) for each in pairs)) for number in range(info.batch_size)]
        stacked = [torch.stack(results) for results in zip(*calls, strict=True)]
        return (tuple(stacked), (0, 0)) if isinstance(calls[0], tuple) else (stacked, [0] * len(stacked))

    return batched
