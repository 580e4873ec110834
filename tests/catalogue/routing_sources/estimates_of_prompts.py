"""FlexPrefill: columns, diagonals and blocks, by what the last queries of a prompt attend."""

from functools import partial

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import best, keys_by_head, means, softmax


def flexprefill(like: float, least: int, q: np.ndarray, k: np.ndarray, n: int, block: int, mass: float) -> np.ndarray:
    """Released code: bytedance/FlexPrefill, flex_prefill/ops/flex_prefill_attention.py, a24b27b."""
    known = last_queries(like, least, block, mass, q, k)
    own, blocks = np.arange(n) // block, -(-n // block)
    number = np.arange(blocks)
    before = number[:, None] - number
    found = np.zeros((len(q), blocks, blocks), dtype=bool)
    for head, pairs in enumerate(found):
        columns = best(known["column_score"][head], known["columns"][head])
        diagonals = best(known["diagonal_score"][head], known["diagonals"][head])
        pairs |= columns | ((before >= 0) & diagonals[before])
    queries, keys = means(q, own), means(keys_by_head(q, k), own)
    share = softmax(queries @ keys.mT * q.shape[-1] ** -0.5, before >= 0).reshape(len(q), -1)
    order = np.argsort(-share, axis=-1, kind="stable")
    within = np.take_along_axis(share, order, axis=-1).cumsum(axis=-1) <= mass * blocks
    chosen = np.zeros(share.shape, dtype=bool)
    np.put_along_axis(chosen, order, within, axis=-1)
    found |= chosen.reshape(found.shape) & known["aware"][:, None, None]
    return found[:, own][:, :, own] & np.tri(n, dtype=bool)


def last_queries(
    like: float, least: int, block: int, mass: float, q: np.ndarray, k: np.ndarray
) -> dict[str, np.ndarray]:
    """What the last block of queries gives to columns and diagonals, how many of them make the mass, and the heads
    whose mean query tells so by itself.
    """
    (_, n, dim), keys = q.shape, keys_by_head(q, k)
    last, token = q[:, -block:] * dim**-0.5, np.arange(n)
    distance = token[-block:, None] - token
    share = softmax(last @ keys.mT, distance >= 0)
    column = share.mean(axis=1)
    diagonal = np.stack([(share * (distance == far)).sum(axis=(1, 2)) for far in range(n)], axis=1) / len(distance)
    own, ago = token // block, -(-n // block) - 1 - (n - 1 - token) // block
    columns, diagonals = (_budget(x, mass, least, own[-1] + 1) for x in (column, diagonal))
    column_score, diagonal_score = column @ _members(own), diagonal @ _members(ago)
    guess = softmax(last.mean(axis=1, keepdims=True) @ means(keys, own).mT, np.True_)[:, 0]
    middle = (guess + column_score) / 2
    entropy = (guess * np.log(guess / middle) + column_score * np.log(column_score / middle)).sum(axis=-1) / 2
    aware = np.sqrt(entropy) < like
    column_score[:, 0] = diagonal_score[:, 0] = np.inf
    return {
        "column_score": column_score,
        "diagonal_score": diagonal_score,
        "columns": np.where(aware, least, columns),
        "diagonals": np.where(aware, least, diagonals),
        "aware": aware,
    }


def _members(group: np.ndarray) -> np.ndarray:
    return (group[:, None] == np.arange(group.max() + 1)).astype(float)


def _budget(share: np.ndarray, mass: float, least: int, most: int) -> np.ndarray:
    """How many blocks of 128 the tokens fill that make the mass."""
    tokens = (-np.sort(-share, axis=-1)).cumsum(axis=-1) <= mass
    return np.clip((tokens.sum(axis=-1) + 1) // 128 + 1, least, most)


def _before(like: float, least: int, block: int, mass: float, q: np.ndarray, k: np.ndarray) -> dict[str, np.ndarray]:
    entries = [last_queries(like, least, block, mass, *entry) for entry in zip(q, k, strict=True)]
    return {name: np.stack([entry[name] for entry in entries]) for name in entries[0]}


ROWS: list[Row] = [
    Selects(
        "routing/flexprefill",
        "flexprefill",
        {"n": n, "block": block, "mass": mass},
        partial(flexprefill, like, least),
        heads=4,
        key_heads=2,
        given=partial(_before, like, least, block, mass),
    )
    for n, block, mass, like, least in [(215, 16, 0.9, 0.135, 1), (215, 16, 0.6, 0.0, 3), (50, 16, 0.5, 0.3, 1)]
]
