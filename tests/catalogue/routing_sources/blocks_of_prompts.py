"""Blocks of keys for blocks of queries, in prompts: what is selected also depends on later tokens."""

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import best, keys_by_head, means, softmax


def permuted_blocks(
    q: np.ndarray, k: np.ndarray, n: int, segment: int, block: int, mass: float, importance: np.ndarray
) -> np.ndarray:
    """Released code: xinghaow99/pbs-attn, pbs_attn/src/pbs.py, 8ce8e02.

    The zeros that pad the last block of queries count in its mean; keys that are padded are in no earlier segment.
    """
    heads, _, dim = q.shape
    chunk = np.arange(n) // block
    part = np.arange(n) // segment
    order = np.lexsort((-importance, np.broadcast_to(part, importance.shape)), axis=-1)
    place = order.argsort(axis=-1)
    lengths = np.bincount(chunk)[:, None]
    pooled_q = means(q, chunk) * lengths / block
    pooled_k = means(np.take_along_axis(keys_by_head(q, k), order[..., None], axis=1), chunk)
    of_block = np.arange(len(lengths)) * block // segment
    earlier = of_block < of_block[:, None]
    shares = softmax(pooled_q @ pooled_k.swapaxes(1, 2) / np.sqrt(dim), earlier)
    falling = np.argsort(-shares, axis=-1, kind="stable")
    sorted_shares = np.take_along_axis(shares, falling, axis=-1)
    chosen = np.zeros(shares.shape, dtype=bool)
    np.put_along_axis(chosen, falling, sorted_shares.cumsum(axis=-1) - sorted_shares < mass, axis=-1)
    chosen &= earlier
    chosen |= of_block == of_block[:, None]
    chosen[np.arange(heads), :, place[:, 0] // block] = True
    by_key = np.take_along_axis(chosen, np.broadcast_to((place // block)[:, None], (heads, len(lengths), n)), axis=-1)
    return by_key[:, chunk] & np.tri(n, dtype=bool)


def dhsa(q: np.ndarray, k: np.ndarray, n: int, block: int, kept: int, recent: int, chunk: np.ndarray) -> np.ndarray:
    """Released code: xiongsiheng/DHSA, legacy/utils/helper.py, cc8e9c7.

    `_obtain_dhsa_mask` with `avgpool_norm`. The tokens of a chunk have one score: of these the first come first.
    """
    position = np.arange(n)
    part = position // block
    queries = means(q.mean(axis=0, keepdims=True), part)[0]
    counts = np.bincount(chunk)
    vectors = means(keys_by_head(q, k).mean(axis=0, keepdims=True), chunk)[0] * np.sqrt(counts)[:, None]
    scores = (queries @ vectors.T)[:, chunk]
    end = np.minimum((np.arange(part[-1] + 1) + 1) * block, n)[:, None]
    recent = min(recent, kept)
    near = (position < end) & (position >= end - recent)
    chosen = near | best(np.where(near | (position >= end), -np.inf, scores), kept - recent)
    return np.broadcast_to(chosen[part] & np.tri(n, dtype=bool), (len(q), n, n))


def proxy_budget(q: np.ndarray, k: np.ndarray, n: int, block: int, groups: int, budget: np.ndarray) -> np.ndarray:
    """No public code: the paper's text."""
    group = np.arange(len(q)) * groups // len(q)
    queries, keys = (means(x.swapaxes(0, 1), group)[:, group].swapaxes(0, 1) for x in (q, keys_by_head(q, k)))
    earlier = np.tri(n, dtype=bool)
    tokens = np.where(earlier, queries @ keys.swapaxes(1, 2), -np.inf)
    starts = np.arange(0, n, block)
    scores = np.maximum.reduceat(np.maximum.reduceat(tokens, starts, axis=1), starts, axis=2)
    own = np.eye(len(starts), dtype=bool)
    others = np.where(own, -np.inf, scores)
    chosen = np.stack([own | best(each, max(count - 1, 0)) for each, count in zip(others, budget, strict=True)])
    at = np.arange(n) // block
    return chosen[:, at][..., at] & earlier


def proxy(q: np.ndarray, k: np.ndarray, n: int, block: int, top: int, groups: int) -> np.ndarray:
    """No public code: the paper's text."""
    return proxy_budget(q, k, n, block, groups, np.full(len(q), top))


def drawn_chunks(n: int) -> np.ndarray:
    """Chunks of random lengths for two batch entries, numbered from 0."""
    return np.cumsum(np.random.default_rng(0).random((2, n)) < 0.2, axis=1)


GROUPED = {"heads": 4, "key_heads": 2}
ROWS: list[Row] = [
    *(
        Selects(
            "routing/permuted_blocks",
            "permuted_blocks",
            {"n": n, "segment": segment, "block": 4, "mass": mass},
            permuted_blocks,
            inputs={"importance": (2, 4, n)},
            batched=frozenset({"importance"}),
            **GROUPED,
        )
        for n, segment, mass in ((45, 12, 0.6), (31, 8, 0.9), (27, 4, 0.1), (7, 8, 0.5))
    ),
    *(
        Selects(
            "routing/dhsa",
            "dhsa",
            {"n": n, "block": 8, "kept": kept, "recent": recent},
            dhsa,
            inputs={"chunk": drawn_chunks(n)},
            batched=frozenset({"chunk"}),
            **GROUPED,
        )
        for n, kept, recent in ((45, 12, 4), (37, 50, 4), (29, 5, 9), (3, 2, 1))
    ),
    *(
        Selects("routing/proxy", "proxy", {"n": n, "block": 6, "top": top, "groups": groups}, proxy, **GROUPED)
        for n, top, groups in ((41, 2, 2), (29, 9, 1), (5, 0, 4))
    ),
    *(
        Selects(
            "routing/proxy",
            "proxy_budget",
            {"n": n, "block": 6, "groups": 2},
            proxy_budget,
            inputs={"budget": np.array([[1, 0, 3, 2], [4, 2, 0, 9]])},
            batched=frozenset({"budget"}),
            **GROUPED,
        )
        for n in (41, 5)
    ),
]
