"""The given inputs of a mask as NumPy arrays, checked against their declarations."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.diagnostics import AttnError, Diagnostic, nearest_name
from maskdsl.base.errors.calls.inputs import InputRange, InputShape, InputType, MissingInput, UnknownInput
from maskdsl.base.errors.calls.selection import MissingVectors
from maskdsl.base.habits import ARGUMENTS
from maskdsl.base.source import Span
from maskdsl.ir.declared.inputs import HEAD_DIM, DimensionKind, Input
from maskdsl.ir.facts.ranges import INT32
from maskdsl.ir.facts.trace import pair_trace, pooling_trace, tile_trace, trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.given_lists import holding
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Balanced, Draw, Nearest, Pools, Rank, Route, Routed, route_expressions
from maskdsl.ir.stack import StackIR
from maskdsl.ir.values.group_scores import GroupScores

Array = NDArray[Any]

_SPREADING = (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)
"""Dimensions in which a side of size 1 stands for all entries."""
_TYPES = {"i": Type.INT, "u": Type.INT, "f": Type.FLOAT, "b": Type.BOOL}
"""By NumPy's `dtype.kind`."""


def input_arrays(mask: MaskIR, given: Mapping[str, object], needed: Iterable[str], batch: int = 1) -> dict[str, Array]:
    """All given inputs as arrays. Raises `AttnError` if one of `needed` is missing, or one is unknown or does not fit.

    The number of batch entries is free, and the same for all inputs; `batch` where they all have one for every entry.
    """
    errors: list[Diagnostic] = list(_unknown(mask, given))
    given = holding(mask.inputs, given)
    arrays: dict[str, Array] = {}
    sizes: dict[DimensionKind, int] = {}
    required = set(needed)
    for declared in (each for each in mask.inputs if each.source is None):
        if declared.name in given:
            array = np.asarray(given[declared.name])
            errors += unfit(declared, array.shape, _TYPES.get(array.dtype.kind), str(array.dtype), sizes)
            if array.dtype.kind in "iu" and array.size:
                errors += beyond_32_bits(declared, int(array.min()), int(array.max()))
            entries = _batch_entries(declared, array)
            if entries not in (None, 1):
                sizes.setdefault(DimensionKind.BATCH, entries)
            arrays[declared.name] = array
        elif declared.name in required and declared in mask.given:
            errors.append(MissingInput(name=declared.name, span=declared.span))
        elif declared.name in required and not errors:
            errors.append(MissingVectors(pattern=mask.name, span=declared.span))
    if errors:
        raise AttnError(*errors)
    return whole_arrays(mask, arrays, sizes.get(DimensionKind.BATCH, batch))


def whole_arrays(mask: MaskIR, arrays: Mapping[str, Array], batch: int, dim: int | None = None) -> dict[str, Array]:
    """Checked arrays at the sizes that the mask reads, and those made of them; `dim` is the head dimension, if known.

    A side of size 1 stands for all batch entries, heads or tokens. An entry of a key head stands for its query heads.
    """
    whole: dict[str, Array] = {}
    for declared in mask.inputs:
        if declared.name in arrays:
            whole[declared.name] = _whole_array(declared, arrays[declared.name], batch)
        elif declared.name == HEAD_DIM and dim is not None:
            whole[declared.name] = np.asarray(dim)
        elif declared.source in whole:
            whole[declared.name] = whole[declared.source]
    return whole | {name: array for name, array in arrays.items() if name not in whole}


def _whole_array(declared: Input, array: Array, batch: int) -> Array:
    shape = list(array.shape)
    for axis, dimension in enumerate(declared.held):
        if dimension.shared > 1 and shape[axis] == dimension.given_size:
            array = np.repeat(array, dimension.shared, axis=axis)
        if dimension.kind in _SPREADING:
            shape[axis] = batch if dimension.size is None else dimension.size
    return array if array.shape == tuple(shape) else np.broadcast_to(array, shape)


