"""The operators `maskdsl::attention` and `maskdsl::attention_backward`: fake kernels, autograd, autocast and vmap.

`attention` returns the output and the log-sum-exp, which is empty unless wanted or needed for gradients. Operators take
compiled masks as handles: see `runtime/compiled/compiled_mask.py`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._functorch.autograd_function import enable_single_level_autograd_function  # type: ignore[attr-defined]
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import NoForwardMode, NoSecondDerivative
from maskdsl.runtime.base.call import Saved
from maskdsl.runtime.base.processes import check_whole
from maskdsl.runtime.base.recording import recording
from maskdsl.runtime.base.validate import check_tensors
from maskdsl.runtime.compiled.compiled_mask import Bound, find
from maskdsl.runtime.compiled.mask_calls import Knows
from maskdsl.runtime.kernels.dispatch import blank
from maskdsl.runtime.kernels.known_inputs import shared_zeros
from maskdsl.runtime.torch_ops.handle import Handle
from maskdsl.runtime.torch_ops.vmap import batched_attention, batched_backward

LIBRARY: Any = torch.library.Library("maskdsl", "DEF")  # type: ignore[no-untyped-call]
LIBRARY.define(
    "attention(Tensor q, Tensor k, Tensor v, Tensor[] inputs, str handle, str layout, bool wants_lse)"
    " -> (Tensor out, Tensor lse)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
LIBRARY.define(
    "attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor grad_out, Tensor grad_lse,"
    " Tensor[] inputs, str handle, str layout, bool[] needs) -> Tensor[]",
    tags=(torch.Tag.pt2_compliant_tag,),
)
ATTENTION = torch.ops.maskdsl.attention.default
BACKWARD = torch.ops.maskdsl.attention_backward.default
_PLAIN_KEYS = frozenset(
    (torch._C.DispatchKeySet(device) | torch._C.DispatchKeySet(autograd)).raw_repr()
    for device, autograd in (
        (torch._C.DispatchKey.CPU, torch._C.DispatchKey.AutogradCPU),
        (torch._C.DispatchKey.CUDA, torch._C.DispatchKey.AutogradCUDA),
    )
)
"""Dispatch keys of a call with ordinary tensors in no mode: below autograd only our own kernel is left to call."""

_PLAIN = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU) | torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradCPU)
_AUTOCAST_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU) | torch._C.DispatchKeySet(
    torch._C.DispatchKey.AutocastCUDA
)
_ORDINARY = (Tensor, torch.nn.Parameter)


# Kernels


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor] | None,
    handle: str,
    layout: str,
    wants_lse: bool,
    knows: Knows | None = None,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The kernel of `maskdsl::attention`; the output is in `target`, shaped as it, if kernels can write there.

    `inputs` is None instead of an empty list where a compiled program calls from C++; so it is for all operators. There
    nothing is known of inputs: such a program writes into memory that it reuses, and no version tells.
    """
    compiled, inputs = find(handle), inputs or ()
    if not isinstance(compiled, Bound):
        check_tensors(q, k, v, layout)
        compiled = compiled.bound(q.shape[2], k.shape[2])
    check_whole(compiled.signature.pattern, compiled.signature.span)
    return compiled.forward(q, k, v, inputs, layout, wants_lse, knows, target)


def attention_backward(*arguments: Any) -> list[Tensor]:
    """The kernel of `maskdsl::attention_backward`."""
    with recording():
        return _gradients(*arguments)


def _gradients(*arguments: Any, knows: Knows | None = None) -> list[Tensor]:
    *tensors, inputs, handle, layout, needs = arguments
    saved = Saved(*tensors)
    return find(handle).bound(saved.q.shape[2], saved.k.shape[2]).backward(saved, inputs or (), layout, needs, knows)


# Fake kernels: shapes and dtypes only


def _fake_attention(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], handle: str, layout: str, wants_lse: bool
) -> tuple[Tensor, Tensor]:
    check_tensors(q, k, v, layout)
    compiled = find(handle)
    compiled.check(q, k, v, inputs)
    # `int` fixes symbolic lengths: the number of pools is no simple function of them.
    pooled = compiled.bound(int(q.shape[2]), int(k.shape[2])) if compiled.signature.pools_queries else None
    return blank(q, v, wants_lse, None if pooled is None else pooled.plan.mask.queries.length)


