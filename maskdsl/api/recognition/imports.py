"""Arrays of pairs, and functions of pairs, to masks; with the pattern that they equal, if one does.

Guesses come from `lines.py`, `_grids.py` and from documents; each is bound, and kept only if it attends the same pairs,
all of them.
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
"""The names of inputs. A token is real that is no padding."""
_MOST_PAIRS = 2**32
"""That a function is asked for: a byte each."""
_FEW_ROWS = 16
_FEWEST_TOKENS = 4
"""Fewer of them form no grid."""


@dataclass(frozen=True)
class _TokenLayout:
    """How tokens stand: on one line, or on a grid, behind `before` tokens of a text."""

    shape: tuple[int, ...] | None = None
    before: int = 0


@dataclass(frozen=True, eq=False)
class Imported:
    """A mask that was an array of pairs or a function of them."""

    mask: Mask
    pattern: str | None
    """The relation, in the language, that holds for the same pairs; None if none was found, and `mask` reads them."""
    text: str
    """The whole pattern as an `.attn` text."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The arrays that `mask` has to be given: the documents of tokens, which are real, or the pairs themselves."""


@takes(grid=optional(GRID))
def from_dense(array: ArrayLike, *, grid: tuple[int, ...] | None = None) -> Imported:
    """The mask of a boolean array [queries, keys], with heads, or batch entries and heads, in front.

    Arrays of NumPy or torch, nested lists; also floats that are added to scores, zero and minus infinity. Found are
    dense and causal masks, windows, bands, dilated and strided ones, powers of two, blocks, neighbourhoods, prefixes,
    first tokens that all attend, packed documents and padding; on grids of two and three axes too: all that
    the length allows are tried, or the one that `grid` says. Raises `AttnError`.
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
    """The mask of a function `(batch, head, query, key)`, as FlexAttention takes it, at `n` queries and as many keys.

    It is called with tensors of torch that broadcast, or with plain integers if it fails for these; then `from_dense`.
    """
    size = batch, heads, n, n if keys is None else keys
    if prod(size) > _MOST_PAIRS:
        raise AttnError(errors.TooManyAsked(count=prod(size), limit=_MOST_PAIRS))
    return from_dense(evaluated(function, size), grid=grid)


def _as_pairs(array: ArrayLike) -> Pairs:
    """Bool [batch, heads, queries, keys], with one entry or head where all are equal."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    try:
        found = np.asarray(array)
    except (TypeError, ValueError) as error:
        raise AttnError(errors.NotPairs(found="is no array, or has rows of different lengths")) from error
    if found.ndim not in (2, 3, 4) or not found.size:
        raise AttnError(errors.NotPairs(found=f"has the shape {found.shape}"))
    if found.dtype.kind == "f":
        highest_hidden = -1e4  # half precision has nothing much lower
        strange = found[(found != 0) & ~(found <= highest_hidden)]
        if strange.size:
            raise AttnError(errors.NotPairs(found=f"has {strange.flat[0]} among its numbers"))
        found = found == 0
    elif found.dtype.kind in "iu" and np.isin(found, (0, 1)).all():
        found = found.astype(bool)
    elif found.dtype != bool:
        raise AttnError(errors.NotPairs(found=f"is of type {found.dtype}"))
    found = found.reshape(*(1,) * (4 - found.ndim), *found.shape)
    for axis in (0, 1):
        first = found.take([0], axis)
        found = first if (found == first).all() else found
    return found


# Guesses


def _plain(pairs: Pairs, grid: tuple[int, ...] | None) -> Iterator[Imported]:
    """Without inputs: all heads on one line, or on one grid, or on one behind tokens that all attend."""
    if len(pairs) > 1:
        return
    for position in (_TokenLayout(), *_grids(pairs, grid)):
        relations = [_first_equal(head, position) for head in pairs[0]]
        if None not in relations:
            made = _bound(_by_head([each for each in relations if each is not None]), pairs.shape, position)
            if _equals(made, pairs):
                yield made


def _grids(pairs: Pairs, grid: tuple[int, ...] | None) -> Iterator[_TokenLayout]:
    """Where tokens may stand, besides on one line."""
    length = pairs.shape[2]
    if length != pairs.shape[3] or length < _FEWEST_TOKENS:
        return
    first = run_length(np.asarray(pairs.all((0, 1, 2)) & pairs.all((0, 1, 3))))
    for before in dict.fromkeys((0, first)):
        own = [*shapes(length - before)] if grid is None else [grid] if prod(grid) == length - before else []
        yield from (_TokenLayout(shape, before) for shape in own)


def _first_equal(pairs: Pairs, position: _TokenLayout) -> str | None:
    """The first relation guessed that holds for these pairs and no others."""
    own = pairs[position.before :, position.before :]
    guesses = line_relations(pairs) if position.shape is None else grid_relations(own, position.shape)
    for guess in guesses:
        part = position.before and guess != "all -> all"
        relation = f"text -> all or all -> text or grid -> grid where {guess}" if part else guess
        if _equals(_bound(relation, (1, 1, *pairs.shape), position), pairs[None, None]):
            return relation
    return None


def _by_head(relations: list[str]) -> str:
    """One relation of what every head has."""
    starts = [0, *(n for n in range(1, len(relations)) if relations[n] != relations[n - 1])]
    text = f"({relations[starts[-1]]})" if len(starts) > 1 else relations[0]
    for start, end in zip(starts[-2::-1], starts[:0:-1], strict=True):
        text = f"({relations[start]}) if head < {end} else {text}"
    return text


