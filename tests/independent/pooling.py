"""Vectors of pooled tokens from those given, and the way back of gradients."""

from typing import TYPE_CHECKING

import numpy as np

from tests.independent.tokens import Space

if TYPE_CHECKING:
    from tests.independent.meaning import Meaning

Backs = list[list[tuple[int, np.ndarray]]]
"""For each token, the given tokens behind it and the share of its gradient that each has, elementwise."""
Rows = tuple[np.ndarray, Backs]


def pooled(meaning: "Meaning", side: str, x: np.ndarray) -> Rows:
    """Vectors [given, dim] of one side as its tokens are, and where their gradients go; in this entry of the batch."""
    offsets, start = {}, 0
    for space in meaning.given(side):
        offsets[space.name] = start
        start += space.size
    rows = [_vector(meaning, token.space, token.number, x, offsets) for token in meaning.tokens[side]]
    return np.array([row for row, _ in rows]).reshape(len(rows), x.shape[1]), [back for _, back in rows]


def vectors(meaning: "Meaning", tensors: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of queries and keys, [batch, heads, tokens, dim] both."""
    sides = []
    for side, x in zip("qk", tensors, strict=False):
        entries = []
        for meaning.batch, entry in enumerate(x):
            entries.append([pooled(meaning, side, each)[0] for each in entry])
        sides.append(np.array(entries))
    q, k = sides
    return q, np.repeat(k, meaning.heads // meaning.key_heads, axis=1)


def _vector(
    meaning: "Meaning", space: Space, number: int, x: np.ndarray, offsets: dict[str, int]
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    if space.source is None:
        row = offsets[space.name] + number
        return x[row], [(row, np.ones(x.shape[1]))]
    own = [each for each in meaning.parts(space, number) if meaning.within(space.source, each)]
    if not own:
        return np.zeros(x.shape[1]), []
    parts = [_vector(meaning, space.source, each, x, offsets) for each in own]
    stacked = np.array([part for part, _ in parts])
    if space.pooling == "mean":
        shares = np.array([len(meaning.within(space.source, each)) for each in own], dtype=float)
        shares = np.broadcast_to(shares[:, None] / shares.sum(), stacked.shape)
        value = (shares * stacked).sum(axis=0)
    else:
        value = stacked.max(axis=0) if space.pooling == "max" else stacked.min(axis=0)
        shares = (stacked == value).astype(float)
        with np.errstate(all="ignore"):  # of NaN
            shares /= shares.sum(axis=0)
    return value, [(row, share * own) for (_, back), share in zip(parts, shares, strict=True) for row, own in back]


def spread(back: list[tuple[int, np.ndarray]], grad: np.ndarray, target: np.ndarray) -> None:
    for row, share in back:
        target[row] += share * grad
