"""Blocks of queries and keys that are like themselves."""

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import keys_by_head, means


def sparge(q: np.ndarray, k: np.ndarray, n: int, block: int, mass: float, similar: float) -> np.ndarray:
    """Released code: thu-ml/SpargeAttn, spas_sage_attn/utils.py, bfd980b.

    `get_block_map_meansim`, whose blocks have twice as many queries as keys by default. The mean product of the unit
    vectors of a block is the square of their mean. A ragged last block is read beyond its end there, and is not here.
    """
    k, rows, chunk = keys_by_head(q, k), np.arange(n) // (2 * block), np.arange(n) // block

    def alike(x: np.ndarray, group: np.ndarray) -> np.ndarray:
        return (means(x / np.linalg.norm(x, axis=-1, keepdims=True), group) ** 2).sum(axis=-1) > similar

    score = means(q, rows) @ means(k, chunk).mT * q.shape[-1] ** -0.5
    weight = np.exp(score) * alike(k, chunk)[:, None]
    order = np.argsort(-weight, axis=-1, kind="stable")
    within = np.take_along_axis(weight, order, axis=-1).cumsum(axis=-1) <= mass * weight.sum(axis=-1, keepdims=True)
    within[..., 0] = True
    attends = ~alike(k, chunk)[:, None] | ~alike(q, rows)[..., None]
    np.put_along_axis(attends, order, within | np.take_along_axis(attends, order, axis=-1), axis=-1)
    return attends[:, rows][..., chunk]


def _row(n: int, block: int, mass: float, similar: float) -> Row:
    values = {"n": n, "block": block, "mass": mass, "similar": similar}
    return Selects("routing/sparge", "sparge", values, sparge, heads=4, key_heads=2)


ROWS: list[Row] = [_row(45, 4, 0.5, 0.12), _row(61, 5, 0.3, 0.1), _row(5, 8, 0.9, 0.1)]