def _packed(pairs: Pairs) -> Iterator[Imported]:
    """Documents that follow each other, or keys that are padding, where distance decides besides."""
    batch, heads, length, keys = pairs.shape
    if heads > 1 or length != keys:
        return
    own = pairs[:, 0]
    if own.diagonal(axis1=1, axis2=2).all():
        beside = own[:, np.arange(1, length), np.arange(length - 1)]
        document = np.concatenate([np.zeros((batch, 1), int), np.cumsum(~beside, axis=1)], axis=1)
        yield from _within(
            pairs, document[:, :, None] == document[:, None, :], f"same({_DOCUMENT})", _DOCUMENT, document
        )
    real = np.asarray(own.any(1))
    if real.any():
        yield from _within(pairs, np.broadcast_to(real[:, None], own.shape), f"k.{_REAL}", _REAL, real)


def _within(pairs: Pairs, inside: Pairs, relation: str, name: str, values: NDArray[Any]) -> Iterator[Imported]:
    """The relation that an input [batch, tokens] makes, which holds `inside`, and one of distances."""
    band = band_relation(_widest(pairs[:, 0], inside))
    if band is not None:
        relation = relation if band == "all -> all" else f"{band} and {relation}"
        made = _bound(relation, pairs.shape, inputs={name: values if len(values) > 1 else values[0]})
        if _equals(made, pairs):
            yield made


def _widest(pairs: Pairs, same: Pairs) -> Pairs:
    """Pairs [length, length] by distance alone: as in `same`, [batch, length, length]; further away as at its ends."""
    length = pairs.shape[-1]
    apart = np.subtract.outer(np.arange(length), np.arange(length)) + length - 1
    seen, refused = np.zeros((2, 2 * length - 1), dtype=bool)
    for own, inside in zip(pairs, same, strict=True):
        seen[apart[inside]] = True
        refused[apart[inside & ~own]] = True
    known = np.flatnonzero(seen)
    nearest = np.clip(np.arange(2 * length - 1), known[0], known[-1])
    found: Pairs = ~refused[nearest][apart]
    return found


def _table(pairs: Pairs) -> Imported:
    """The pairs themselves, as an input."""
    batch, heads = pairs.shape[:2]
    indices = ", ".join([*(["batch"] if batch > 1 else []), *(["head"] if heads > 1 else []), "q", "k"])
    given = pairs.reshape(*(each for each in (batch, heads) if each > 1), *pairs.shape[2:])
    made = _bound(f"{_TABLE}[{indices}]", pairs.shape, inputs={_TABLE: given})
    return Imported(made.mask, None, made.text, made.inputs)


# Patterns


def _bound(
    relation: str,
    size: tuple[int, ...],
    position: _TokenLayout = _TokenLayout(),
    inputs: Mapping[str, NDArray[Any]] | None = None,
) -> Imported:
    """The pattern of a relation, for pairs of a size [batch, heads, queries, keys]."""
    given = dict(inputs or {})
    parameters, spaces = _spaces_of(size, position)
    leading = [name for name, count in zip(("batch", "heads"), size, strict=False) if count > 1]
    declared = {
        _DOCUMENT: f"input {_DOCUMENT}: int[{', '.join([*leading, 'tokens'])}]",
        _REAL: f"input {_REAL}: bool[{', '.join([*leading, 'tokens'])}]",
        _TABLE: f"input {_TABLE}: bool[{', '.join([*leading, 'n', 'n' if size[2] == size[3] else 'm'])}]",
    }
    values = ", ".join(f"{name} = {length}" for name, length in parameters.items())
    aligned = "keys source" in spaces and not given  # the pairs count both sequences alike
    lines = [*spaces, *(declared[name] for name in given), f"attend {relation}" + "  # allow: W001" * aligned]
    text = "\n".join([f"pattern imported({values}) {{", *(f"    {line}" for line in lines), "}", ""])
    mask = parse(text, name="<imported>")["imported"].bind(heads=size[1])
    return Imported(mask, relation, text, given)


def _spaces_of(size: tuple[int, ...], position: _TokenLayout) -> tuple[dict[str, int], list[str]]:
    """The parameters and the statements for the tokens."""
    queries, keys = size[2:]
    if position.shape is None and queries == keys:
        return {"n": queries}, ["space tokens[n]"]
    if position.shape is None:
        spaces = ["space target[n]", "space source[m]", "queries target", "keys source"]
        return {"n": queries, "m": keys}, spaces
    lengths = dict(zip(("frames", "h", "w")[-len(position.shape) :], position.shape, strict=True))
    axes = ", ".join(f"{axis} = {name}" for axis, name in zip(NAMES[len(lengths)], lengths, strict=True))
    if not position.before:
        return lengths, [f"space grid[{axes}]"]
    spaces = ["space text[length]", f"space grid[{axes}]", "tokens text ++ grid"]
    return {"length": position.before, **lengths}, spaces


def _equals(made: Imported, pairs: Pairs) -> bool:
    """Whether a mask attends these pairs and no others. A few rows refuse most of those that do not."""
    mask, (_, _, queries, keys) = made.mask.ir, pairs.shape
    inputs = input_arrays(mask, made.inputs, relation_inputs(mask))
    step = max(1, CHUNK // keys)
    few = np.arange(0, queries, -(-queries // _FEW_ROWS))
    parts = [few, *(np.arange(start, min(start + step, queries)) for start in range(0, queries, step))]
    return all(
        np.array_equal(allowed(mask, rows[:, None], np.arange(keys), head, entry, inputs), pairs[entry, head, rows])
        for rows in parts
        for entry, head in np.ndindex(pairs.shape[:2])
    )
