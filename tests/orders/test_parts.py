"""Candidates, hints, orders by head and samples of rows, each alone."""

from dataclasses import replace
from math import factorial, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.orders.candidates import axis_orders, curves, factorings, tile_orders
from maskdsl.analysis.orders.head_orders import select
from maskdsl.analysis.orders.layouts import laid_out, token
from maskdsl.analysis.orders.order_hints import find_hints, without_inputs
from maskdsl.analysis.orders.order_trials import nearest, spread, taken
from maskdsl.analysis.tiles.block_map import Runs
from maskdsl.ir.declared.sequences import Axis, Space
from maskdsl.ir.expressions import Constant, Head, substitute, walk
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.simplify import simplify
from maskdsl.testing import inputs_for, patterns
from tests.support.drawn import examples


def space(**axes):
    return Space("space", tuple(Axis(name, length) for name, length in axes.items()))


def texts(orders):
    return [", ".join(map(print_expression, keys)) for keys in orders]


# Candidates


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_every_permutation_of_the_axes(rank):
    """Each sorts a grid in its own way, and none is the declared one."""
    names = "tyxz"[:rank]
    grid = space(**dict(zip(names, (2, 3, 4, 5), strict=False)))
    lines = ", ".join(f"{axis.name} = {axis.length}" for axis in grid.axes)
    mask = maskdsl.parse(f"pattern p() {{ space space[{lines}] attend all -> all }}")["p"].bind().ir
    orders = set()
    for keys in axis_orders(grid):
        ordered = laid_out(mask, {"space": keys})
        orders.add(tuple(Coordinates(ordered, ordered.queries, {}).permutation().tolist()))
    assert len(orders) == factorial(rank) - 1
    assert tuple(range(grid.size)) not in orders


def test_axes_of_one_token_are_left_out():
    assert texts(axis_orders(space(t=1, y=4, x=4))) == ["x"]
    assert texts(curves(space(t=1, y=1, x=4))) == []


@given(st.integers(1, 400), st.integers(1, 4))
def test_factorings(number, count):
    found = list(factorings(number, count))
    assert all(prod(shape) == number and len(shape) == count for shape in found)
    assert len(found) == len(set(found)) > 0


def test_tiles_fit_the_grid_and_follow_dilation():
    assert "y // 8, x // 16" in texts(tile_orders(space(y=256, x=256), 128, {}))
    assert texts(tile_orders(space(y=256, x=256), 128, {"x": 2}))[0] in ("y // 8, x // 32", "y // 16, x // 16")
    assert texts(tile_orders(space(y=3, x=400), 8, {})) == ["y // 2, x // 4", "y // 4, x // 2", "y, x // 8"]


# Hints


def hints(line, **options):
    text = f"pattern p(h = 12, w = 16) {{ space image[y = h, x = w] coord z = y * 16 + x attend {line} }}"
    mask = maskdsl.parse(text)["p"].bind(**options).ir
    return find_hints(mask, mask.queries.spaces[0])


@pytest.mark.parametrize(
    ("line", "groups"),
    [
        ("blocks(5, axis = x)", ["x // 5"]),
        ("dilated(3, axis = y) and same(x)", ["y % 3", "x"]),
        ("rolled_blocks(4, 2, axis = x)", ["(x - 2) % 16 // 4"]),
        ("same_side(2, axis = x)", ["0 if x < 2 else 1"]),
        ("q.x // 2 == k.x // 3", []),
        ("q.x == k.y", []),
    ],
)
def test_groups(line, groups):
    assert [print_expression(each) for each in hints(line).groups] == groups


def test_first_tokens_and_coordinates():
    found = hints("window(9, axis = z) or k.y == 0")
    assert [print_expression(each) for each in found.firsts] == ["0 if y == 0 else 1"]
    assert found.coordinates == (token("z"),)
    assert hints("q.x % 4 == k.x % 4 and dilated(2, axis = y)").residues == {"x": 4, "y": 2}


def test_clues_of_all_heads():
    found = hints("same(y) if head < 2 else same(x)", heads=4)
    assert found.groups == (token("y"), token("x"))


@settings(max_examples=examples(150))
@given(st.data(), patterns())
def test_what_is_known_without_inputs_is_all_that_may_attend(data, pattern):
    mask = pattern.bind().ir
    widened = without_inputs(mask)
    inputs = data.draw(inputs_for(mask, extremes=False))
    for head in range(mask.heads):
        actual = dense(mask, head=head, inputs=inputs)
        assert not (actual & ~dense(replace(mask, relation=widened), head=head, inputs=inputs)).any()
    if not mask.inputs:
        assert widened == mask.relation


# Heads


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_every_head_has_its_own_key(choice):
    values = sorted(set(choice))
    groups = [tuple(head for head, each in enumerate(choice) if each == value) for value in values]
    expression = select(groups, [Constant(value) for value in values], len(choice))
    found = [simplify(substitute(expression, {Head(): Constant(head)})) for head in range(len(choice))]
    assert found == [Constant(value) for value in choice]
    assert len(values) > 1 or Head() not in walk(expression)


# Samples


@given(st.integers(1, 5000), st.integers(1, 80))
def test_rows_are_spread(count, most):
    picked = spread(count, most)
    assert len(picked) == len(set(picked.tolist())) <= max(most, 1)
    assert picked.min() >= 0 and picked.max() < count
    assert count > most or len(picked) == count
    assert np.diff(np.concatenate([[0], picked, [count]])).max() <= 2 * count / most + 1
    closest = nearest(picked, count)
    distance = np.abs(np.arange(count)[:, None] - picked).min(axis=1)
    assert (np.abs(np.arange(count) - picked[closest]) == distance).all()


@given(st.data(), st.integers(1, 8), st.integers(1, 12))
def test_rows_are_taken(data, rows, columns):
    selected = np.array(data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns)))
    selected = selected.reshape(rows, columns)
    wanted = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=10)), dtype=np.int64)
    assert (taken(Runs.of_dense(selected), wanted).dense(columns) == selected[wanted]).all()
