"""The argument `out` of calls: what it may be, and the result in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import increment_version
from torch.compiler import is_compiling

from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.base.errors.calls.serving import ForwardOnly, OutOverlaps, WrongOut
from maskdsl.runtime.base.validate import type_name
from maskdsl.runtime.torch_ops.attention_op import is_ordinary, needs_recording


def check_out(out: object, shape: Sequence[int] | None, tensors: Mapping[str, Any]) -> None:
    """Raises if the result of a call of these tensors, `q` among them, cannot be written into `out`.

    `shape` is that of the result, None where it is not known yet.
    """
    if not isinstance(out, Tensor):
        raise AttnError(WrongArgument(name="out", found=shown(out), expected="a tensor, or None,"))
    q = tensors["q"]
    for name, x in (*tensors.items(), ("out", out)):
        if isinstance(x, Tensor) and needs_recording(x):
            hint = "call it under `torch.no_grad()`, or leave `out` out"
            raise AttnError(ForwardOnly(what="a call with `out`", name=name, hint=hint))
    if shape is not None and tuple(shape) != tuple(out.shape):  # no text yet: graphs may hold sizes without numbers
        raise AttnError(WrongOut(what="shape", given=str(tuple(out.shape)), wanted=str(tuple(shape))))
    properties = [("type", type_name(q), type_name(out)), ("device", str(q.device), str(out.device))]
    for what, wanted, given in properties:
        if wanted != given:
            raise AttnError(WrongOut(what=what, given=given, wanted=wanted))
    if any(size > 1 and not stride for size, stride in zip(out.shape, out.stride(), strict=True)):
        raise AttnError(WrongOut(what="strides", given=str(out.stride()), wanted="of one element of memory each"))
    if not is_compiling() and is_ordinary(out):  # graphs, and tensors of shapes alone, have no addresses
        _check_memory(out, tensors)


def _check_memory(out: Tensor, tensors: Mapping[str, Any]) -> None:
    first, last = _memory(out)
    for name, x in tensors.items():
        if isinstance(x, Tensor) and x.device == out.device:
            start, end = _memory(x)
            if start < last and first < end:
                raise AttnError(OutOverlaps(name=name))


def _memory(x: Tensor) -> tuple[int, int]:
    """The addresses from the first to behind the last element."""
    if not x.numel():
        return 0, 0
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + span * x.element_size()


def written(out: Tensor | None, result: Tensor) -> Tensor:
    """The result, in `out` if there is one. Some kernels have written it there."""
    if out is None:
        return result
    if out.shape != result.shape:
        raise AttnError(WrongOut(what="shape", given=str(tuple(out.shape)), wanted=str(tuple(result.shape))))
    if is_compiling() or not is_ordinary(out) or result.data_ptr() != out.data_ptr() or result.stride() != out.stride():
        return out.copy_(result)
    if not out.is_inference():
        increment_version(out)  # as torch counts what it writes
    return out
