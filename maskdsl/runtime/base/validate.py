"""Checks a call's tensors, inputs and options: shapes, types, devices, names. Every mistake is a declared error."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, Diagnostic, shown
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.base.errors.calls.backends import UnknownLayout
from maskdsl.base.errors.calls.inputs import MissingInput
from maskdsl.base.errors.calls.lengths import NotIntegers, NotOneAxis
from maskdsl.base.errors.calls.normalization import NoSums
from maskdsl.base.errors.calls.selection import LaidOutPooled
from maskdsl.base.errors.calls.vectors import (
    MixedDevices,
    MixedTypes,
    NotATensor,
    NotStrided,
)
from maskdsl.base.errors.language import heads
from maskdsl.base.errors.language.heads import Distributed
from maskdsl.base.source import Span
from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.facts.ranges import INT32
from maskdsl.ir.mask import Normalize
from maskdsl.ir.meaning import vectors
from maskdsl.ir.meaning.inputs import beyond_32_bits, unfit, unknown_input
from maskdsl.ir.ops import Type
from maskdsl.runtime.base.processes import distributed_tensor

EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Types of keys and values alone."""
INTEGER_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

_NO_SIZES: Mapping[DimensionKind, int] = {}


class Lists(NamedTuple):
    """How calls give a sparse input."""

    front: int
    """The dimensions before rows and columns."""
    numbers: tuple[str, ...]
    """The inputs that have a number of each of its entries."""


@dataclass(frozen=True)
class Signature:
    """The names that a call of a pattern takes, and where they are declared."""

    pattern: str
    span: Span | None
    inputs: Mapping[str, Span | None]
    """The inputs that callers give, in declared order."""
    unread: tuple[str, ...] = ()
    """Inputs that nothing reads, which callers may give as well."""
    sparse: Mapping[str, Lists] = field(default_factory=dict)
    """The sparse inputs among them."""
    is_routed: bool = False
    """Whether more inputs may be computed before attention: routes, nearest centroids, ranks, facts about pools."""
    multiplies: bool = False
    """Whether scores may read products of vectors, which are computed before attention."""
    pools_queries: bool = False
    normalize: Normalize = Normalize.BY_QUERY
    crosses: bool = False
    """Whether the keys are other tokens than the queries: packed sequences then begin with the first of both."""
    follows: int = 0
    """How many lengths follow each call's tensors: none, that of all tokens, or those of queries and of keys."""
    declared: tuple[Input, ...] = ()
    """The declarations of `inputs`; sizes of token dimensions are None where lengths follow each call's tensors."""
    made: tuple[str | None, ...] = ()
    """The inputs that are made of them: each the tensor of the one of this name, or None for the head dimension."""
    changes_inputs: bool = False
    """Whether the mask reads other tensors than those that callers give, whatever their shapes."""

    def making(self, given: tuple[Input, ...], made: Iterable[Input]) -> "Signature":
        """The signature of a pattern whose callers give these inputs, of which others are made."""
        sources = tuple(each.source if each.source in self.inputs else None for each in made)
        shares = any(side.shared > 1 for each in given for side in each.dimensions)
        return replace(self, declared=given, made=sources, changes_inputs=bool(sources) or shares)


def arguments(
    signature: Signature, q: object, k: object, v: object, given: Mapping[str, object]
) -> tuple[Tensor, Tensor, Tensor, list[Any]]:
    """q, k, v and the inputs in declared order, all as tensors but the lists of sparse inputs, which stay as given.

    Raises `AttnError` if one of them is missing, unknown, not a tensor, nested, sparse, or sharded over processes.
    """
    if signature.unread:
        given = {name: x for name, x in given.items() if name not in signature.unread}
    lists = {name: x for name, x in given.items() if name in signature.sparse} if signature.sparse else {}
    plain = {name: x for name, x in given.items() if name not in lists} if lists else given
    known = [x for x in plain.values() if isinstance(x, Tensor)] if plain else ()
    if not _are_plain(q, k, v, *known):
        raise AttnError(*_not_plain({"q": q, "k": k, "v": v}, plain))
    assert isinstance(q, Tensor) and isinstance(k, Tensor) and isinstance(v, Tensor)
    if not given and not signature.inputs:
        return q, k, v, []
    tensors: dict[str, Any] = {}
    for name in signature.inputs:  # a loop: every call pays for the frame of a comprehension
        if name in given:
            x = given[name]
            tensors[name] = x if isinstance(x, Tensor) or name in lists else as_tensor(x, q.device)
    inputs = [x for x in tensors.values() if x is not None]
    if len(inputs) < len(signature.inputs) or len(given) > len(signature.inputs):
        raise AttnError(*misnamed(signature, given, tensors))
    return q, k, v, inputs


