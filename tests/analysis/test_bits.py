"""Rows of bits against boolean matrices."""

import numpy as np
import pytest

from maskdsl.analysis.reach import bit_rows
from maskdsl.analysis.reach.components import connected_pairs, diagonal, transposed, weighed
from maskdsl.analysis.reach.hops import Hop
from maskdsl.analysis.tiles.block_map import Runs

SIZES = [1, 5, 63, 64, 65, 128, 200]


def packed(matrix):
    rows = np.zeros((len(matrix), -(-matrix.shape[1] // 64)), dtype=np.uint64)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        rows[row, column // 64] |= np.uint64(1) << np.uint64(column % 64)
    return rows


def random(size, density, seed=0):
    return np.random.default_rng((size, int(density * 10), seed)).random((size, size)) < density


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("density", [0, 0.05, 0.5, 0.9, 1])
def test_operations(size, density):
    matrix, other = random(size, density), random(size, 0.2, seed=1)
    rows = packed(matrix)
    np.testing.assert_array_equal(bit_rows.dense(rows, size), matrix)
    np.testing.assert_array_equal(bit_rows.runs_of(rows).dense(size), matrix)
    np.testing.assert_array_equal(transposed(rows), packed(matrix.T))
    np.testing.assert_array_equal(diagonal(rows), np.diag(matrix))
    assert bit_rows.count(rows) == matrix.sum()
    found = np.zeros_like(rows)
    bit_rows.gather(Runs.of_dense(other), rows, found)
    np.testing.assert_array_equal(bit_rows.dense(found, size), other @ matrix)
    np.testing.assert_array_equal(bit_rows.dense(bit_rows.identity(size), size), np.eye(size, dtype=bool))


def test_gather_in_parts(monkeypatch):
    monkeypatch.setattr(bit_rows, "CHUNK", 30)
    matrix, other = random(130, 0.3), random(130, 0.3, seed=1)
    found = np.zeros_like(packed(matrix))
    bit_rows.gather(Runs.of_dense(other), packed(matrix), found)
    np.testing.assert_array_equal(bit_rows.dense(found, 130), other @ matrix)


def test_pairs_of_cells_of_several_tokens():
    matrix, sizes = random(20, 0.3), np.array([3] * 19 + [2])
    tokens = np.repeat(np.repeat(matrix, sizes, axis=0), sizes, axis=1)
    rows = packed(matrix)
    assert weighed(rows, sizes) == tokens.sum()
    upper = np.triu(np.ones_like(tokens), 1)
    both, one = connected_pairs(rows, transposed(rows), sizes)
    assert (both, one) == ((tokens & tokens.T & upper).sum(), ((tokens ^ tokens.T) & upper).sum())


@pytest.mark.parametrize("reflexive", [True, False])
@pytest.mark.parametrize("steps", [0, 2, 100])
@pytest.mark.parametrize("widths", [(3,), (1, 3), (3, 9, 1)])
def test_spread(monkeypatch, reflexive, steps, widths):
    """One by one and doubled, forgetting nothing: matrices multiplied again and again."""
    monkeypatch.setattr(bit_rows, "STEPS", steps)
    size = 90
    position = np.arange(size)
    relations = [(position[:, None] - position >= 0) & (position[:, None] - position < width) for width in widths]
    if not reflexive:
        relations = [each & ~np.eye(size, dtype=bool) for each in relations]
    hops = [(Hop(Runs.of_dense(each), None, 1, size),) for each in relations]
    own = np.eye(size, dtype=bool)
    states = [own if reflexive else ~own & False]
    while len(states) <= len(widths) or (states[-1] != states[-1 - len(widths)]).any():
        relation = relations[(len(states) - 1) % len(widths)]
        states.append(states[-1] | (relation @ (states[-1] | own)))
    last = max((number for number in range(1, len(states)) if (states[number] != states[number - 1]).any()), default=0)
    found = bit_rows.spread(hops, size, reflexive)
    assert found.layers == last
    np.testing.assert_array_equal(bit_rows.dense(found.ever, size), states[-1])
    np.testing.assert_array_equal(bit_rows.dense(found.before, size), states[max(last - 1, 0)])
    assert list(found.pairs) == [int(each.sum()) for each in states[: len(found.pairs)]]
