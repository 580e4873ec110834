"""Dense masks and mask functions to `Mask`s, with the text of an equal pattern where one is recognized.

Guesses come from `lines.py` and `grids.py`, from documents and from padding. Each is bound, and kept only if it attends
exactly the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskdsl.api import Mask, parse
from maskdsl.api.recognition.bands import Pairs, band_relation
from maskdsl.api.recognition.grids import NAMES, grid_relations, shapes
from maskdsl.api.recognition.lines import line_relations, run_length
from maskdsl.api.recognition.predicates import CHUNK, Predicate, evaluated
from maskdsl.base.arguments import COUNT, GRID, optional, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.ir.meaning.evaluate import allowed
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs

_TABLE = "pairs"
_DOCUMENT = "document"
_REAL = "real"
"""The names of inputs. `real` tokens are not padding."""
_MOST_PAIRS = 2**32
"""The most pairs for which a function is evaluated, at one byte each."""
_SAMPLE_ROWS = 16
_FEWEST_TOKENS = 4
"""The smallest grid, in tokens."""


@dataclass(frozen=True)
class _TokenLayout:
    """A line of tokens (`shape` None), or a grid of this shape after `before` text tokens."""

    shape: tuple[int, ...] | None = None
    before: int = 0


@dataclass(frozen=True, eq=False)
class Imported:
    """The result of `from_dense` and `from_mask_mod`."""

    mask: Mask
    pattern: str | None
    """The recognized relation, in the language; None if none was recognized, and `mask` reads the pairs as an input."""
    text: str
    """The whole pattern as an `.attn` text."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The inputs of `mask`, by name: documents of tokens, real tokens, or the pairs themselves."""


@takes(grid=optional(GRID))
def from_dense(array: ArrayLike, *, grid: tuple[int, ...] | None = None) -> Imported:
    """The mask of an array [queries, keys], [heads, queries, keys] or [batch, heads, queries, keys].

    The array is NumPy, torch or nested lists; booleans, or floats added to scores, zero and minus infinity. Recognizes
    dense and causal masks, windows, bands, dilated and strided ones, powers of two, blocks, neighbourhoods, prefixes,
    first tokens that all attend, packed documents and padding; also per axis on grids of two and three axes. Tries all
    grids of the length, or only `grid`. Raises `AttnError` for an array that is no mask, and for a grid that does not
    fit it.
    """
    pairs = _as_pairs(array)
    misfits = grid is not None and (len(grid) not in NAMES or not 0 < prod(grid) <= pairs.shape[2])
    if grid is not None and (misfits or pairs.shape[2] != pairs.shape[3]):
        raise AttnError(errors.WrongGrid(grid=tuple(grid), queries=pairs.shape[2], keys=pairs.shape[3]))
    candidates = (made for guesses in (_plain(pairs, grid), _packed(pairs)) for made in guesses)
    return next(candidates, None) or _table(pairs)


@takes(n=COUNT, keys=optional(COUNT), heads=COUNT, batch=COUNT, grid=optional(GRID))
def from_mask_mod(
    function: Predicate,
    n: int,
    *,
    keys: int | None = None,
    heads: int = 1,
    batch: int = 1,
    grid: tuple[int, ...] | None = None,
) -> Imported:
    """The mask of a function `(batch, head, query, key)`, FlexAttention's `mask_mod`, at `n` queries and `keys` keys.

    `keys` is by default `n`. The function is called with torch tensors that broadcast, or with plain integers if that
    fails; the pairs then go to `from_dense`. Raises `AttnError`, also for more than 2**32 pairs.
    """
    size = batch, heads, n, n if keys is None else keys
    if prod(size) > _MOST_PAIRS:
        raise AttnError(errors.TooManyAsked(count=prod(size), limit=_MOST_PAIRS))
    return from_dense(evaluated(function, size), grid=grid)


