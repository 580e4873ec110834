"""Vectors of pooled tokens from those given, and the way back of gradients."""

import numpy as np

from tests.independent.meaning import Meaning
from tests.independent.tokens import Space

Backs = list[list[tuple[int, np.ndarray]]]
"""For each token, the given tokens behind it and the share of its gradient that each has, elementwise."""


def pooled_keys(meaning: Meaning, x: np.ndarray) -> tuple[np.ndarray, Backs]:
    """Keys or values [given, dim] as the tokens of the keys are, and where their gradients go."""
    offsets, start = {}, 0
    for space in meaning.given_keys:
        offsets[space.name] = start
        start += space.size
    rows = [
        _vector(token.space, tuple(token.cell[axis] for axis, _ in token.space.axes), x, offsets)
        for token in meaning.tokens["k"]
    ]
    return np.array([row for row, _ in rows]).reshape(len(rows), x.shape[1]), [back for _, back in rows]


def vectors(meaning: Meaning, tensors: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of queries and keys, [batch, heads, tokens, dim] both."""
    q, k = tensors[:2]
    keys = [[pooled_keys(meaning, each)[0] for each in entry] for entry in k]
    return q, np.repeat(np.array(keys), meaning.heads // meaning.key_heads, axis=1)


def _vector(
    space: Space, position: tuple[int, ...], x: np.ndarray, offsets: dict[str, int]
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    if space.source is None:
        row = offsets[space.name] + int(np.ravel_multi_index(position, [length for _, length in space.axes]))
        return x[row], [(row, np.ones(x.shape[1]))]
    spans = [
        range(at * size, min((at + 1) * size, length))
        for at, size, (_, length) in zip(position, space.box, space.source.axes, strict=True)
    ]
    cells = np.array(np.meshgrid(*spans, indexing="ij")).reshape(len(spans), -1).T
    parts = [_vector(space.source, tuple(map(int, cell)), x, offsets) for cell in cells]
    stacked = np.array([part for part, _ in parts])
    if space.pooling == "mean":
        value, shares = stacked.mean(axis=0), np.full(stacked.shape, 1 / len(parts))
    else:
        value = stacked.max(axis=0)
        shares = (stacked == value).astype(float)
        shares /= shares.sum(axis=0)
    return value, [(row, share * own) for (_, back), share in zip(parts, shares, strict=True) for row, own in back]


def spread(back: list[tuple[int, np.ndarray]], grad: np.ndarray, target: np.ndarray) -> None:
    for row, share in back:
        target[row] += share * grad
