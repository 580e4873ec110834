"""Quest: pages by the most that their keys can score."""

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import best, keys_by_head


def quest(q: np.ndarray, k: np.ndarray, n: int, page: int, top: int) -> np.ndarray:
    """Released code: mit-han-lab/Quest, kernels/include/decode/decode_attn.cuh, 01c1623."""
    keys, starts, own = keys_by_head(q, k), range(0, n, page), np.arange(n) // page
    least, most = (
        np.stack([pick(keys[:, start : start + page], axis=1) for start in starts], axis=1)[:, None]
        for pick in (np.min, np.max)
    )
    bound = np.maximum(q[:, :, None] * least, q[:, :, None] * most).sum(axis=-1)
    before = np.arange(own[-1] + 1) < own[:, None]
    chosen = best(np.where(before, bound, -np.inf), top - 1)[:, :, own] | (own == own[:, None])
    return chosen & np.tri(n, dtype=bool)


ROWS: list[Row] = [
    Selects("routing/quest", "quest", {"n": 45, "page": 4, "top": 3}, quest, heads=4, key_heads=2),
    Selects("routing/quest", "quest", {"n": 45, "page": 4, "top": 99}, quest, heads=2),
    Selects("routing/quest", "quest", {"n": 3, "page": 8, "top": 1}, quest, heads=2),
]
