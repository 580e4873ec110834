"""Compressed rows of tiles against dense arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL, BlockMap, Runs, TileMap

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(masks)
def test_runs_hold_what_the_dense_array_holds(mask):
    runs = Runs.of_dense(mask)
    assert np.array_equal(runs.dense(mask.shape[1]), mask)
    assert np.array_equal(runs.counts, mask.sum(axis=1))
    assert runs.count == mask.sum()
    assert np.array_equal(np.stack(runs.expand()), np.stack(np.nonzero(mask)))


@given(masks)
def test_runs_are_sorted_disjoint_and_maximal(mask):
    runs = Runs.of_dense(mask)
    assert (runs.start < runs.end).all()
    same_row = runs.row[1:] == runs.row[:-1]
    assert (runs.end[:-1] < runs.start[1:])[same_row].all()
    assert {array.dtype for array in (runs.row_start, runs.start, runs.end)} == {np.dtype(np.int32)}


@given(masks)
def test_transpose_is_that_of_the_dense_array(mask):
    rows, columns = mask.shape
    transposed = Runs.of_dense(mask).transpose(columns)
    assert transposed == Runs.of_dense(mask.T)
    assert transposed.transpose(rows) == Runs.of_dense(mask)


@given(masks, st.randoms(use_true_random=False))
def test_segments_come_in_any_order_and_are_merged(mask, random):
    row, column = np.nonzero(mask)
    order = random.sample(range(len(row)), len(row))
    assert Runs.of_segments(len(mask), row[order], column[order], column[order] + 1) == Runs.of_dense(mask)


def test_transpose_of_a_long_map_needs_no_dense_array():
    rows = 200_000
    row = np.arange(rows)
    causal = Runs.of_segments(rows, row, np.zeros_like(row), row + 1)
    transposed = causal.transpose(rows)
    assert np.array_equal(transposed.start, row) and (transposed.end == rows).all()


def test_runs_differ_from_other_runs_and_other_things():
    assert Runs.of_dense(np.eye(3, dtype=bool)) != Runs.of_dense(np.ones((3, 3), dtype=bool))
    assert Runs.of_dense(np.eye(3, dtype=bool)) != "runs"


@pytest.mark.parametrize("batch", [1, 2])
def test_a_block_map_finds_the_variant_of_a_head(batch):
    diagonal, nothing = Runs.of_dense(np.eye(2, 3, dtype=bool)), Runs.of_dense(np.zeros((2, 3), dtype=bool))
    head_classes = TileMap(diagonal, nothing), TileMap(nothing, diagonal)
    blocks = BlockMap((4, 2), 7, 6, head_classes, np.array([[0, 1]] * batch, dtype=np.int32))
    assert (blocks.query_blocks, blocks.key_blocks) == (2, 3)
    assert blocks.classes(head=0, batch=1).tolist() == [[FULL, EMPTY, EMPTY], [EMPTY, FULL, EMPTY]]
    assert blocks.classes(head=1).tolist() == [[PARTIAL, EMPTY, EMPTY], [EMPTY, PARTIAL, EMPTY]]
    assert (blocks.full_count(1), blocks.partial_count(1)) == (0, 2)
    assert blocks == BlockMap((4, 2), 7, 6, head_classes, np.array([[0, 1]] * batch, dtype=np.int32))
    assert blocks != BlockMap((4, 2), 8, 6, head_classes, np.array([[0, 1]] * batch, dtype=np.int32))
