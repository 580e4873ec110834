"""The queries and keys in which pairs are found, as NumPy arrays, checked against the mask."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.diagnostics import AttnError, Diagnostic
from maskdsl.errors.vectors import Disagreeing, IndivisibleHeads, NotFloating, NotFourAxes, WrongHeads, WrongLength
from maskdsl.ir.inputs import batch_entries
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Rank, Route

Array = NDArray[Any]


def check_vectors(mask: MaskIR, q: Array, k: Array) -> None:
    """Raises if q is not [batch, heads, queries, dim] or k not [batch, key heads, given keys, dim] of this mask."""
    found = [each for name, array in (("q", q), ("k", k)) for each in malformed(name, array)]
    if found or (found := list(unfitting(mask, q, k))):
        raise AttnError(*found)


def malformed(name: str, array: Array) -> Iterator[Diagnostic]:
    if array.ndim != 4:
        yield NotFourAxes(name=name, shape=array.shape)
    elif array.dtype.kind != "f":
        yield NotFloating(name=name, dtype=str(array.dtype))


def unfitting(mask: MaskIR, q: Array, k: Array) -> Iterator[Diagnostic]:
    if q.shape[1] != mask.heads:
        yield WrongHeads(pattern=mask.name, found=q.shape[1], expected=mask.heads, span=mask.span)
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        yield IndivisibleHeads(name="k", found=k.shape[1], heads=q.shape[1])
    for name, array, sequence, kind in (("q", q, mask.queries, "queries"), ("k", k, mask.keys, "keys")):
        if array.shape[2] != sequence.given_length:
            yield WrongLength(
                name=name,
                found=array.shape[2],
                expected=sequence.given_length,
                pattern=mask.name,
                kind="tokens" if mask.is_layer else kind,
                span=mask.span,
            )
    for axis, name in ((0, "batch"), (3, "head dim")):
        if q.shape[axis] != k.shape[axis]:
            yield Disagreeing(first="q", second="k", axis=name, one=q.shape[axis], two=k.shape[axis])


def reads_vectors(mask: MaskIR, names: Container[str]) -> bool:
    """Whether queries and keys are read to find what has one of these names."""
    return any(
        each.name in names and not isinstance(each, Rank) and not (isinstance(each, Route) and not each.products)
        for each in mask.found
    )


def blank_vectors(mask: MaskIR, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Where nothing is found in them."""
    entries = (batch_entries(each, inputs[each.name]) for each in mask.given if each.name in inputs)
    batch = next((each for each in entries if each is not None), 1)
    lengths = {"q": mask.queries.length, "k": mask.keys.given_length}
    return {name: np.zeros((batch, mask.heads, length, 1)) for name, length in lengths.items()}