def _are_plain(*values: object) -> bool:
    """Whether all are strided tensors that are whole in this process."""
    for x in values:
        if not isinstance(x, Tensor) or x.is_nested or x.layout is not torch.strided:
            return False
        if type(x) is not Tensor and isinstance(x, distributed_tensor()):
            return False
    return True


def _not_plain(vectors: Mapping[str, object], given: Mapping[str, object]) -> list[Diagnostic]:
    """All errors of the first kind that occurs: not a tensor, not strided, distributed."""
    missing: list[Diagnostic] = [
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
    sharded: list[Diagnostic] = [
        Distributed(name=name) for name, x in tensors.items() if isinstance(x, distributed_tensor())
    ]
    return missing or unfit or sharded


def check_options(layout: object, **flags: object) -> None:
    """Raises `WrongArgument` if `layout` is no string or a flag no bool."""
    if not isinstance(layout, str):
        raise AttnError(WrongArgument(name="layout", found=shown(layout), expected="a string"))
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise AttnError(WrongArgument(name=name, found=shown(flag), expected="True or False"))


def check_sums(signatures: Iterable[Signature]) -> None:
    """Raises `NoSums` for a pattern, or branches, without a softmax by query, of which no log-sum-exp can be given."""
    for each in signatures:
        if each.normalize is not Normalize.BY_QUERY:
            raise AttnError(NoSums(pattern=each.pattern, normalize=each.normalize, span=each.span))


def integers_of(name: str, value: object, device: torch.device) -> Tensor:
    """Integers of one axis or more, from a tensor, an array or a list. Raises `AttnError` for anything else."""
    tensor = as_tensor(value, device)
    if tensor is None:
        raise AttnError(NotATensor(name=name, found="not given" if value is None else type(value).__name__))
    if tensor.dtype not in INTEGER_TYPES:
        raise AttnError(NotIntegers(name=name, found=type_name(tensor)))
    if not tensor.dim():
        raise AttnError(NotOneAxis(name=name, found=tuple(tensor.shape)))
    return tensor


def misnamed(signature: Signature, given: Mapping[str, object], tensors: Mapping[str, object]) -> Iterator[Diagnostic]:
    """Errors for inputs that are unknown, missing or not convertible to tensors."""
    for name in given:
        if name not in signature.inputs:
            yield unknown_input(name, signature.pattern, [*signature.inputs], signature.span)
    for name, span in signature.inputs.items():
        if name not in given:
            yield MissingInput(name=name, span=span)
        elif tensors[name] is None:
            yield NotATensor(name=name, found=type(given[name]).__name__, span=span)


def as_tensor(value: object, device: torch.device) -> Tensor | None:
    """A tensor as it is, or an array or list as a tensor on `device`; None where that is impossible."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def check_tensors(q: Tensor, k: Tensor, v: Tensor, layout: str, paged: bool = False, mixed: bool = False) -> None:
    """Raises if q, k and v do not fit each other, for any pattern.

    `paged` k and v are [pages, heads, page size, dim] instead of [batch, heads, keys, dim]; `mixed` ones may have types
    of their own, and of one byte.
    """
    errors = list(malformed({"q": q, "k": k, "v": v}, EIGHT_BITS if mixed else ()))
    errors = errors or list(_unfitting(q, k, v, paged, mixed))
    if layout not in ("declared", "ordered"):
        errors.append(UnknownLayout(name=layout))
    if errors:
        raise AttnError(*errors)


def malformed(tensors: Mapping[str, Tensor], others: Sequence[torch.dtype] = ()) -> Iterator[Diagnostic]:
    """Errors for tensors that are not floats of two bytes or more with four axes and a nonzero head dim.

    All but `q` may be of `others` too.
    """
    for name, x in tensors.items():
        is_float = x.is_floating_point() and (x.element_size() > 1 or (name != "q" and x.dtype in others))
        if not (is_float and x.dim() == 4 and x.shape[3]):  # every call checks: skip the slow description
            yield from vectors.malformed(name, tuple(x.shape), "" if is_float else type_name(x), is_float)


def _unfitting(q: Tensor, k: Tensor, v: Tensor, paged: bool, mixed: bool) -> Iterator[Diagnostic]:
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype and not mixed:
            yield MixedTypes(name=name, query=type_name(q), other=type_name(tensor))
        if tensor.device != q.device:
            yield MixedDevices(name=name, query=str(q.device), other=str(tensor.device))
    yield from vectors.unlike(q.shape, {"k": k.shape, "v": v.shape}, paged)
    if k.shape[1] != v.shape[1]:
        yield vectors.disagreeing("k", "v", "heads", k.shape[1], v.shape[1])
    if paged and (len(k), k.shape[2]) != (len(v), v.shape[2]):
        axis, one, two = ("pages", len(k), len(v)) if len(k) != len(v) else ("page size", k.shape[2], v.shape[2])
        yield vectors.disagreeing("k", "v", axis, one, two)


def check_sizes(plan: KernelPlan, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raises if heads and lengths are not those of the pattern."""
    keys = {"k": k.shape, "v": v.shape}
    errors = [*vectors.transposed(plan.mask, q.shape, keys)]
    errors = errors or [*wrong_heads(plan, q, k), *vectors.wrong_lengths(plan.mask, q.shape, keys)]
    if errors:
        raise AttnError(*errors)


def wrong_heads(plan: KernelPlan, q: Tensor, k: Tensor) -> Iterator[Diagnostic]:
    """Errors for numbers of query heads and key heads that are not those of the pattern."""
    mask = plan.mask
    if not plan.serves_any_heads:
        yield from vectors.wrong_heads(mask, q.shape)
    if mask.whole is not None and mask.whole.key_count not in (None, k.shape[1]):
        whole = "" if mask.whole.are_all else f", of {mask.whole.key_heads} in all"
        expected = f"{mask.whole.key_count} key head{'s' if mask.whole.key_count != 1 else ''}"
        yield heads.WrongKeyHeads(found=k.shape[1], pattern=mask.name, expected=expected, whole=whole, span=mask.span)


def check_layout(plan: KernelPlan, layout: str) -> None:
    """Raises `LaidOutPooled` for ordered layout where the pattern pools tokens and orders them."""
    sides = plan.mask.sequences.values()
    if layout == "ordered" and any(each.is_pooled and any(each.order) for each in sides):
        raise AttnError(LaidOutPooled(pattern=plan.mask.name, span=plan.mask.span))


def check_inputs(inputs: Iterable[Input], tensors: Iterable[Tensor], q: Tensor) -> None:
    """Raises if the shape, type or device of an input is not the declared one."""
    pairs = zip(inputs, tensors, strict=True)
    errors = [each for declared, tensor in pairs for each in _unfit_input(declared.whole, tensor, q)]
    if errors:
        raise AttnError(*errors)


def _unfit_input(declared: Input, tensor: Tensor, q: Tensor) -> Iterator[Diagnostic]:
    if tensor.device != q.device:
        yield MixedDevices(name=declared.name, query=str(q.device), other=str(tensor.device), span=declared.span)
        return
    sizes = {DimensionKind.BATCH: q.shape[0], DimensionKind.DIM: q.shape[3]}
    yield from unfit(declared, tuple(tensor.shape), _type_of(tensor), type_name(tensor), sizes)


def check_given(signature: Signature, tensors: Iterable[Any], sizes: Mapping[DimensionKind, int] = _NO_SIZES) -> None:
    """As `check_inputs`, before there is a q: raises for what is known to be wrong with these sizes of a call."""
    pairs = [pair for pair in zip(signature.declared, tensors, strict=True) if pair[0].name not in signature.sparse]
    errors = [
        each for declared, x in pairs for each in unfit(declared, tuple(x.shape), _type_of(x), type_name(x), sizes)
    ]
    if errors:
        raise AttnError(*errors)


def check_values(inputs: Iterable[Input], tensors: Iterable[Tensor]) -> None:
    """Raises if an integer does not fit into 32 bits.

    Waits for the device; does nothing while a CUDA graph is captured.
    """
    for declared, tensor in zip(inputs, tensors, strict=True):
        if declared.reach is not None or tensor.dtype != torch.int64 or not tensor.numel():
            continue
        if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
            continue
        low, high = map(int, torch.aminmax(tensor))
        if low < INT32.low or high > INT32.high:
            raise AttnError(*beyond_32_bits(declared, low, high))


def _type_of(tensor: Tensor) -> Type | None:
    if tensor.dtype in INTEGER_TYPES:
        return Type.INT
    if tensor.is_floating_point():
        return Type.FLOAT
    return Type.BOOL if tensor.dtype == torch.bool else None


def type_name(tensor: Tensor) -> str:
    """A dtype for messages, such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")
