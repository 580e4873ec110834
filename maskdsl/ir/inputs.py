"""The inputs of a mask as NumPy arrays, checked against their declarations."""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from maskdsl.diagnostics import AttnError, Diagnostic, nearest_name
from maskdsl.errors.inputs import InputRange, InputShape, InputType, MissingInput, UnknownInput
from maskdsl.errors.selection import MissingVectors
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Balanced, Found, Nearest, Rank, Route, found_expressions
from maskdsl.ir.stack import StackIR
from maskdsl.ir.trace import pair_trace, tile_trace, trace

Array = NDArray[Any]

KINDS = {Type.INT: "iu", Type.FLOAT: "f", Type.BOOL: "b"}
WORDS = range(-(2**31), 2**31)


def input_arrays(mask: MaskIR, given: Mapping[str, object], needed: Iterable[str]) -> dict[str, Array]:
    """The inputs `needed`. Raises if one is missing or anything given is unknown or unfit.

    Batch entries may be any number, the same for all inputs.
    """
    found: list[Diagnostic] = list(unknown(mask, given))
    arrays: dict[str, Array] = {}
    batch: int | None = None
    required = set(needed)
    for declared in mask.inputs:
        if declared.name in given:
            array = np.asarray(given[declared.name])
            found += unfit(declared, array, batch)
            arrays[declared.name] = array
            batch = batch_entries(declared, array) if batch is None else batch
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
    found = list(unknown(stack, given))
    if found:
        raise AttnError(*found)
    declared = {each.name for each in stack.inputs}
    names = [
        {each.name for each in mask.given} | ({each.name for each in mask.inputs} - declared)
        for mask in stack.different
    ]
    return [{name: value for name, value in given.items() if name in own} for own in names]


def unknown(mask: MaskIR | StackIR, given: Iterable[str]) -> Iterator[Diagnostic]:
    masks = mask.different if isinstance(mask, StackIR) else (mask,)
    names = list(dict.fromkeys(each.name for one in masks for each in one.inputs))
    for name in given:
        if name not in names:
            nearest = nearest_name(name, names)
            yield UnknownInput(name=name, pattern=mask.name, nearest=nearest, span=mask.span)


def batch_entries(declared: Input, array: Array) -> int | None:
    kinds = [dimension.kind for dimension in declared.dimensions]
    if DimensionKind.BATCH not in kinds or array.ndim != len(kinds):
        return None
    return int(array.shape[kinds.index(DimensionKind.BATCH)])


def unfit(declared: Input, array: Array, batch: int | None) -> Iterator[Diagnostic]:
    name, span = declared.name, declared.span
    sizes = tuple(batch if each.kind is DimensionKind.BATCH else each.size for each in declared.dimensions)
    fits = array.ndim == len(sizes) and all(
        size in (None, length) for size, length in zip(sizes, array.shape, strict=True)
    )
    if not fits:
        texts = [each.text for each in declared.dimensions]
        pairs = zip(texts, sizes, strict=True)
        expected = ", ".join(text if size is None or text == str(size) else f"{text} = {size}" for text, size in pairs)
        yield InputShape(name=name, found=array.shape, expected=f"[{expected}]", span=span)
    if array.dtype.kind not in KINDS[declared.type]:
        yield InputType(name=name, found=str(array.dtype), expected=str(declared.type), span=span)
    elif declared.type is Type.INT and declared.reach is None and array.size:
        for bound in (int(array.min()), int(array.max())):
            if bound not in WORDS:
                yield InputRange(name=name, value=bound, span=span)
                return


def relation_inputs(mask: MaskIR, given: Container[str] = ()) -> frozenset[str]:
    """The inputs that decide which pairs attend and in which order tokens are laid out.

    Those also in which others are found, unless these are given.
    """
    names = set(tile_trace(mask).inputs)
    for found in reversed(mask.found):
        if found.name in names and found.name not in given:
            names |= _to_find(mask, found)
    return frozenset(names & {each.name for each in mask.inputs})


def _to_find(mask: MaskIR, found: Found) -> frozenset[str]:
    """The inputs in which something is found, beside queries and keys."""
    match found:
        case Nearest(centroids=name) | Balanced(centroids=name):
            return frozenset({name})
        case Rank(side=side, keys=keys):
            return trace(mask.sequences[side], keys).inputs
        case Route():
            names = pair_trace(mask, found_expressions(found)).inputs
            return names.union(*(trace(each, found.over_token(side)).inputs for side, each in mask.sequences.items()))
        case _:
            assert_never(found)
