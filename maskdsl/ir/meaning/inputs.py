"""The inputs of a mask as NumPy arrays, checked against their declarations."""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.diagnostics import AttnError, Diagnostic, nearest_name
from maskdsl.base.errors.calls.inputs import InputRange, InputShape, InputType, MissingInput, UnknownInput
from maskdsl.base.errors.calls.selection import MissingVectors
from maskdsl.ir.facts.ranges import INT32
from maskdsl.ir.facts.trace import pair_trace, tile_trace, trace
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Balanced, Nearest, Rank, Route, Routed, route_expressions
from maskdsl.ir.stack import StackIR

Array = NDArray[Any]

_TYPES = {"i": Type.INT, "u": Type.INT, "f": Type.FLOAT, "b": Type.BOOL}
"""By NumPy's kinds of types."""


def input_arrays(mask: MaskIR, given: Mapping[str, object], needed: Iterable[str]) -> dict[str, Array]:
    """The inputs `needed`. Raises if one is missing or anything given is unknown or unfit.

    Batch entries may be any number, the same for all inputs.
    """
    found: list[Diagnostic] = list(_unknown(mask, given))
    arrays: dict[str, Array] = {}
    sizes: dict[DimensionKind, int] = {}
    required = set(needed)
    for declared in mask.inputs:
        if declared.name in given:
            array = np.asarray(given[declared.name])
            found += unfit(declared, array.shape, _TYPES.get(array.dtype.kind), str(array.dtype), sizes)
            if array.dtype.kind in "iu" and array.size:
                found += outside_words(declared, int(array.min()), int(array.max()))
            entries = _batch_entries(declared, array)
            if entries is not None:
                sizes.setdefault(DimensionKind.BATCH, entries)
            arrays[declared.name] = array
        elif declared.name in required and declared in mask.given:
            found.append(MissingInput(name=declared.name, span=declared.span))
        elif declared.name in required and not found:
            found.append(MissingVectors(pattern=mask.name, span=declared.span))
    if found:
        raise AttnError(*found)
    return arrays


def layer_inputs(stack: StackIR, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of what is given, what each different layer of a stack has. Raises if none has it.

    What a layer finds is taken as given by this name, unless another layer has an input of it.
    """
    found = list(_unknown(stack, given))
    if found:
        raise AttnError(*found)
    declared = {each.name for each in stack.inputs}
    names = [
        {each.name for each in mask.given} | ({each.name for each in mask.inputs} - declared)
        for mask in stack.different
    ]
    return [{name: value for name, value in given.items() if name in own} for own in names]


def _unknown(mask: MaskIR | StackIR, given: Iterable[str]) -> Iterator[Diagnostic]:
    masks = mask.different if isinstance(mask, StackIR) else (mask,)
    names = list(dict.fromkeys(each.name for one in masks for each in one.inputs))
    for name in given:
        if name not in names:
            nearest = nearest_name(name, names)
            yield UnknownInput(name=name, pattern=mask.name, nearest=nearest, span=mask.span)


def batch_entries(mask: MaskIR, inputs: Mapping[str, Array], default: int = 1) -> int:
    """The most that one of the inputs has, of those that have as many dimensions as declared."""
    found = (_batch_entries(each, inputs[each.name]) for each in mask.named(inputs))
    return max((each for each in found if each is not None), default=default)


def _batch_entries(declared: Input, array: Array) -> int | None:
    if DimensionKind.BATCH not in declared.kinds or array.ndim != len(declared.kinds):
        return None
    return int(array.shape[declared.kinds.index(DimensionKind.BATCH)])


def unfit(
    declared: Input, shape: tuple[int, ...], kind: Type | None, dtype: str, sizes: Mapping[DimensionKind, int]
) -> Iterator[Diagnostic]:
    """What is wrong with a tensor of any library; `sizes` are those of dimensions that calls decide, if known."""
    wanted = [sizes.get(each.kind, each.size) for each in declared.dimensions]
    pairs = zip(wanted, shape, strict=False)
    if len(shape) != len(wanted) or any(size not in (None, length) for size, length in pairs):
        texts = [
            each.text if size is None or each.text == str(size) else f"{each.text} = {size}"
            for each, size in zip(declared.dimensions, wanted, strict=True)
        ]
        yield InputShape(name=declared.name, found=shape, expected=f"[{', '.join(texts)}]", span=declared.span)
    if kind is not declared.type:
        yield InputType(name=declared.name, found=dtype, expected=str(declared.type), span=declared.span)


def outside_words(declared: Input, low: int, high: int) -> Iterator[Diagnostic]:
    """Of an input whose integers lie between these: 32 bits hold them, unless they were computed."""
    worst = next((bound for bound in (low, high) if bound not in INT32), None)
    if worst is not None and declared.type is Type.INT and declared.reach is None:
        yield InputRange(name=declared.name, value=worst, span=declared.span)


def relation_inputs(mask: MaskIR, given: Container[str] = ()) -> frozenset[str]:
    """The inputs that decide which pairs attend and in which order tokens are laid out.

    Those also in which others are found, unless these are given.
    """
    names = set(tile_trace(mask).inputs)
    for found in reversed(mask.routed):
        if found.name in names and found.name not in given:
            names |= _to_find(mask, found)
    return frozenset(names & {each.name for each in mask.inputs})


def _to_find(mask: MaskIR, found: Routed) -> frozenset[str]:
    """The inputs in which something is found, beside queries and keys."""
    match found:
        case Nearest(centroids=name) | Balanced(centroids=name):
            return frozenset({name})
        case Rank(side=side, keys=keys):
            return trace(mask.sequences[side], keys).inputs
        case Route():
            names = pair_trace(mask, route_expressions(found)).inputs
            return names.union(*(trace(each, found.over_token(side)).inputs for side, each in mask.sequences.items()))
        case _:
            assert_never(found)
