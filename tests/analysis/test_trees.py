"""Bounds of columns on blocks of tokens of every size, ragged ones included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.analysis.tiles.trees import Tree

SIZES = [1, 2, 7, 16, 17, 64, 100, 128, 300]


@given(st.integers(1, 700), st.sampled_from(SIZES), st.randoms(use_true_random=False))
def test_bounds_are_those_of_the_tokens(length, block, random):
    values = np.array([random.randrange(-50, 50) for _ in range(length)])
    tree = Tree.of((values,), length, block)
    for level in range(tree.top + 1):
        (bounds,) = tree.bounds(level)
        for node in range(tree.nodes(level)):
            tokens = values[node * (block << level) : (node + 1) * (block << level)]
            assert (bounds.low[node], bounds.high[node]) == (tokens.min(), tokens.max())
    assert tree.nodes(tree.top) == 1


@given(st.integers(1, 700), st.sampled_from(SIZES))
def test_parts_hold_each_token_once(length, block):
    tree = Tree.of((np.arange(length),), length, block)
    (points,) = tree.points
    real = np.ones(points.shape, dtype=bool) if tree.real is None else tree.real
    assert points[real].tolist() == list(range(length))
    for level in range(tree.bottom, 1):
        assert tree.weights(level).sum() == length
        (bounds,) = tree.bounds(level)
        parts = points.reshape(tree.nodes(level), -1)
        assert np.array_equal(bounds.low, parts.min(axis=1)) and np.array_equal(bounds.high, parts.max(axis=1))
        per_block = tree.nodes(level) // tree.count
        assert (bounds.low // tree.sizes[0] == np.arange(tree.nodes(level)) // per_block).all()


@given(st.integers(1, 700), st.sampled_from(SIZES), st.integers(1, 9), st.randoms(use_true_random=False))
def test_different_tokens_of_each_block(length, block, most, random):
    """Blocks keep their tokens, whatever these are, and no block has more than need be."""
    values = [random.randrange(most) * 2**40 for _ in range(length)]
    columns = np.array(values), np.array([value < 2**40 for value in values]), np.full(length, 7.5)
    tree = Tree.of(columns, length, block)
    blocks = [set(values[first : first + block]) for first in range(0, length, block)]
    counts = list(map(len, blocks))
    distinct = tree.distinct
    assert distinct.count == len(blocks)
    if distinct is not tree:
        assert distinct.length == len(blocks) * max(counts) <= len(blocks) * block / 2
        for number, held in enumerate(blocks):
            here = slice(number * max(counts), (number + 1) * max(counts))
            assert set(distinct.columns[0][here]) == held
            assert (distinct.columns[1][here] == (distinct.columns[0][here] < 2**40)).all()
            assert (distinct.columns[2][here] == 7.5).all()


def test_many_different_tokens_are_kept_as_they_are():
    tree = Tree.of((np.arange(1024) // 2,), 1024, 128)
    assert tree.distinct.sizes[0] == 64
    tree = Tree.of((np.arange(1024), np.zeros(1024)), 1024, 128)
    assert tree.distinct is tree


@pytest.mark.parametrize(("length", "block"), [(1, 128), (5, 1), (128, 128)])
def test_one_token_is_a_point(length, block):
    tree = Tree.of((np.arange(length),), length, block)
    assert tree.bounds(0)[0].is_point == (min(length, block) == 1)
    assert tree.bounds(-5) is tree.bounds(tree.bottom)
