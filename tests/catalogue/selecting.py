"""What sources of routing have in common: the keys of query heads, means of blocks, shares, and the best of scores."""

import numpy as np


def keys_by_head(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The keys that each query head reads, [heads, keys, dim]."""
    return k.repeat(len(q) // len(k), axis=0)


def means(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean of the tokens of each group, [heads, groups, dim]; `group` numbers them from 0."""
    return np.stack([x[:, group == each].mean(axis=1) for each in range(group.max() + 1)], axis=1)


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest of each row, as bools: of equal ones the first, and never minus infinity."""
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-scores, axis=-1, kind="stable")[..., :count], True, axis=-1)
    return chosen & (scores > -np.inf)


def softmax(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Shares of each row: zero where not allowed, and in rows without any."""
    scores = np.where(allowed, scores, -np.inf)
    highest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(highest > -np.inf, highest, 0))
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
