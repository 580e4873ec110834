"""What a call must look like: shapes, types, devices, inputs. Every mistake is a declared error."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.diagnostics import AttnError, Diagnostic, nearest_name, shown
from maskdsl.errors import heads
from maskdsl.errors.arguments import WrongArgument
from maskdsl.errors.backends import UnknownLayout
from maskdsl.errors.heads import Distributed
from maskdsl.errors.inputs import InputRange, InputShape, InputType, MissingInput, UnknownInput
from maskdsl.errors.lengths import NotIntegers, NotOneAxis
from maskdsl.errors.selection import LaidOutPooled
from maskdsl.errors.vectors import (
    Disagreeing,
    IndivisibleHeads,
    MixedDevices,
    MixedTypes,
    NoDimension,
    NotATensor,
    NotFloating,
    NotFourAxes,
    NotStrided,
    WrongHeads,
    WrongLength,
)
from maskdsl.ir.mask import DimensionKind, Input
from maskdsl.ir.ops import Type
from maskdsl.plan import KernelPlan
from maskdsl.runtime.processes import distributed_tensor
from maskdsl.source import Span

INTEGER_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Signature:
    """The names of a pattern's inputs, in declared order, and where they are declared."""

    pattern: str
    span: Span | None
    inputs: Mapping[str, Span | None]
    """Those that callers give."""
    finds: bool = False
    """Whether others are found in the queries and keys."""