def _fake_attention_backward(*arguments: Any) -> list[Tensor]:
    q, k, v, *_, inputs, _, _, needs = arguments
    sources = zip((q, k, v, *inputs), needs, strict=True)
    return [source.new_empty(source.shape) for source, need in sources if need]


# Gradients


class AttentionFunction(_SingleLevelFunction):
    """The autograd function of `maskdsl::attention`, for one level of torch's nested transforms."""

    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        handle: str,
        layout: str,
        results: tuple[Tensor, Tensor] | None,
        knows: Knows | None,
        *inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`results` are the output and log-sum-exp of an earlier call, which are then not computed again."""
        if results is not None:
            return results[0].detach(), results[1].detach()
        out, lse = below_autograd(ATTENTION, q, k, v, inputs, handle, layout, True)
        return out, lse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, k, v, ctx.handle, ctx.layout, _, ctx.knows, *others = inputs
        ctx.save_for_backward(q, k, v, *output, *others)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        (*tensors,) = ctx.saved_tensors
        needs = [*ctx.needs_input_grad[:3], *ctx.needs_input_grad[7:]]
        casts = torch._C._is_any_autocast_enabled()
        given = [each for each in (grad_out, grad_lse) if each is not None]
        is_seen = torch.is_grad_enabled() or casts or not is_ordinary(tensors[0], *given)
        zeros_like = torch.zeros_like if is_seen else shared_zeros
        grad_out = zeros_like(tensors[3]) if grad_out is None else grad_out
        grad_lse = zeros_like(tensors[4]) if grad_lse is None else grad_lse
        operator = BACKWARD if is_seen else partial(_gradients, knows=ctx.knows)
        computed = iter(operator(*tensors[:5], grad_out, grad_lse, tensors[5:], ctx.handle, ctx.layout, needs))
        grads = [next(computed) if need else None for need in needs]
        return *grads[:3], None, None, None, None, *grads[3:]


def is_ordinary(*tensors: Tensor) -> bool:
    """Whether a call is of ordinary tensors in no mode but autocast, so that nothing else has to see its operator."""
    if torch._C._len_torch_dispatch_stack():
        return False
    for x in tensors:  # a loop: every call pays for the frame of a generator
        if type(x) not in _ORDINARY or x.is_meta:
            return False
    return not torch._C._are_functorch_transforms_active()


class BackwardFunction(_SingleLevelFunction):
    """The autograd function of a backward pass, which cannot be differentiated: raises `NoSecondDerivative`."""

    @staticmethod
    def forward(compute: Callable[..., list[Tensor]], *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(compute(*tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Saves nothing."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise AttnError(NoSecondDerivative())


def recorded_attention(
    keys: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor] | None,
    handle: str,
    layout: str,
    wants_lse: bool,
    knows: Knows | None = None,
) -> Any:
    """The autograd kernel of `maskdsl::attention`. `keys` are the dispatch keys that the call still has."""
    inputs = inputs or ()
    is_plain, records, results = keys.raw_repr() in _PLAIN_KEYS, needs_recording(q, k, v, *inputs), None
    if is_plain or not records:
        operator = partial(attention, knows=knows) if is_plain else ATTENTION
        with torch._C._AutoDispatchBelowAutograd():
            results = operator(q, k, v, inputs, handle, layout, wants_lse or records)
    if not records:
        return results
    with single_level():
        return AttentionFunction.apply(q, k, v, handle, layout, results, knows, *inputs)  # type: ignore[attr-defined]


def whole_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    handle: Handle,
    layout: str,
    wants_lse: bool,
    knows: Knows = Bound.by_version,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The results of `maskdsl::attention`. Of ordinary tensors its kernel is called without the operator.

    Without gradients it may write the output into `target`, shaped as that.
    """
    if torch.compiler.is_dynamo_compiling() or not is_ordinary(q, k, v, *inputs):
        out, lse = ATTENTION(q, k, v, inputs, handle.in_graphs(), layout, wants_lse)
        return out, lse
    device = q.device.type
    if torch._C._is_any_autocast_enabled() and torch.is_autocast_enabled(device):
        q, k, v = (autocast(x, device) for x in (q, k, v))
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST_KEYS):  # which turns it off
            return whole_attention(q, k, v, inputs, handle, layout, wants_lse, knows)
    if needs_recording(q, k, v, *inputs):
        out, lse = recorded_attention(_PLAIN, q, k, v, inputs, handle.name, layout, wants_lse, knows)
    else:
        with torch._C._AutoDispatchBelowAutograd():
            out, lse = attention(q, k, v, inputs, handle.name, layout, wants_lse, knows, target)
    return out, lse


