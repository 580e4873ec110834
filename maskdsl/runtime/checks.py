"""What a call must look like: shapes, types, devices, inputs. Every mistake is a declared error of `errors/call.py`."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from maskdsl.diagnostics import AttnError, Diagnostic, nearest_name
from maskdsl.errors import call as errors
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from maskdsl.plan import KernelPlan

INTEGER_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_tensors(plan: KernelPlan, q: object, k: object, v: object) -> None:
    """Raises if q, k and v do not fit each other and the pattern."""
    tensors = {"q": q, "k": k, "v": v}
    found = list(malformed(tensors)) or list(unfitting(plan, q, k, v))  # type: ignore[arg-type]
    if found:
        raise AttnError(*found)


def malformed(tensors: Mapping[str, object]) -> Iterator[Diagnostic]:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            yield errors.NotATensor(name=name, found=type(tensor).__name__)
        elif tensor.dim() != 4:
            yield errors.NotFourAxes(name=name, shape=tuple(tensor.shape))
        elif not tensor.is_floating_point() or tensor.element_size() == 1:
            yield errors.NotFloating(name=name, dtype=type_name(tensor))


def unfitting(plan: KernelPlan, q: Tensor, k: Tensor, v: Tensor) -> Iterator[Diagnostic]:
    mask = plan.mask
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype:
            yield errors.MixedTypes(name=name, query=type_name(q), other=type_name(tensor))
        if tensor.device != q.device:
            yield errors.MixedDevices(name=name, query=str(q.device), other=str(tensor.device))
        if tensor.shape[0] != q.shape[0]:
            yield disagreeing("q", name, "batch", q.shape[0], tensor.shape[0])
        if not tensor.shape[1] or q.shape[1] % tensor.shape[1]:
            yield errors.IndivisibleHeads(name=name, found=tensor.shape[1], heads=q.shape[1])
    if k.shape[1] != v.shape[1]:
        yield disagreeing("k", "v", "heads", k.shape[1], v.shape[1])
    if q.shape[3] != k.shape[3]:
        yield disagreeing("q", "k", "head dim", q.shape[3], k.shape[3])
    if q.shape[1] != mask.heads and not plan.serves_any_heads:
        yield errors.WrongHeads(pattern=mask.name, found=q.shape[1], expected=mask.heads, span=mask.span)
    lengths = (("q", q, "queries", mask.queries), ("k", k, "keys", mask.keys), ("v", v, "keys", mask.keys))
    for name, tensor, kind, sequence in lengths:
        if tensor.shape[2] != sequence.length:
            yield errors.WrongLength(
                name=name,
                found=tensor.shape[2],
                expected=sequence.length,
                pattern=mask.name,
                kind="tokens" if mask.self_attention else kind,
                span=mask.span,
            )


def disagreeing(first: str, second: str, axis: str, one: int, two: int) -> Diagnostic:
    return errors.Disagreeing(first=first, second=second, axis=axis, one=one, two=two)


def check_inputs(mask: MaskIR, given: Mapping[str, object], q: Tensor) -> dict[str, Tensor]:
    """The inputs as tensors by name, in declared order. Raises if one is missing, unknown or unfit."""
    found: list[Diagnostic] = []
    names = [each.name for each in mask.inputs]
    for name in given:
        if name not in names:
            nearest = nearest_name(name, names)
            found.append(errors.UnknownInput(name=name, pattern=mask.name, nearest=nearest, span=mask.span))
    tensors = {}
    for declared in mask.inputs:
        if declared.name not in given:
            found.append(errors.MissingInput(name=declared.name, span=declared.span))
            continue
        tensor = as_tensor(given[declared.name], q.device)
        mistakes = list(unfit_input(declared, tensor, given[declared.name], q))
        found += mistakes
        if tensor is not None and not mistakes:
            tensors[declared.name] = tensor
    if found:
        raise AttnError(*found)
    return tensors


def as_tensor(value: object, device: torch.device) -> Tensor | None:
    """Tensors stay where they are; arrays and lists go to the device of q."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError):
        return None


def unfit_input(declared: Input, tensor: Tensor | None, value: object, q: Tensor) -> Iterator[Diagnostic]:
    name, span = declared.name, declared.span
    if tensor is None:
        yield errors.NotATensor(name=name, found=type(value).__name__, span=span)
        return
    if tensor.device != q.device:
        yield errors.MixedDevices(name=name, query=str(q.device), other=str(tensor.device), span=span)
        return
    sizes = tuple(q.shape[0] if each.kind is DimensionKind.BATCH else each.size for each in declared.dimensions)
    if tuple(tensor.shape) != sizes:
        pairs = zip(declared.dimensions, sizes, strict=True)
        expected = ", ".join(each.text if each.text == str(size) else f"{each.text} = {size}" for each, size in pairs)
        yield errors.InputShape(name=name, found=tuple(tensor.shape), expected=f"[{expected}]", span=span)
    if not has_type(tensor, declared.type):
        yield errors.InputType(name=name, found=type_name(tensor), expected=str(declared.type), span=span)
    elif declared.type is Type.INT and tensor.dtype == torch.int64 and tensor.numel():
        low, high = (int(bound) for bound in torch.aminmax(tensor))
        if low < -(2**31) or high >= 2**31:
            worst = low if low < -(2**31) else high
            yield errors.InputRange(name=name, value=worst, span=span)


def has_type(tensor: Tensor, kind: Type) -> bool:
    match kind:
        case Type.INT:
            return tensor.dtype in INTEGER_TYPES
        case Type.FLOAT:
            return tensor.is_floating_point()
        case Type.BOOL:
            return tensor.dtype == torch.bool


def type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
