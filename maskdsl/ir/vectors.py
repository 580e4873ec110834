"""The queries and keys in which pairs are found, as NumPy arrays, checked against the mask."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from maskdsl.diagnostics import AttnError, Diagnostic
from maskdsl.errors import call as errors
from maskdsl.ir.mask import MaskIR

Array = NDArray[Any]


def check_vectors(mask: MaskIR, q: Array, k: Array) -> None:
    """Raises if q is not [batch, heads, queries, dim] or k not [batch, key heads, given keys, dim] of this mask."""
    found = [each for name, array in (("q", q), ("k", k)) for each in malformed(name, array)]
    if found or (found := list(unfitting(mask, q, k))):
        raise AttnError(*found)


def malformed(name: str, array: Array) -> Iterator[Diagnostic]:
    if array.ndim != 4:
        yield errors.NotFourAxes(name=name, shape=array.shape)
    elif array.dtype.kind != "f":
        yield errors.NotFloating(name=name, dtype=str(array.dtype))


def unfitting(mask: MaskIR, q: Array, k: Array) -> Iterator[Diagnostic]:
    if q.shape[1] != mask.heads:
        yield errors.WrongHeads(pattern=mask.name, found=q.shape[1], expected=mask.heads, span=mask.span)
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        yield errors.IndivisibleHeads(name="k", found=k.shape[1], heads=q.shape[1])
    for name, array, sequence, kind in (("q", q, mask.queries, "queries"), ("k", k, mask.keys, "keys")):
        if array.shape[2] != sequence.given_length:
            yield errors.WrongLength(
                name=name,
                found=array.shape[2],
                expected=sequence.given_length,
                pattern=mask.name,
                kind="tokens" if mask.is_layer else kind,
                span=mask.span,
            )
    for axis, name in ((0, "batch"), (3, "head dim")):
        if q.shape[axis] != k.shape[axis]:
            yield errors.Disagreeing(first="q", second="k", axis=name, one=q.shape[axis], two=k.shape[axis])