def branch_inputs(branch: MaskIR, given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a branch among those of its pattern."""
    names = {each.name for each in branch.inputs}
    return {name: value for name, value in given.items() if name in names}


def layer_inputs(stack: StackIR, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The given inputs of each different layer of a stack. Raises `UnknownInput` for one that no layer has.

    The result of a layer's route may be given under its name, unless another layer has an input of that name.
    """
    errors = list(_unknown(stack, given))
    if errors:
        raise AttnError(*errors)
    declared = {each.name for each in stack.inputs}
    names = [
        {each.name for each in mask.given} | ({each.name for each in mask.inputs} - declared)
        for mask in stack.different
    ]
    return [{name: value for name, value in given.items() if name in accepted} for accepted in names]


def _unknown(mask: MaskIR | StackIR, given: Iterable[str]) -> Iterator[Diagnostic]:
    masks = mask.different if isinstance(mask, StackIR) else (mask,)
    names = list(dict.fromkeys(each.name for one in masks for each in one.inputs if each.source is None))
    accepted = {name for one in masks for name in (*(each.name for each in one.inputs), *one.unread)}
    return (unknown_input(name, mask.name, names, mask.span) for name in given if name not in accepted)


def unknown_input(name: str, pattern: str, known: Sequence[str], span: Span | None) -> Diagnostic:
    """The error of an input that no pattern declares, with what stands for an argument of another library."""
    if name in ARGUMENTS:
        return UnknownInput(name=name, pattern=pattern, hint=ARGUMENTS[name], span=span)
    listed = ", ".join(f"`{each}`" for each in known)
    hint = f"its inputs are {listed}" if known else "it has none: inputs are declared by `input name: int[tokens]`"
    return UnknownInput(name=name, pattern=pattern, hint=hint, nearest=nearest_name(name, known), span=span)


def batch_entries(mask: MaskIR, inputs: Mapping[str, Array], default: int = 1) -> int:
    """The largest number of batch entries of these inputs, ignoring arrays of the wrong rank; else `default`."""
    counts = (_batch_entries(each, inputs[each.name]) for each in mask.named(inputs))
    return max((each for each in counts if each is not None), default=default)


def _batch_entries(declared: Input, array: Array) -> int | None:
    if DimensionKind.BATCH not in declared.kinds or array.ndim != len(declared.held):
        return None
    return int(array.shape[declared.kinds.index(DimensionKind.BATCH)])


def unfit(
    declared: Input, shape: tuple[int, ...], kind: Type | None, dtype: str, sizes: Mapping[DimensionKind, int]
) -> Iterator[Diagnostic]:
    """Yields what is wrong with the shape and type of a tensor of any library.

    `sizes` has the known sizes of dimensions that calls decide.
    """
    expected = [sizes.get(each.kind, each.given_size) for each in declared.held]
    one = [
        length if each.kind in _SPREADING and length in (1, each.size) else size
        for each, size, length in zip(declared.held, expected, shape, strict=False)
    ]
    if not _fits(shape, [*one, *expected[len(one) :]]):
        texts = [
            each.text if size is None or each.text == str(size) else f"{each.text} = {size}"
            for each, size in zip(declared.held, expected, strict=True)
        ]
        sides = f"[{', '.join(texts)}]"
        hint = _batch_hint(declared, shape, expected)
        yield InputShape(name=declared.name, found=shape, expected=sides, hint=hint, span=declared.span)
    if kind is not declared.type:
        yield InputType(name=declared.name, found=dtype, expected=str(declared.type), span=declared.span)


def _batch_hint(declared: Input, shape: tuple[int, ...], expected: Sequence[int | None]) -> str:
    """What to write where an input has an entry of the batch too many or too few."""
    name, sides = declared.name, [each.text for each in declared.held]
    if DimensionKind.BATCH not in declared.kinds and _fits(shape[1:], expected):
        return f"declare `input {name}: {declared.type}[{', '.join(['batch', *sides])}]` for one in each batch entry"
    if declared.kinds[:1] == (DimensionKind.BATCH,) and _fits(shape, expected[1:]):
        return f"give one in each batch entry, {name}.expand(batch, ...), or declare it without `batch`"
    return ""


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        size in (None, length) for size, length in zip(expected, shape, strict=True)
    )


def beyond_32_bits(declared: Input, low: int, high: int) -> Iterator[Diagnostic]:
    """Yields an error if an integer input with values from `low` to `high` has to fit 32 bits and does not."""
    worst = next((bound for bound in (low, high) if bound not in INT32), None)
    if worst is not None and declared.type is Type.INT and declared.reach is None:
        yield InputRange(name=declared.name, value=worst, span=declared.span)


def relation_inputs(mask: MaskIR, given: Container[str] = (), by_line: bool = False) -> frozenset[str]:
    """Names of the inputs that decide which pairs attend, and the memory order of tokens.

    Includes the results of routes, and what these are computed from unless the results are `given`; all of branches.
    `by_line` includes what lines read that decide nothing, as another line holds for every pair, and all routes.
    """
    names = set(tile_trace(mask).inputs)
    if by_line:
        names |= pair_trace(mask, [each.relation for each in (*mask.attend, *mask.require)]).inputs
        names |= {each.name for each in mask.routed}
    for routed in reversed(mask.routed):
        if routed.name in names and routed.name not in given:
            names |= inputs_of_route(mask, routed)
    names |= {each.source for each in mask.inputs if each.name in names and each.source is not None}
    names |= {name for branch in mask.branches for name in relation_inputs(branch, given, by_line)}
    return frozenset(names & {each.name for each in mask.inputs})


def inputs_of_route(mask: MaskIR, routed: Routed) -> frozenset[str]:
    """Names of the inputs that a route reads, beside queries and keys."""
    match routed:
        case Nearest(centroids=name) | Balanced(centroids=name):
            return frozenset({name})
        case Rank(side=side, keys=keys):
            return trace(mask.sequences[side], keys).inputs
        case Draw():
            return frozenset()
        case Pools(side=side, space=name):
            space = mask.sequences[side].space(name)
            assert space is not None
            return pooling_trace(space.groupings).inputs
        case Route() | GroupScores():
            names = pair_trace(mask, route_expressions(routed)).inputs
            names |= {row.input for product in routed.products for row in product.rows}
            tokens = ((each, [*each.counted, *routed.over_token(side)]) for side, each in mask.sequences.items())
            return names.union(*(trace(*each).inputs for each in tokens))
        case _:
            assert_never(routed)