def recorded_attention_backward(*arguments: Any) -> Any:
    """The autograd kernel of `maskdsl::attention_backward`."""
    *tensors, inputs, handle, layout, needs = arguments
    inputs = inputs or ()
    if not needs_recording(*tensors, *inputs):
        return below_autograd(BACKWARD, *tensors, inputs, handle, layout, needs)

    def compute(*tensors: Tensor) -> list[Tensor]:
        grads: list[Tensor] = below_autograd(BACKWARD, *tensors[:7], tensors[7:], handle, layout, needs)
        return grads

    with single_level():
        return list(BackwardFunction.apply(compute, *tensors, *inputs))  # type: ignore[attr-defined]


def needs_recording(*tensors: Tensor) -> bool:
    """Whether autograd has to record a call. Raises `NoForwardMode` for tangents, which torch would silently drop."""
    if forward_ad._current_level >= 0 and any(map(_has_tangent, tensors)):
        raise AttnError(NoForwardMode())
    if torch.is_grad_enabled():
        for x in tensors:
            if x.requires_grad:
                return True
    return False


def _has_tangent(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def below_autograd(operator: Callable[..., Any], *arguments: Any) -> Any:
    """Calls an operator with the autograd dispatch keys excluded."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def single_level() -> AbstractContextManager[Any]:
    """A context in which `_SingleLevelFunction`s may be applied inside `torch.func`, at its current level."""
    active = torch._C._are_functorch_transforms_active()
    return enable_single_level_autograd_function() if active else nullcontext()


# Autocast, as for torch's own attention


def autocast(x: Tensor, device: str) -> Tensor:
    """x in the autocast dtype of this device type; unchanged if it is on another device, float64 or no float."""
    fits = x.device.type == device and x.is_floating_point() and x.dtype != torch.float64
    return x.to(torch.get_autocast_dtype(device)) if fits else x


def register_autocast(name: str, device: str) -> None:
    """Registers the autocast kernels of `maskdsl::name(q, k, v, ...)` and its backward, for this device type."""
    key = f"Autocast{device.upper()}"
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    forward, backward = (getattr(torch.ops.maskdsl, each).default for each in (name, f"{name}_backward"))

    def cast_forward(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Any:
        tensors = [autocast(x, device) for x in (q, k, v)]
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return forward(*tensors, *others)

    def uncast_backward(*arguments: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return backward(*arguments)

    LIBRARY.impl(name, cast_forward, key)
    LIBRARY.impl(f"{name}_backward", uncast_backward, key)


LIBRARY.impl("attention", attention, "CompositeExplicitAutograd")
LIBRARY.impl("attention", recorded_attention, "Autograd", with_keyset=True)
LIBRARY.impl("attention_backward", attention_backward, "CompositeExplicitAutograd")
LIBRARY.impl("attention_backward", recorded_attention_backward, "Autograd")
torch.library.register_fake("maskdsl::attention", _fake_attention, lib=LIBRARY)
torch.library.register_fake("maskdsl::attention_backward", _fake_attention_backward, lib=LIBRARY)
register_autocast("attention", "cpu")
register_autocast("attention", "cuda")
torch.library.register_vmap("maskdsl::attention", batched_attention(ATTENTION))
torch.library.register_vmap("maskdsl::attention_backward", batched_backward(BACKWARD))
