"""What each engine attends, given its encoding: bool [queries, keys], as its documentation says."""

from itertools import pairwise

import numpy as np


def of_intervals(functions: np.ndarray, keys: int) -> np.ndarray:
    """cuDNN frontend, Flex Attention: visible(q) = [0, F0) U [F1, F2) U ..., of an odd number of int32 endpoints.

    They are ordered, and none is beyond the keys: 0 <= F0 <= F1 <= ... <= keys.
    """
    count, queries = functions.shape
    assert functions.dtype == np.int32 and count % 2 == 1
    bounds = [np.zeros(queries, dtype=int), *functions, np.full(queries, keys)]
    assert all((some <= others).all() for some, others in pairwise(bounds))
    key = np.arange(keys)
    visible = key < functions[0][:, None]
    for first in range(1, count, 2):
        visible |= (functions[first][:, None] <= key) & (key < functions[first + 1][:, None])
    return visible


def of_columns(indices: np.ndarray, queries: int) -> np.ndarray:
    """FlashMask, not causal: of each key the queries in [LTS, LTE) and in [UTS, UTE) are masked."""
    assert indices.dtype == np.int32 and indices.shape[1] == 4
    visible = np.ones((queries, len(indices)), dtype=bool)
    for key, (lower_start, lower_end, upper_start, upper_end) in enumerate(indices):
        assert 0 <= lower_start <= lower_end <= queries and 0 <= upper_start <= upper_end <= queries
        visible[lower_start:lower_end, key] = False
        visible[upper_start:upper_end, key] = False
    return visible


def of_slices(q_ranges: np.ndarray, k_ranges: np.ndarray, kinds: np.ndarray, queries: int, keys: int) -> np.ndarray:
    """MagiAttention: full, causal to the bottom right corner, inverse causal from the top left, and both.

    Slices must not overlap, or a pair would count twice.
    """
    visible = np.zeros((queries, keys), dtype=int)
    for (q_start, q_end), (k_start, k_end), kind in zip(q_ranges, k_ranges, kinds, strict=True):
        assert q_start < q_end and k_start < k_end
        height, width = q_end - q_start, k_end - k_start
        query, key = np.arange(height)[:, None], np.arange(width)
        inside = np.ones((height, width), dtype=bool)
        if kind & 1:
            inside &= key - (width - 1) <= query - (height - 1)
        if kind & 2:
            inside &= key >= query
        visible[q_start:q_end, k_start:k_end] += inside
    assert visible.max(initial=0) <= 1
    return visible > 0


def of_block_rows(
    indptr: np.ndarray, indices: np.ndarray, block: tuple[int, int], queries: int, keys: int
) -> np.ndarray:
    """SciPy's and FlashInfer's block-sparse rows: row r has the whole blocks `indices[indptr[r] : indptr[r + 1]]`."""
    assert indptr.dtype == indices.dtype == np.int32 and keys % block[1] == 0
    assert len(indptr) == -(-queries // block[0]) + 1
    visible = np.zeros((queries, keys), dtype=bool)
    for row in range(len(indptr) - 1):
        for column in indices[indptr[row] : indptr[row + 1]]:
            visible[row * block[0] : (row + 1) * block[0], column * block[1] : (column + 1) * block[1]] = True
    return visible


def of_bits(packed: np.ndarray, queries: int, keys: int) -> np.ndarray:
    """FlashInfer: bit p % 8 of byte p // 8 is pair p, of the flat [queries, keys]."""
    pair = np.arange(queries * keys)
    assert packed.dtype == np.uint8 and len(packed) == -(-queries * keys // 8)
    return (packed[pair // 8] >> (pair % 8) & 1).astype(bool).reshape(queries, keys)