def _as_pairs(array: ArrayLike) -> Pairs:
    """Bool [batch, heads, queries, keys]; batch or heads is 1 where all entries are equal."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    try:
        pairs = np.asarray(array)
    except (TypeError, ValueError) as error:
        raise AttnError(errors.NotPairs(found="is no array, or has rows of different lengths")) from error
    if pairs.ndim not in (2, 3, 4) or not pairs.size:
        raise AttnError(errors.NotPairs(found=f"has the shape {pairs.shape}"))
    if pairs.dtype.kind == "f":
        highest_hidden = -1e4  # masks in half precision cannot go much lower
        strange = pairs[(pairs != 0) & ~(pairs <= highest_hidden)]
        if strange.size:
            raise AttnError(errors.NotPairs(found=f"has {strange.flat[0]} among its numbers"))
        pairs = pairs == 0
    elif pairs.dtype.kind in "iu" and np.isin(pairs, (0, 1)).all():
        pairs = pairs.astype(bool)
    elif pairs.dtype != bool:
        raise AttnError(errors.NotPairs(found=f"is of type {pairs.dtype}"))
    pairs = pairs.reshape(*(1,) * (4 - pairs.ndim), *pairs.shape)
    for axis in (0, 1):
        first = pairs.take([0], axis)
        pairs = first if (pairs == first).all() else pairs
    return pairs


# Guesses


def _plain(pairs: Pairs, grid: tuple[int, ...] | None) -> Iterator[Imported]:
    """Patterns without inputs: on a line, on a grid, or on a grid after text tokens; one relation per head."""
    if len(pairs) > 1:
        return
    for layout in (_TokenLayout(), *_grids(pairs, grid)):
        relations = [_first_equal(head, layout) for head in pairs[0]]
        if None not in relations:
            imported = _bound(_by_head([each for each in relations if each is not None]), pairs.shape, layout)
            if _equals(imported, pairs):
                yield imported


def _grids(pairs: Pairs, grid: tuple[int, ...] | None) -> Iterator[_TokenLayout]:
    """The grids that the tokens may form, with or without text tokens in front."""
    length = pairs.shape[2]
    if length != pairs.shape[3] or length < _FEWEST_TOKENS:
        return
    first = run_length(np.asarray(pairs.all((0, 1, 2)) & pairs.all((0, 1, 3))))
    for before in dict.fromkeys((0, first)):
        grid_shapes = [*shapes(length - before)] if grid is None else [grid] if prod(grid) == length - before else []
        yield from (_TokenLayout(shape, before) for shape in grid_shapes)


def _first_equal(pairs: Pairs, layout: _TokenLayout) -> str | None:
    """The first guessed relation that holds for exactly these pairs."""
    on_grid = pairs[layout.before :, layout.before :]
    guesses = line_relations(pairs) if layout.shape is None else grid_relations(on_grid, layout.shape)
    for guess in guesses:
        is_mixed = layout.before and guess != "all -> all"
        relation = f"text -> all or all -> text or grid -> grid where {guess}" if is_mixed else guess
        if _equals(_bound(relation, (1, 1, *pairs.shape), layout), pairs[None, None]):
            return relation
    return None


def _by_head(relations: list[str]) -> str:
    """One relation, with a conditional on `head`, of the relations of all heads."""
    starts = [0, *(n for n in range(1, len(relations)) if relations[n] != relations[n - 1])]
    text = f"({relations[starts[-1]]})" if len(starts) > 1 else relations[0]
    for start, end in zip(starts[-2::-1], starts[:0:-1], strict=True):
        text = f"({relations[start]}) if head < {end} else {text}"
    return text


def _packed(pairs: Pairs) -> Iterator[Imported]:
    """Patterns with packed documents or with padded keys, combined with a relation of distances."""
    batch, heads, length, keys = pairs.shape
    if heads > 1 or length != keys:
        return
    attends = pairs[:, 0]
    if attends.diagonal(axis1=1, axis2=2).all():
        beside = attends[:, np.arange(1, length), np.arange(length - 1)]
        document = np.concatenate([np.zeros((batch, 1), int), np.cumsum(~beside, axis=1)], axis=1)
        yield from _within(
            pairs, document[:, :, None] == document[:, None, :], f"same({_DOCUMENT})", _DOCUMENT, document
        )
    real = np.asarray(attends.any(1))
    if real.any():
        yield from _within(pairs, np.broadcast_to(real[:, None], attends.shape), f"k.{_REAL}", _REAL, real)


def _within(pairs: Pairs, inside: Pairs, relation: str, name: str, values: NDArray[Any]) -> Iterator[Imported]:
    """The pattern that combines `relation`, of an input [batch, tokens], with a relation of distances.

    `inside` are the pairs for which `relation` holds, bool [batch, length, length].
    """
    band = band_relation(_widest(pairs[:, 0], inside))
    if band is not None:
        relation = relation if band == "all -> all" else f"{band} and {relation}"
        imported = _bound(relation, pairs.shape, inputs={name: values if len(values) > 1 else values[0]})
        if _equals(imported, pairs):
            yield imported


def _widest(pairs: Pairs, same: Pairs) -> Pairs:
    """Pairs [length, length] by distance alone: attending where no pair of `same`, [batch, length, length], forbids it.

    Distances that do not occur in `same` are as the nearest one that does.
    """
    length = pairs.shape[-1]
    distance = np.subtract.outer(np.arange(length), np.arange(length)) + length - 1
    seen, refused = np.zeros((2, 2 * length - 1), dtype=bool)
    for attends, inside in zip(pairs, same, strict=True):
        seen[distance[inside]] = True
        refused[distance[inside & ~attends]] = True
    known = np.flatnonzero(seen)
    nearest = np.clip(np.arange(2 * length - 1), known[0], known[-1])
    widest: Pairs = ~refused[nearest][distance]
    return widest


def _table(pairs: Pairs) -> Imported:
    """The pattern that reads the pairs themselves as an input."""
    batch, heads = pairs.shape[:2]
    indices = ", ".join([*(["batch"] if batch > 1 else []), *(["head"] if heads > 1 else []), "q", "k"])
    given = pairs.reshape(*(each for each in (batch, heads) if each > 1), *pairs.shape[2:])
    imported = _bound(f"{_TABLE}[{indices}]", pairs.shape, inputs={_TABLE: given})
    return Imported(imported.mask, None, imported.text, imported.inputs)


# Patterns


def _bound(
    relation: str,
    size: tuple[int, ...],
    layout: _TokenLayout = _TokenLayout(),
    inputs: Mapping[str, NDArray[Any]] | None = None,
) -> Imported:
    """Binds a pattern of a relation, for `size` (batch, heads, queries, keys)."""
    given = dict(inputs or {})
    parameters, spaces = _spaces_of(size, layout)
    leading = [name for name, count in zip(("batch", "heads"), size, strict=False) if count > 1]
    declared = {
        _DOCUMENT: f"input {_DOCUMENT}: int[{', '.join([*leading, 'tokens'])}]",
        _REAL: f"input {_REAL}: bool[{', '.join([*leading, 'tokens'])}]",
        _TABLE: f"input {_TABLE}: bool[{', '.join([*leading, 'n', 'n' if size[2] == size[3] else 'm'])}]",
    }
    values = ", ".join(f"{name} = {length}" for name, length in parameters.items())
    aligned = "keys source" in spaces and not given  # positions of both sequences are compared on purpose
    lines = [*spaces, *(declared[name] for name in given), f"attend {relation}" + "  # allow: W001" * aligned]
    text = "\n".join([f"pattern imported({values}) {{", *(f"    {line}" for line in lines), "}", ""])
    mask = parse(text, name="<imported>")["imported"].bind(heads=size[1])
    return Imported(mask, relation, text, given)


def _spaces_of(size: tuple[int, ...], layout: _TokenLayout) -> tuple[dict[str, int], list[str]]:
    """The parameters by name, with their values, and the statements that declare the tokens."""
    queries, keys = size[2:]
    if layout.shape is None and queries == keys:
        return {"n": queries}, ["space tokens[n]"]
    if layout.shape is None:
        spaces = ["space target[n]", "space source[m]", "queries target", "keys source"]
        return {"n": queries, "m": keys}, spaces
    lengths = dict(zip(("frames", "h", "w")[-len(layout.shape) :], layout.shape, strict=True))
    axes = ", ".join(f"{axis} = {name}" for axis, name in zip(NAMES[len(lengths)], lengths, strict=True))
    if not layout.before:
        return lengths, [f"space grid[{axes}]"]
    spaces = ["space text[length]", f"space grid[{axes}]", "tokens text ++ grid"]
    return {"length": layout.before, **lengths}, spaces


def _equals(imported: Imported, pairs: Pairs) -> bool:
    """Whether a mask attends exactly these pairs. A sample of rows is compared first and rejects most guesses."""
    mask, (_, _, queries, keys) = imported.mask.ir, pairs.shape
    inputs = input_arrays(mask, imported.inputs, relation_inputs(mask))
    step = max(1, CHUNK // keys)
    sample = np.arange(0, queries, -(-queries // _SAMPLE_ROWS))
    chunks = [sample, *(np.arange(start, min(start + step, queries)) for start in range(0, queries, step))]
    return all(
        np.array_equal(allowed(mask, rows[:, None], np.arange(keys), head, entry, inputs), pairs[entry, head, rows])
        for rows in chunks
        for entry, head in np.ndindex(pairs.shape[:2])
    )
