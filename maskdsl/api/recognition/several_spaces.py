"""Guesses masks of several arrows, each with a relation of its own: copies of a text, drafts behind a context, tiles.

Callers verify them.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np

from maskdsl.api.recognition.bands import BandAxis, Pairs
from maskdsl.api.recognition.grids import changes
from maskdsl.api.recognition.guesses import Guess, Tokens, Values, first_relation, line_tokens

_POSITION = "position"
_DRAFT = "draft"


def copies(pairs: Pairs) -> Iterator[Guess]:
    """Two copies of a text one behind the other, as block diffusion has a noised and a clean one."""
    batch, heads, queries, keys = pairs.shape
    if batch * heads > 1 or queries != keys or queries % 2:
        return
    half = queries // 2
    sides = slice(0, half), slice(half, queries)
    relations = {}
    for row, column in np.ndindex(2, 2):
        quadrant = pairs[0, 0, sides[row], sides[column]]
        relation = first_relation(quadrant, BandAxis(_POSITION)) if quadrant.any() else None
        if quadrant.any() and relation is None:
            return
        relations[row, column] = relation
    names = ("noised", "clean") if relations[1, 0] is None and relations[0, 1] else ("first", "second")
    arrows = [
        _arrow(names[row], names[column], relation)
        for (row, column), relation in relations.items()
        if relation is not None
    ]
    spaces = (*(f"space {name}[{_POSITION} = n]" for name in names), f"tokens {' ++ '.join(names)}")
    if len(arrows) > 1:
        yield Guess(" or ".join(f"({arrow})" for arrow in arrows), Tokens({"n": half}, spaces))


def drafts(pairs: Pairs) -> Iterator[Guess]:
    """Drafts that attend all of a context, and each other by distance or as ancestors in a tree."""
    batch, heads, queries, keys = pairs.shape
    if batch * heads > 1 or queries > keys:
        return
    attends = pairs[0, 0]
    if queries == keys:
        yield from _behind_causal(attends)
        return
    context, inner = attends[:, : keys - queries], attends[:, keys - queries :]
    if not context.all():
        return
    spaces = "space context[m]", f"space {_DRAFT}[n]", f"queries {_DRAFT}", f"keys context ++ {_DRAFT}"
    tokens = Tokens({"n": queries, "m": keys - queries}, spaces)
    relation = first_relation(inner, BandAxis(_DRAFT))
    if relation is not None:
        yield Guess(f"({_DRAFT} -> context) or ({_arrow(_DRAFT, _DRAFT, relation)})", tokens)
    elif _is_tree(inner):
        yield _tree(f"{_DRAFT} -> context", inner, tokens)


def _behind_causal(attends: Pairs) -> Iterator[Guess]:
    """A causal context and a tree of drafts in one sequence. What comes before the first branch is context."""
    length = len(attends)
    unseen = np.tril(~attends).any(0)
    first = int(unseen.argmax())
    inner = attends[first:, first:]
    is_causal = bool(np.tril(attends[:, :first]).sum() == np.tri(length, dtype=bool)[:, :first].sum())
    if first > 0 and is_causal and not np.triu(attends, 1).any() and _is_tree(inner):
        spaces = "space context[m]", f"space {_DRAFT}[n]", f"tokens context ++ {_DRAFT}"
        yield _tree("all -> context where causal", inner, Tokens({"n": len(inner), "m": first}, spaces))


def _tree(context: str, ancestor: Pairs, tokens: Tokens) -> Guess:
    relation = f"({context}) or ({_DRAFT} -> {_DRAFT} where ancestor[q.{_DRAFT}, k.{_DRAFT}])"
    return Guess(relation, tokens, {"ancestor": Values(f"bool[{_DRAFT}, {_DRAFT}]", ancestor)})


def _is_tree(ancestor: Pairs) -> bool:
    """Whether each token attends itself and what its parent attends: the last token before it that it attends."""
    if not ancestor.diagonal().all() or np.triu(ancestor, 1).any():
        return False
    before = ancestor & ~np.eye(len(ancestor), dtype=bool)
    parent = before.shape[1] - 1 - before[:, ::-1].argmax(1)
    return bool((~before.any(1) | (before == ancestor[parent]).all(1)).all())


def tiled_table(pairs: Pairs) -> Iterator[Guess]:
    """Tiles that attend wholly or not at all, which a table lists. Each border of tiles has to show."""
    batch, heads, queries, keys = pairs.shape
    if batch > 1:
        return
    sizes = []
    for axis, length in ((1, queries), (2, keys)):
        borders = changes(pairs[0], axis)
        size = gcd(0, *borders.tolist())
        if size < 2 or len(borders) < 2 or len(borders) != (length - 1) // size:
            return
        sizes.append(size)
    table = pairs[0, :, :: sizes[0], :: sizes[1]]
    tokens = line_tokens(queries, keys)
    names = [*tokens.parameters] if queries != keys else ["n", "n"]
    dimensions = [f"({name} + {size - 1}) // {size}" for name, size in zip(names, sizes, strict=True)]
    index = f"q // {sizes[0]}, k // {sizes[1]}"
    if heads > 1:
        values = Values(f"bool[heads, {', '.join(dimensions)}]", table)
        yield Guess(f"tiles[head, {index}]", tokens, {"tiles": values}, heads)
    else:
        yield Guess(f"tiles[{index}]", tokens, {"tiles": Values(f"bool[{', '.join(dimensions)}]", table[0])})


def _arrow(queries: str, keys: str, relation: str) -> str:
    if relation == "all -> all":
        return f"{queries} -> {keys}"
    return f"{queries} -> {keys} where {f'({relation})' if ' or ' in relation else relation}"
