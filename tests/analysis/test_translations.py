"""Tiles that are copies of those of one period are the same as without copying, and what repeats is copied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.analysis.tiles import tile_classes
from maskdsl.analysis.tiles.descent import descend
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.analysis.tiles.translations import block_hashes, find_periods, find_translation
from maskdsl.ir.expressions import Constant, Coordinate, Side, apply
from maskdsl.ir.ops import Op
from tests.analysis.relations import Setting, booleans, dense, dense_classes, problem

Q, K = (lambda name, side=side: Coordinate(side, name) for side in (Side.QUERY, Side.KEY))


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Short problems are copied too, if they have two periods."""
    monkeypatch.setattr(tile_classes, "_SHORT", 0)
    monkeypatch.setattr(tile_classes, "_LEAST", 1)


def periods_of(asked):
    return find_periods(block_hashes(asked.query), block_hashes(asked.key))


def translation(asked):
    periods = periods_of(asked)
    return periods and find_translation(asked.program, asked.query, asked.key, periods)


def classified(monkeypatch):
    """A list of the problems that are classified by descent from now on."""
    problems = []

    def noted(problem, hasty):
        problems.append(problem)
        return descend(problem, hasty)

    monkeypatch.setattr(tile_classes, "descend", noted)
    return problems


@st.composite
def repeated_settings(draw):
    """A grid whose rows repeat, with a few tokens at either end and perhaps one inside that are like no other."""
    length, width = draw(st.integers(40, 160)), draw(st.sampled_from([1, 3, 4, 6, 8, 12]))
    i = np.arange(length) + draw(st.integers(0, 5))
    values = {"i": i, "y": i // width, "x": i % width, "c": i % width // 2 * draw(st.integers(0, 2))}
    others = [*range(draw(st.integers(0, 6))), *range(length - draw(st.integers(0, 6)), length)]
    others += draw(st.lists(st.integers(0, length - 1), max_size=1))
    for name in ("y", "x", "c"):
        values[name][others] = -1
    return Setting(values)


@given(booleans(3), repeated_settings(), repeated_settings(), st.booleans(), st.sampled_from([1, 2, 3, 4, 6]))
def test_classes_are_those_of_the_dense_mask(relation, query, key, crosses, size):
    key = key if crosses else query
    asked = problem(relation, query, key, (size, size))
    found = classify(asked).classes(asked.key.count)
    assert np.array_equal(found, dense_classes(dense(relation, query, key), (size, size)))


def distance(name):
    return apply(Op.ABSOLUTE, apply(Op.SUBTRACT, Q(name), K(name)))


def below(value, limit):
    return apply(Op.LESS, value, Constant(limit))


SPECIAL = apply(Op.EQUAL, K("y"), Constant(0))
"""The keys of the first row of a grid."""
RELATIONS = {
    "window": below(distance("y"), 3),
    "neighbourhood": apply(Op.AND, below(distance("y"), 3), below(distance("x"), 2)),
    "its rows, and the first one": apply(Op.OR, SPECIAL, below(distance("y"), 2)),
    "same column": apply(Op.EQUAL, Q("x"), K("x")),
    "every third row back": apply(
        Op.EQUAL, apply(Op.FLOOR_MODULO, apply(Op.SUBTRACT, Q("y"), K("y")), Constant(3)), Constant(1)
    ),
    "the later one of two": below(apply(Op.MAXIMUM, apply(Op.SUBTRACT, Q("y"), K("y")), Constant(0)), 4),
}


@pytest.mark.parametrize("name", RELATIONS)
@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("length", [600, 603])
def test_what_repeats_is_copied(name, width, length, monkeypatch):
    i = np.arange(length)
    tokens = Setting({"i": i, "y": i // width, "x": i % width})
    asked = problem(RELATIONS[name], tokens, tokens, (8, 8))
    moved = translation(asked)
    assert moved is not None and moved.query.period == moved.key.period
    expected = descend(asked, False)
    parts = []
    monkeypatch.setattr(
        tile_classes, "descend", lambda problem, hasty: parts.append(problem) or descend(problem, hasty)
    )
    tiles = classify(asked)
    assert tiles.full == expected.full and tiles.partial == expected.partial
    assert parts and all(each.query.count * each.key.count < asked.query.count * asked.key.count / 4 for each in parts)


def test_what_does_not_repeat_is_not_copied():
    i = np.arange(600)
    tokens = Setting({"i": i, "y": np.random.default_rng(0).permutation(600)})
    asked = problem(below(distance("y"), 3), tokens, tokens, (8, 8))
    assert translation(asked) is None


@pytest.mark.parametrize("read", [Q("i"), apply(Op.ADD, Q("i"), K("i")), apply(Op.SUBTRACT, Q("i"), K("y"))])
def test_a_rise_that_is_seen_is_no_translation(read):
    """A column that rises may be read as a difference alone, whose other side rises as much."""
    i = np.arange(600)
    tokens = Setting({"i": i, "y": i // 2})
    relation = apply(Op.AND, below(distance("i"), 9), below(apply(Op.RANDOM, Constant(1), read), 1 << 30))
    asked = problem(relation, tokens, tokens, (8, 8))
    assert translation(asked) is None


def test_many_periods_rise_by_what_each_of_them_does():
    """Queries take 40 blocks of keys a block, and keys rise once more beyond those that repeat: nothing is a copy."""
    i = np.arange(512)
    query, key = Setting({"i": 40 * i}), Setting({"i": i + 5 * (i >= 400)})
    assert translation(problem(below(distance("i"), 4), query, Setting({"i": i}), (8, 8))) is not None
    assert translation(problem(below(distance("i"), 4), query, key, (8, 8))) is None


def test_coarse_keys_rise_by_less():
    """Of pooled keys there are fewer in the same time."""
    queries, keys = np.arange(960), np.arange(240)
    relation = apply(Op.LESS, apply(Op.SUBTRACT, apply(Op.FLOOR_DIVIDE, Q("i"), Constant(4)), K("i")), Constant(3))
    asked = problem(relation, Setting({"i": queries}), Setting({"i": keys}), (8, 8))
    moved = translation(asked)
    assert moved is not None and (moved.query.period, moved.key.period) == (4, 1)
    expected = descend(asked, False)
    tiles = classify(asked)
    assert tiles.full == expected.full and tiles.partial == expected.partial


def test_halves_that_repeat_each_for_itself(monkeypatch):
    """Windows of half the rows: in the middle of all rows nothing repeats."""
    monkeypatch.setattr(tile_classes, "_LARGE", 16)
    i = np.arange(1024)
    tokens = Setting({"y": i // 16 // 32, "x": i % 16})
    asked = problem(apply(Op.AND, *(apply(Op.EQUAL, Q(name), K(name)) for name in "yx")), tokens, tokens, (8, 8))
    assert periods_of(asked) is None
    expected = descend(asked, False)
    parts = []
    monkeypatch.setattr(
        tile_classes, "descend", lambda problem, hasty: parts.append(problem) or descend(problem, hasty)
    )
    tiles = classify(asked)
    assert tiles.full == expected.full and tiles.partial == expected.partial
    assert sum(each.query.count * each.key.count for each in parts) < asked.query.count * asked.key.count / 4


def test_pairs_of_equal_columns_are_listed(monkeypatch):
    """Neighbours given for each token, in no order: intervals say nothing, and the pairs are few."""
    monkeypatch.setattr(tile_classes, "descend", None)
    near = np.random.default_rng(0).integers(0, 3000, (3000, 4))
    tokens = Setting({"i": np.arange(3000), **{str(n): near[:, n] for n in range(4)}})
    any_of = apply(Op.OR, *(apply(Op.EQUAL, Q(name), K("i")) for name in ("i", "0", "1", "2", "3")))
    relation = apply(Op.AND, any_of, below(apply(Op.SUBTRACT, Q("i"), K("i")), 2000))
    asked = problem(relation, tokens, tokens, (16, 16))
    tiles = classify(asked)
    assert np.array_equal(tiles.classes(asked.key.count), dense_classes(dense(relation, tokens, tokens), (16, 16)))
