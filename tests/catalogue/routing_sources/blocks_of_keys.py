"""Blocks of keys, scored by their means."""

import numpy as np

from tests.catalogue.compared import Row, Selects


def moba(q: np.ndarray, k: np.ndarray, n: int, block: int, top: int) -> np.ndarray:
    """Released code: MoonshotAI/MoBA, moba/moba_naive.py."""
    allowed = np.zeros((len(q), n, n), dtype=bool)
    own = np.arange(n) // block
    for head, queries in enumerate(q):
        keys = k[head * len(k) // len(q)]
        means = np.stack([keys[own == b].mean(axis=0) for b in range(own[-1] + 1)])
        gate = queries @ means.T
        gate[np.arange(len(means)) > own[:, None]] = -np.inf
        gate[np.arange(n), own] = np.inf
        best = np.argsort(-gate, axis=1, kind="stable")[:, :top]
        chosen = np.zeros_like(gate, dtype=bool)
        np.put_along_axis(chosen, best, True, axis=1)
        allowed[head] = (chosen & (gate > -np.inf))[:, own]
    return allowed & np.tri(n, dtype=bool)


ROWS: list[Row] = [
    Selects("routing/moba", "moba", {"n": 45, "block": 8, "top": 3}, moba, heads=4, key_heads=2),
    Selects("routing/moba", "moba", {"n": 5, "block": 8, "top": 1}, moba, heads=2),
]
