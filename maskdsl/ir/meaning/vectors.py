"""Checks the shapes and types of q, k and v against a mask: of NumPy arrays, and of tensors of any library."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls.vectors import (
    Disagreeing,
    IndivisibleHeads,
    NoDimension,
    NotFloating,
    NotFourAxes,
    Transposed,
    WrongHeads,
    WrongLength,
)
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import batch_entries
from maskdsl.ir.routes import OfInputs, Scored

Array = NDArray[Any]


Shape = tuple[int, ...]


def check_vectors(mask: MaskIR, q: Array, k: Array) -> None:
    """Raises `AttnError` unless q is float [batch, heads, queries, dim] and k [batch, key heads, given keys, dim]."""
    errors: list[Diagnostic] = []
    for name, array in (("q", q), ("k", k)):
        errors += malformed(name, array.shape, str(array.dtype), array.dtype.kind == "f")
    errors = errors or [*transposed(mask, q.shape, {"k": k.shape})]
    if not errors:
        errors += wrong_heads(mask, q.shape)
        errors += wrong_lengths(mask, q.shape, {"k": k.shape})
        errors += unlike(q.shape, {"k": k.shape})
    if errors:
        raise AttnError(*errors)


# Of tensors of any library


def malformed(name: str, shape: Shape, dtype: str, is_float: bool) -> Iterator[Diagnostic]:
    """Yields what is wrong with one tensor, whatever the others are."""
    if len(shape) != 4:
        yield NotFourAxes(name=name, shape=shape)
    elif not is_float:
        yield NotFloating(name=name, dtype=dtype)
    elif not shape[3]:
        yield NoDimension(name=name, shape=shape)


def unlike(q: Shape, keys: Mapping[str, Shape], paged: bool = False) -> Iterator[Diagnostic]:
    """Yields where the shapes of k and v, if present, do not fit q. If `paged`, their first axis counts pages."""
    for name, shape in keys.items():
        if shape[0] != q[0] and not paged:
            yield disagreeing("q", name, "batch", q[0], shape[0])
        if not shape[1] or q[1] % shape[1]:
            yield IndivisibleHeads(name=name, found=shape[1], heads=q[1])
        if name == "k" and shape[3] != q[3]:
            yield disagreeing("q", "k", "head dim", q[3], shape[3])


def disagreeing(first: str, second: str, axis: str, one: int, two: int) -> Diagnostic:
    """The error of two tensors with different sizes `one` and `two` of an axis that must agree."""
    return Disagreeing(first=first, second=second, axis=axis, one=one, two=two)


def wrong_heads(mask: MaskIR, q: Shape) -> Iterator[Diagnostic]:
    """Yields an error if q has another number of heads than the mask."""
    if q[1] != mask.heads:
        yield WrongHeads(pattern=mask.name, found=q[1], expected=mask.heads, span=mask.span)


def transposed(mask: MaskIR, q: Shape, keys: Mapping[str, Shape]) -> Iterator[Diagnostic]:
    """Yields an error if q, and k and v if present, look like [batch, tokens, heads, dim].

    They do where heads are as many as tokens should be, and where the tokens of a mask whose length follows them are
    as many as its heads.
    """
    length, heads = mask.queries.given_length, mask.heads
    swapped = q[1] == length != q[2] and all(shape[1] == mask.keys.given_length for shape in keys.values())
    if q[1] != heads and (swapped or q[1] > q[2] == heads == length > 1):
        yield Transposed(pattern=mask.name, found=q[1], tokens=q[2], heads=heads, length=length, span=mask.span)


def wrong_lengths(mask: MaskIR, q: Shape, keys: Mapping[str, Shape]) -> Iterator[Diagnostic]:
    """Yields the errors of q, and of k and v if present, whose length is not that of the mask: one for each length."""
    checked = [("q", q, mask.queries, "queries"), *((name, shape, mask.keys, "keys") for name, shape in keys.items())]
    wrong: dict[tuple[int, int, str], list[str]] = {}
    for name, shape, sequence, kind in checked:
        if shape[2] != sequence.given_length:
            kind = "tokens" if mask.self_attention else kind
            case = shape[2], sequence.given_length, f"{kind} that are not pooled" if sequence.is_pooled else kind
            wrong.setdefault(case, []).append(f"`{name}`")
    for (length, expected, kind), names in wrong.items():
        yield WrongLength(
            names=f"{names[0]} has" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} have",
            found=length,
            expected=expected,
            pattern=mask.name,
            kind=kind,
            hint=_length_hint(mask, names, length, expected),
            span=mask.span,
        )


def _length_hint(mask: MaskIR, names: list[str], length: int, expected: int) -> str:
    """What a call of another length may have meant: some of the queries, or tensors of any length."""
    if names == ["`q`"] and length < expected:
        return "give `query_start=...` where these are some of the queries: the position of the first one"
    parameters = [name for name, value in mask.parameters if value == expected and type(value) is int]
    if len(parameters) != 1:
        return f"bind it for {length} {'token' if length == 1 else 'tokens'}"
    name = parameters[0]
    return f'bind it with {name}={length}, or take tensors of any length: pattern.compile(follow="{name}")'


def reads_vectors(mask: MaskIR, names: Container[str]) -> bool:
    """Whether a route of one of these names reads the vectors of queries and keys."""
    return any(
        each.name in names
        and not isinstance(each, OfInputs)
        and not (isinstance(each, Scored) and not each.reads_tokens)
        for each in mask.routed
    )


def blank_vectors(mask: MaskIR, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Zero vectors of head dim 1, for masks whose routes read none."""
    batch = batch_entries(mask, inputs)
    lengths = {"q": mask.queries.given_length, "k": mask.keys.given_length}
    return {name: np.zeros((batch, mask.heads, length, 1)) for name, length in lengths.items()}
