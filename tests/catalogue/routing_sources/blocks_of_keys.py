"""Blocks of keys, scored by their means."""

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import best, keys_by_head, means


def moba(q: np.ndarray, k: np.ndarray, n: int, block: int, top: int) -> np.ndarray:
    """Released code: MoonshotAI/MoBA, moba/moba_naive.py, 61e456b."""
    own = np.arange(n) // block
    gate = q @ means(keys_by_head(q, k), own).swapaxes(1, 2)
    gate[:, np.arange(gate.shape[-1]) > own[:, None]] = -np.inf
    gate[:, np.arange(n), own] = np.inf
    return best(gate, top)[..., own] & np.tri(n, dtype=bool)


ROWS: list[Row] = [
    Selects("routing/moba", "moba", {"n": 45, "block": 8, "top": 3}, moba, heads=4, key_heads=2),
    Selects("routing/moba", "moba", {"n": 5, "block": 8, "top": 1}, moba, heads=2),
    Selects("routing/moba", "moba", {"n": 21, "block": 6, "top": 9}, moba, heads=4, key_heads=2),
]
