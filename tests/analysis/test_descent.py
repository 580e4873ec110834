"""Tiles and counts of random relations against every single pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.analysis.counts.keys_per_query import keys_per_query
from maskdsl.analysis.tiles import descent
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.ir.expressions import FALSE, TRUE, Constant, Coordinate, Side, apply
from maskdsl.ir.ops import Op
from tests.analysis.relations import BLOCKS, Setting, booleans, dense, dense_classes, problem, settings

Q, K = Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i")


def check(relation, query, key, block):
    attended = dense(relation, query, key)
    asked = problem(relation, query, key, block)
    tiles = classify(asked)
    assert np.array_equal(tiles.classes(asked.key.count), dense_classes(attended, block))
    assert np.array_equal(keys_per_query(asked, tiles), attended.sum(axis=1))


@given(booleans(3), settings(), settings(), st.tuples(BLOCKS, BLOCKS))
def test_classes_and_counts_are_those_of_the_dense_mask(relation, query, key, block):
    check(relation, query, key, block)


@given(booleans(2), settings(longest=300), st.tuples(BLOCKS, BLOCKS))
def test_longer_sequences(relation, tokens, block):
    check(relation, tokens, tokens, block)


@pytest.mark.parametrize("relation", [TRUE, FALSE])
@pytest.mark.parametrize("block", [(1, 7), (128, 64)])
def test_constant_relations(relation, block):
    tokens = Setting({"i": np.arange(150)})
    check(relation, tokens, tokens, block)


@pytest.mark.parametrize("limit", ["_FRONTIER", "_CHUNK", "_TILES", "_START"])
def test_limits_of_memory_change_nothing(limit, monkeypatch):
    monkeypatch.setattr(descent, limit, 4)
    tokens = Setting({"i": np.arange(200)})
    distance = apply(Op.SUBTRACT, Q, K)
    strided = apply(Op.EQUAL, apply(Op.FLOOR_MODULO, distance, Constant(17)), Constant(3))
    check(apply(Op.AND, strided, apply(Op.LESS, Constant(-20), distance)), tokens, tokens, (3, 20))


def test_a_single_pair_is_found():
    """In the middle of a tile, where no sample falls."""
    tokens = Setting({"i": np.arange(256)})
    one = apply(Op.AND, apply(Op.EQUAL, Q, Constant(37)), apply(Op.EQUAL, apply(Op.ADD, Q, K), Constant(181)))
    check(one, tokens, tokens, (128, 128))
    check(apply(Op.NOT, one), tokens, tokens, (128, 128))


def test_full_tiles_that_intervals_leave_open():
    """Are full alone, and not partial as well."""
    tokens = Setting({"i": np.arange(24)})
    parity = apply(Op.FLOOR_MODULO, apply(Op.ADD, Q, K), Constant(2))
    always = apply(Op.OR, apply(Op.EQUAL, parity, Constant(0)), apply(Op.EQUAL, parity, Constant(1)))
    tiles = classify(problem(always, tokens, tokens, (4, 6)))
    assert (tiles.full.count, tiles.partial.count) == (24, 0)


def test_random_blocks_do_not_open_every_tile():
    """A random choice for each query block is refined by query first: the work follows the answer."""
    looked = []

    class Counted(descent.Problem):
        def judge(self, query_level, key_level, rows, columns):
            looked.append(len(rows))
            return super().judge(query_level, key_level, rows, columns)

    blocks = 2048
    tokens = Setting({"i": np.arange(blocks * 16)})
    block_of = [apply(Op.FLOOR_DIVIDE, side, Constant(16)) for side in (Q, K)]
    choice = apply(Op.FLOOR_MODULO, apply(Op.RANDOM, Constant(1), block_of[0]), Constant(blocks))
    asked = problem(apply(Op.EQUAL, choice, block_of[1]), tokens, tokens, (16, 16))
    tiles = classify(Counted(asked.program, asked.query, asked.key))
    assert tiles.full.count == blocks and tiles.partial.count == 0
    assert sum(looked) < blocks * 100