def arguments(
    signature: Signature, q: object, k: object, v: object, given: Mapping[str, object]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """q, k, v and the inputs in declared order, all as tensors. Raises if one is none, is missing or unknown."""
    known = [x for x in given.values() if isinstance(x, Tensor)] if given else ()
    if not are_plain(q, k, v, *known):
        raise AttnError(*not_plain({"q": q, "k": k, "v": v}, given))
    assert isinstance(q, Tensor) and isinstance(k, Tensor) and isinstance(v, Tensor)
    if not given and not signature.inputs:
        return q, k, v, []
    tensors = {name: as_tensor(given[name], q.device) for name in signature.inputs if name in given}
    inputs = [x for x in tensors.values() if x is not None]
    if len(inputs) < len(signature.inputs) or len(given) > len(signature.inputs):
        raise AttnError(*misnamed(signature, given, tensors))
    return q, k, v, inputs


def are_plain(*values: object) -> bool:
    """Whether all are tensors that stand in memory as they are, whole in this process."""
    elsewhere = distributed_tensor()
    for x in values:
        if not isinstance(x, Tensor) or x.is_nested or x.layout is not torch.strided or isinstance(x, elsewhere):
            return False
    return True


def not_plain(vectors: Mapping[str, object], given: Mapping[str, object]) -> list[Diagnostic]:
    """What is wrong with the first kind of them."""
    found: list[Diagnostic] = [
        NotATensor(name=name, found="not given" if x is None else type(x).__name__)
        for name, x in vectors.items()
        if not isinstance(x, Tensor)
    ]
    tensors = {name: x for name, x in {**vectors, **given}.items() if isinstance(x, Tensor)}
    unfit: list[Diagnostic] = [
        NotStrided(name=name, kind="nested" if x.is_nested else "sparse")
        for name, x in tensors.items()
        if x.is_nested or x.layout is not torch.strided
    ]
    return (
        found or unfit or [Distributed(name=name) for name, x in tensors.items() if isinstance(x, distributed_tensor())]
    )


def check_options(layout: object, **flags: object) -> None:
    """Raises if what is given by name beside tensors is of another kind."""
    if not isinstance(layout, str):
        raise AttnError(WrongArgument(name="layout", found=shown(layout), expected="a string"))
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise AttnError(WrongArgument(name=name, found=shown(flag), expected="True or False"))


def integers_of(name: str, value: object, device: torch.device) -> Tensor:
    """Integers of one axis or more, from a tensor, an array or a list."""
    tensor = as_tensor(value, device)
    if tensor is None:
        raise AttnError(NotATensor(name=name, found="not given" if value is None else type(value).__name__))
    if tensor.dtype not in INTEGER_TYPES:
        raise AttnError(NotIntegers(name=name, found=type_name(tensor)))
    if not tensor.dim():
        raise AttnError(NotOneAxis(name=name, found=tuple(tensor.shape)))
    return tensor


def misnamed(
    signature: Signature, given: Mapping[str, object], tensors: Mapping[str, Tensor | None]
) -> Iterator[Diagnostic]:
    for name in given:
        if name not in signature.inputs:
            nearest = nearest_name(name, signature.inputs)
            yield UnknownInput(name=name, pattern=signature.pattern, nearest=nearest, span=signature.span)
    for name, span in signature.inputs.items():
        if name not in given:
            yield MissingInput(name=name, span=span)
        elif tensors[name] is None:
            yield NotATensor(name=name, found=type(given[name]).__name__, span=span)


def as_tensor(value: object, device: torch.device) -> Tensor | None:
    """Tensors stay where they are; arrays and lists go to the device of q."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def check_tensors(q: Tensor, k: Tensor, v: Tensor, layout: str, paged: bool = False) -> None:
    """Raises if q, k and v do not fit each other, whatever the pattern; `paged` k and v hold pages, not entries."""
    found = list(malformed({"q": q, "k": k, "v": v})) or list(unfitting(q, k, v, paged))
    if layout not in ("declared", "ordered"):
        found.append(UnknownLayout(name=layout))
    if found:
        raise AttnError(*found)


def malformed(tensors: Mapping[str, Tensor]) -> Iterator[Diagnostic]:
    for name, tensor in tensors.items():
        if tensor.dim() != 4:
            yield NotFourAxes(name=name, shape=tuple(tensor.shape))
        elif not tensor.is_floating_point() or tensor.element_size() == 1:
            yield NotFloating(name=name, dtype=type_name(tensor))
        elif not tensor.shape[3]:
            yield NoDimension(name=name, shape=tuple(tensor.shape))


def unfitting(q: Tensor, k: Tensor, v: Tensor, paged: bool) -> Iterator[Diagnostic]:
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype:
            yield MixedTypes(name=name, query=type_name(q), other=type_name(tensor))
        if tensor.device != q.device:
            yield MixedDevices(name=name, query=str(q.device), other=str(tensor.device))
        if tensor.shape[0] != q.shape[0] and not paged:
            yield disagreeing("q", name, "batch", q.shape[0], tensor.shape[0])
        if not tensor.shape[1] or q.shape[1] % tensor.shape[1]:
            yield IndivisibleHeads(name=name, found=tensor.shape[1], heads=q.shape[1])
    if k.shape[1] != v.shape[1]:
        yield disagreeing("k", "v", "heads", k.shape[1], v.shape[1])
    if paged and (len(k), k.shape[2]) != (len(v), v.shape[2]):
        axis, one, two = ("pages", len(k), len(v)) if len(k) != len(v) else ("page size", k.shape[2], v.shape[2])
        yield disagreeing("k", "v", axis, one, two)
    if q.shape[3] != k.shape[3]:
        yield disagreeing("q", "k", "head dim", q.shape[3], k.shape[3])


def disagreeing(first: str, second: str, axis: str, one: int, two: int) -> Diagnostic:
    return Disagreeing(first=first, second=second, axis=axis, one=one, two=two)


def check_sizes(plan: KernelPlan, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raises if heads and lengths are not those of the pattern."""
    found = list(missized(plan, q, k, v))
    if found:
        raise AttnError(*found)


def wrong_heads(plan: KernelPlan, q: Tensor, k: Tensor) -> Iterator[Diagnostic]:
    mask = plan.mask
    if q.shape[1] != mask.heads and not plan.serves_any_heads:
        yield WrongHeads(pattern=mask.name, found=q.shape[1], expected=mask.heads, span=mask.span)
    if mask.whole is not None and mask.whole.key_count not in (None, k.shape[1]):
        whole = "" if mask.whole.are_all else f", of {mask.whole.key_heads} in all"
        expected = f"{mask.whole.key_count} key head{'s' if mask.whole.key_count != 1 else ''}"
        yield heads.WrongKeyHeads(found=k.shape[1], pattern=mask.name, expected=expected, whole=whole, span=mask.span)


def missized(plan: KernelPlan, q: Tensor, k: Tensor, v: Tensor) -> Iterator[Diagnostic]:
    mask = plan.mask
    yield from wrong_heads(plan, q, k)
    keys = "keys that are not pooled" if mask.keys.is_pooled else "keys"
    lengths = (("q", q, "queries", mask.queries), ("k", k, keys, mask.keys), ("v", v, keys, mask.keys))
    for name, tensor, kind, sequence in lengths:
        if tensor.shape[2] != sequence.given_length:
            yield WrongLength(
                name=name,
                found=tensor.shape[2],
                expected=sequence.given_length,
                pattern=mask.name,
                kind="tokens" if mask.self_attention else kind,
                span=mask.span,
            )


def check_layout(plan: KernelPlan, layout: str) -> None:
    """Raises if keys come laid out from which others are pooled."""
    keys = plan.mask.keys
    if layout == "ordered" and keys.is_pooled and any(keys.order):
        raise AttnError(LaidOutPooled(pattern=plan.mask.name, span=plan.mask.span))


def check_inputs(inputs: Iterable[Input], tensors: Iterable[Tensor], q: Tensor) -> None:
    """Raises if shapes, types and devices are not those declared."""
    pairs = zip(inputs, tensors, strict=True)
    found = [each for declared, tensor in pairs for each in unfit_input(declared, tensor, q)]
    if found:
        raise AttnError(*found)


def unfit_input(declared: Input, tensor: Tensor, q: Tensor) -> Iterator[Diagnostic]:
    name, span = declared.name, declared.span
    if tensor.device != q.device:
        yield MixedDevices(name=name, query=str(q.device), other=str(tensor.device), span=span)
        return
    called = {DimensionKind.BATCH: q.shape[0], DimensionKind.DIM: q.shape[3]}
    sizes = tuple(called.get(each.kind, each.size) for each in declared.dimensions)
    fits = tensor.dim() == len(sizes) and all(
        size in (None, length) for size, length in zip(sizes, tensor.shape, strict=True)
    )
    if not fits:
        pairs = zip(declared.dimensions, sizes, strict=True)
        expected = ", ".join(
            each.text if size is None or each.text == str(size) else f"{each.text} = {size}" for each, size in pairs
        )
        yield InputShape(name=name, found=tuple(tensor.shape), expected=f"[{expected}]", span=span)
    if not has_type(tensor, declared.type):
        yield InputType(name=name, found=type_name(tensor), expected=str(declared.type), span=span)


def check_values(inputs: Iterable[Input], tensors: Iterable[Tensor]) -> None:
    """Raises if an integer is outside 32 bits. Waits for the device, and so does nothing while a graph is captured."""
    for declared, tensor in zip(inputs, tensors, strict=True):
        if declared.reach is not None or tensor.dtype != torch.int64 or not tensor.numel():
            continue
        if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
            continue
        low, high = (int(bound) for bound in torch.aminmax(tensor))
        if low < -(2**31) or high >= 2**31:
            worst = low if low < -(2**31) else high
            raise AttnError(InputRange(name=declared.name, value=worst, span=declared.span))


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
