"""Tiles of tokens that match are those of the dense mask, and what is not of that form is not taken for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.analysis.tiles import matches, tile_classes
from maskdsl.analysis.tiles.matches import matched_tiles
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.ir.expressions import Constant, Coordinate, Side, apply
from maskdsl.ir.ops import Op
from tests.analysis.relations import BLOCKS, Setting, dense, dense_classes, problem, settings

Q, K = (lambda name, side=side: Coordinate(side, name) for side in (Side.QUERY, Side.KEY))
NAMES = st.sampled_from(["i", "y", "x", "c"])


def of_one_side(side):
    return st.builds(lambda name, limit: apply(Op.LESS, side(name), Constant(limit)), NAMES, st.integers(-2, 9))


def equalities():
    def equal(name, other, shift, crosses):
        sides = Q(name), apply(Op.ADD, K(other), Constant(shift))
        return apply(Op.EQUAL, *(sides[::-1] if crosses else sides))

    return st.builds(equal, NAMES, NAMES, st.integers(-3, 3), st.booleans())


def relations(depth=2):
    """Unions and intersections of equal columns and of what either side alone is asked."""
    if depth == 0:
        return st.one_of(equalities(), of_one_side(Q), of_one_side(K))
    joined = st.lists(relations(depth - 1), min_size=1, max_size=3)
    return st.builds(lambda op, each: apply(op, *each), st.sampled_from([Op.AND, Op.OR]), joined)


@given(relations(), settings(), settings(), BLOCKS, BLOCKS)
def test_matched_tiles_are_those_of_the_dense_mask(relation, query, key, height, width):
    asked = problem(relation, query, key, (height, width))
    if asked.terms is None:
        return
    tiles = matched_tiles(asked.terms, asked.query, asked.key)
    expected = dense_classes(dense(relation, query, key), (height, width))
    known = np.zeros_like(expected)
    known[tiles.row, tiles.column] = 1
    assert np.array_equal(known > 0, expected > 0) and known.sum() == len(tiles.row)
    here = expected[tiles.row, tiles.column]
    assert (here[tiles.is_full] == 2).all() and (here[tiles.is_partial] == 1).all()
    if len(asked.terms) == 1:
        assert (tiles.is_full | tiles.is_partial).all()


@given(relations(3), settings(), settings(), BLOCKS)
def test_classes_are_those_of_the_dense_mask(relation, query, key, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_classes, "_SHORT", 0)
        asked = problem(relation, query, key, (size, size))
        classes = classify(asked).classes(asked.key.count)
    assert np.array_equal(classes, dense_classes(dense(relation, query, key), (size, size)))


TOKENS = Setting({"i": np.arange(100), "y": np.arange(100) // 7, "f": np.arange(100) / 2})


def terms(relation):
    return problem(relation, TOKENS, TOKENS, (8, 8)).terms


def test_only_equal_columns_and_what_one_side_is_asked():
    same, near = apply(Op.EQUAL, Q("y"), K("y")), apply(Op.LESS, apply(Op.SUBTRACT, Q("i"), K("i")), Constant(3))
    assert terms(same) is not None
    for relation in (near, apply(Op.AND, same, near), apply(Op.OR, same, near), apply(Op.NOT, same)):
        assert terms(relation) is None


def test_many_terms_and_many_pairs_of_blocks_are_left_to_the_descent(monkeypatch):
    either = [
        apply(Op.OR, *(apply(Op.EQUAL, Q("i"), apply(Op.ADD, K("i"), Constant(n))) for n in range(first, first + 9)))
        for first in (0, 20)
    ]
    assert terms(either[0]) is not None and terms(apply(Op.AND, *either)) is None
    asked = problem(apply(Op.EQUAL, Q("y"), K("y")), TOKENS, TOKENS, (8, 8))
    assert matched_tiles(asked.terms, asked.query, asked.key) is not None
    monkeypatch.setattr(matches, "_MOST", 0)
    monkeypatch.setattr(matches, "_MOST_EACH", 1)
    assert matched_tiles(asked.terms, asked.query, asked.key) is not None
    asked = problem(apply(Op.EQUAL, Q("y"), apply(Op.FLOOR_DIVIDE, K("y"), Constant(3))), TOKENS, TOKENS, (8, 1))
    assert matched_tiles(asked.terms, asked.query, asked.key) is None
    asked = problem(apply(Op.AND, *(apply(Op.EQUAL, Q(name), K(name)) for name in "fy")), TOKENS, TOKENS, (8, 8))
    assert matched_tiles(asked.terms, asked.query, asked.key) is None


def test_values_that_are_far_apart():
    """Numbers made of several columns would be too large."""
    far = Setting({"i": np.array([-(2**62), 2**62, 0, 5]), "y": np.array([1, 2**61, 2, -(2**61)])})
    asked = problem(apply(Op.AND, *(apply(Op.EQUAL, Q(name), K(name)) for name in "iy")), far, far, (1, 1))
    assert matched_tiles(asked.terms, asked.query, asked.key) is None
    asked = problem(apply(Op.EQUAL, Q("i"), K("i")), far, far, (1, 1))
    tiles = matched_tiles(asked.terms, asked.query, asked.key)
    assert (tiles.row == range(4)).all() and (tiles.column == range(4)).all() and tiles.is_full.all()


def test_windows_along_a_curve_are_matched(monkeypatch):
    """Nothing repeats, and hulls of wrapped windows say little: no tile is left for a descent."""
    random = np.random.default_rng(0)
    tokens = Setting({"a": random.integers(0, 90, 3000), "b": random.integers(0, 40, 3000)})
    asked = problem(apply(Op.AND, *(apply(Op.EQUAL, Q(name), K(name)) for name in "ab")), tokens, tokens, (16, 16))
    monkeypatch.setattr(tile_classes, "_SHORT", 0)
    monkeypatch.setattr(tile_classes, "descend", None)
    classes = classify(asked).classes(asked.key.count)
    relation = apply(Op.AND, *(apply(Op.EQUAL, Q(name), K(name)) for name in "ab"))
    assert np.array_equal(classes, dense_classes(dense(relation, tokens, tokens), (16, 16)))
