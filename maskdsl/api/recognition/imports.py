"""Dense masks and mask functions to `Mask`s, with the text of an equal pattern where one is recognized.

Guesses come from the other modules of this room. Each is bound, and kept only if it attends exactly the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from maskdsl.api import Mask
from maskdsl.api.recognition.bands import Pairs
from maskdsl.api.recognition.grids import grids
from maskdsl.api.recognition.guesses import Guess, Tokens, Values, line_tokens
from maskdsl.api.recognition.lines import line_relations
from maskdsl.api.recognition.predicates import Predicate, evaluated
from maskdsl.api.recognition.several_spaces import copies, drafts, tiled_table
from maskdsl.api.recognition.token_inputs import (
    documents,
    global_tokens,
    groups,
    intervals,
    padding,
    shared_prefixes,
)
from maskdsl.base.arguments import COUNT, GRID, optional, takes
from maskdsl.base.diagnostics import AttnError, warn
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.base.records import dataclass

_TABLE = "pairs"
_MOST_PAIRS = 2**32
"""The most pairs for which a function is evaluated, at one byte each."""


@dataclass(frozen=True, eq=False)
class Imported(Displayed):
    """The result of `from_dense` and `from_mask_mod`."""

    mask: Mask
    pattern: str | None
    """The recognized relation, in the language; None if none was recognized, and `mask` reads the pairs as an input."""
    text: str
    """The whole pattern as an `.attn` text."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The inputs of `mask`, by name: a document, an interval of each token, or the pairs themselves."""
    cost: str | None = None
    """What it costs that nothing was recognized, in words; None if `pattern` was."""

    def _shown_(self) -> tuple[object, ...]:
        return "imported", self.mask.ir, self.text, self.cost or "", dict(self.inputs)

    def __repr__(self) -> str:
        lengths = f"{self.mask.query_length} x {self.mask.key_length}"
        inputs = f", inputs: {', '.join(self.inputs)}" if self.inputs else ""
        return f"Imported({self.pattern!r}, {lengths}, heads={self.mask.heads}{inputs})"


@takes(grid=optional(GRID))
def from_dense(array: ArrayLike, *, grid: tuple[int, ...] | None = None) -> Imported:
    """The mask of an array [queries, keys], [heads, queries, keys] or [batch, heads, queries, keys].

    The array is NumPy, torch or nested lists; booleans, or floats added to scores, zero and minus infinity. Recognizes
    relations of distances, blocks, documents, grids, drafts and more, as docs/from-masks.md lists. The sizes in the
    pattern are those that the pairs show more than once; what other data would change is an input. Tries all grids of
    the length, or only `grid`. Warns (`AttnWarning`) if nothing is recognized: the mask then reads a table of all
    pairs. Raises `AttnError` for an array that is no mask, and for a grid that does not fit it.
    """
    pairs = _as_pairs(array)
    misfits = grid is not None and (len(grid) not in (2, 3) or not 0 < prod(grid) <= pairs.shape[2])
    if grid is not None and (misfits or pairs.shape[2] != pairs.shape[3]):
        raise AttnError(errors.WrongGrid(grid=tuple(grid), queries=pairs.shape[2], keys=pairs.shape[3]))
    guess = next((each for each in _guesses(pairs, grid) if each.attends(pairs)), None)
    if guess is not None:
        return Imported(guess.mask, guess.relation, guess.text, guess.values)
    return _table(pairs)


@takes(n=COUNT, keys=optional(COUNT), heads=COUNT, batch=COUNT, grid=optional(GRID))
def from_mask_mod(
    function: Predicate,
    n: int,
    keys: int | None = None,
    *,
    heads: int = 1,
    batch: int = 1,
    grid: tuple[int, ...] | None = None,
) -> Imported:
    """The mask of a function `(batch, head, query, key)`, FlexAttention's `mask_mod`, at `n` queries and `keys` keys.

    `keys` is by default `n`. The function is called as FlexAttention calls it, under `torch.vmap`; with torch tensors
    that broadcast, or with plain integers, if that fails. The pairs then go to `from_dense`. Raises `AttnError` for a
    function that fails or does not return booleans, and for more than 2**32 pairs.
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


def _guesses(pairs: Pairs, grid: tuple[int, ...] | None) -> Iterator[Guess]:
    """What the pairs may be, the simplest first."""
    if len(pairs) == 1:
        yield from _by_head(pairs, line_tokens(*pairs.shape[2:]), line_relations)
    yield from documents(pairs)
    yield from padding(pairs)
    for each in grids(pairs[0], grid) if len(pairs) == 1 else ():
        yield from _by_head(pairs, each.tokens, each.relations)
    for guesses in (groups, global_tokens, shared_prefixes, copies, drafts, intervals, tiled_table):
        yield from guesses(pairs)


def _by_head(pairs: Pairs, tokens: Tokens, relations: Callable[[Pairs], Iterator[str]]) -> Iterator[Guess]:
    """Relations of one head; of several the first that holds for each, joined by conditionals on `head`."""
    heads = pairs.shape[1]
    if heads == 1:
        yield from (Guess(relation, tokens) for relation in relations(pairs[0, 0]))
        return
    each_head: list[str] = []
    for head in pairs[0]:
        guesses = relations(head)
        relation = next((each for each in guesses if Guess(each, tokens).attends(head[None, None])), None)
        if relation is None:
            return
        each_head.append(relation)
    starts = [0, *(n for n in range(1, heads) if each_head[n] != each_head[n - 1])]
    text = f"({each_head[starts[-1]]})" if len(starts) > 1 else each_head[0]
    for start, end in zip(starts[-2::-1], starts[:0:-1], strict=True):
        text = f"({each_head[start]}) if head < {end} else {text}"
    yield Guess(text, tokens, heads=heads)


def _table(pairs: Pairs) -> Imported:
    """The pattern that reads the pairs themselves as an input. Warns."""
    batch, heads, queries, keys = pairs.shape
    leading = [name for name, count in (("batch", batch), ("head", heads)) if count > 1]
    lengths = ["n", "n" if queries == keys else "m"]
    kind = f"bool[{', '.join([*('heads' if each == 'head' else each for each in leading), *lengths])}]"
    given = pairs.reshape(*(each for each in (batch, heads) if each > 1), queries, keys)
    relation = f"{_TABLE}[{', '.join([*leading, 'q', 'k'])}]"
    guess = Guess(relation, line_tokens(queries, keys), {_TABLE: Values(kind, given)}, heads)
    caution = errors.NotRecognized(shape=" x ".join(f"{each:,}" for each in given.shape), size=given.nbytes)
    warn([caution])
    return Imported(guess.mask, None, guess.text, guess.values, caution.fill(caution.message))
