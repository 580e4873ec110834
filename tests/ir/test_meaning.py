"""Operators, coordinates, curves, orders and classes of heads, on NumPy arrays."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import (
    Along,
    Axis,
    Computed,
    CoordinateDefinition,
    CurveKind,
    Sequence,
    Shuffled,
    Space,
)
from maskdsl.ir.expressions import FALSE, TRUE, Batch, Constant, Coordinate, Head, InSpace, Read, Side, apply
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.meaning.coordinates import Coordinates, shuffle
from maskdsl.ir.meaning.curves import curve_positions
from maskdsl.ir.meaning.evaluate import allowed, dense
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import head_classes, simplify
from maskdsl.ir.values.fixed_random import random_integers
from tests.support.masks import c, causal, declared, given, k, mask, q, tokens, within

BOXES = [(1, 1), (7,), (3, 5), (8, 8), (4, 4, 4), (2, 3, 5), (2, 2, 2, 2)]


def token(name):
    return Coordinate(Side.TOKEN, name)


@pytest.mark.parametrize("a", range(-7, 8))
@pytest.mark.parametrize("b", [-3, -1, 1, 2, 5])
def test_division_floors_as_in_python(a, b):
    assert apply_operator(Op.FLOOR_DIVIDE, np.array(a), np.array(b)) == a // b
    assert apply_operator(Op.FLOOR_MODULO, np.array(a), np.array(b)) == a % b


def test_logarithms_and_powers_are_exact():
    numbers = [-5, 0, 1, *(2**bit + step for bit in range(1, 63) for step in (-1, 0, 1) if 2**bit + step < 2**63)]
    logs = apply_operator(Op.INTEGER_LOG2, np.array(numbers))
    assert logs.tolist() == [number.bit_length() - 1 if number > 0 else -1 for number in numbers]
    powers = apply_operator(Op.IS_POWER_OF_TWO, np.array(numbers))
    assert powers.tolist() == [number > 0 and number & (number - 1) == 0 for number in numbers]


def test_random_integers_are_fixed_spread_and_depend_on_every_argument():
    drawn = random_integers(np.array(7), np.arange(10000))
    assert drawn.min() >= 0 and drawn.max() < 2**31 and len(set(drawn.tolist())) > 9990
    assert abs(drawn.mean() / 2**30 - 1) < 0.05
    assert np.array_equal(drawn, random_integers(np.array(7), np.arange(10000)))
    assert random_integers(np.array(1), np.array(2)) != random_integers(np.array(2), np.array(1))
    assert random_integers(np.array(0), np.array(2**32 + 5)) == random_integers(np.array(0), np.array(5))
    assert random_integers(np.array(-1)) == random_integers(np.array(2**32 - 1))


@pytest.mark.parametrize(("kind", "lengths"), list(product(CurveKind, BOXES)))
def test_curves_visit_every_cell_once(kind, lengths):
    assert sorted(curve_positions(kind, lengths)) == list(range(np.prod(lengths)))


@pytest.mark.parametrize(
    ("kind", "lengths"), [(kind, box) for kind in (CurveKind.SNAKE, CurveKind.HILBERT) for box in BOXES]
)
def test_curves_go_from_neighbour_to_neighbour(kind, lengths):
    if kind is CurveKind.HILBERT and len({1 << (length - 1).bit_length() for length in lengths} | set(lengths)) > 1:
        lengths = (1 << max(lengths).bit_length(),) * len(lengths)
    cells = np.stack(np.unravel_index(np.argsort(curve_positions(kind, lengths)), lengths))
    assert (np.abs(np.diff(cells, axis=1)).sum(axis=0) == 1).all()


@pytest.mark.parametrize(
    "lengths", [(1, 1), (1, 9), (2, 3), (5, 7), (7, 5), (6, 10), (13, 4), (12, 40), (31, 33), (64, 64)]
)
def test_a_hilbert_curve_fills_a_rectangle(lengths):
    """Steps go to neighbours; one may be diagonal where a length is odd."""
    positions = curve_positions(CurveKind.HILBERT, lengths)
    cells = np.stack(np.unravel_index(np.argsort(positions), lengths))
    steps = np.abs(np.diff(cells, axis=1))
    assert sorted(positions) == list(range(np.prod(lengths)))
    assert (steps.max(axis=0, initial=0) <= 1).all()
    assert (steps.sum(axis=0) > 1).sum() <= (lengths[0] % 2 or lengths[1] % 2)


def test_a_morton_curve_goes_by_bits_the_first_axis_first():
    def code(y, x):
        return sum((y >> bit & 1) << 2 * bit + 1 | (x >> bit & 1) << 2 * bit for bit in range(3))

    cells = sorted(np.ndindex(5, 7), key=lambda cell: code(*cell))
    positions = curve_positions(CurveKind.MORTON, (5, 7)).reshape(5, 7)
    assert [positions[cell] for cell in cells] == list(range(35))


def test_a_shuffle_is_a_permutation_of_its_own():
    assert sorted(shuffle(100, 3)) == list(range(100))
    assert not np.array_equal(shuffle(100, 3), shuffle(100, 4))


def mixed():
    """Three text tokens, then an image of 2 x 3 with a tile, a curve and a shuffle of its own."""
    image = Space("image", (Axis("y", 2), Axis("x", 3)))
    definitions = (
        CoordinateDefinition("tile", Type.INT, (("image", Computed(apply(Op.FLOOR_DIVIDE, token("x"), c(2)))),)),
        CoordinateDefinition("snake", Type.INT, (("image", Along(CurveKind.SNAKE, ("y", "x"))),)),
        CoordinateDefinition("mixed", Type.INT, (("text", Shuffled("i", 5)), ("image", Shuffled("x", 5)))),
    )
    return Sequence((Space("text", (Axis("text", 3),)), image), definitions)


def test_coordinates_are_zero_where_tokens_lack_them():
    sequence = mixed()
    of = Coordinates(mask(TRUE, sequence), sequence, {})
    assert of.values("i").tolist() == list(range(9))
    assert of.values("text").tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0]
    assert of.values("y").tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert of.values("x").tolist() == [0, 0, 0, 0, 1, 2, 0, 1, 2]
    assert of.values("tile").tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert of.values("snake").tolist() == [0, 0, 0, 0, 1, 2, 5, 4, 3]
    assert of.values("mixed")[:3].tolist() == shuffle(9, 5)[:3].tolist()
    assert of.values("mixed")[3:].tolist() == shuffle(3, 5).tolist() * 2
    assert of.member("image").tolist() == [False] * 3 + [True] * 6


def test_orders_sort_each_space_in_its_stretch():
    sequence = replace(mixed(), order=((), (token("x"), apply(Op.NEGATE, token("y")))))
    of = Coordinates(mask(TRUE, sequence), sequence, {})
    assert of.permutation().tolist() == [0, 1, 2, 6, 3, 7, 4, 8, 5]
    assert Coordinates(mask(TRUE, mixed()), mixed(), {}).permutation() is None


def test_inputs_of_a_head_and_batch_entry():
    sequence = tokens(4, given("document"))
    inputs = [declared("document", Type.INT, batch=None, heads=2, tokens=4)]
    pattern = mask(causal(), sequence, heads=2, inputs=inputs)
    values = np.arange(24).reshape(3, 2, 4)
    assert Coordinates(pattern, sequence, {"document": values}, 2, 1).values("document").tolist() == [20, 21, 22, 23]
    assert trace(sequence, [token("document")]).varies(pattern) == {DimensionKind.BATCH, DimensionKind.HEADS}
    assert trace(sequence, [token("i")]).varies(pattern) == frozenset()
    assert trace(sequence, [apply(Op.ADD, Head(), token("i"))]).varies(pattern) == {DimensionKind.HEADS}


def test_a_long_chain_of_coordinates_is_no_deep_recursion():
    names = ["i", *(f"c{number}" for number in range(3000))]
    doubled = [apply(Op.MINIMUM, apply(Op.ADD, token(name), token(name)), c(9)) for name in names[:-1]]
    definitions = [
        CoordinateDefinition(name, Type.INT, (("tokens", Computed(value)),))
        for name, value in zip(names[1:], doubled, strict=True)
    ]
    sequence = tokens(3, *definitions)
    assert Coordinates(mask(TRUE, sequence), sequence, {}).values(names[-1]).tolist() == [0, 9, 9]


def test_dense_and_allowed_agree():
    pattern = mask(within(2), tokens(6), tokens(5))
    whole = dense(pattern)
    assert whole.tolist() == [[abs(row - column) <= 2 for column in range(5)] for row in range(6)]
    assert allowed(pattern, np.array([1, 5]), np.array([3, 0])).tolist() == [True, False]


def test_reads_heads_and_spaces():
    inputs = [declared("table", Type.INT, batch=None, heads=2, size=7)]
    read = Read("table", (Batch(), Head(), apply(Op.ADD, apply(Op.SUBTRACT, q(), k()), c(3))), Type.INT)
    relation = apply(Op.AND, InSpace(Side.QUERY, "tokens"), apply(Op.LESS, c(0), read))
    table = np.array([[[0, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0]]])
    attended = dense(mask(relation, tokens(4), heads=2, inputs=inputs), head=1, inputs={"table": table})
    assert attended.tolist() == [[row <= column for column in range(4)] for row in range(4)]


def test_a_pair_that_attends_reads_inside_its_table():
    inputs = [declared("table", Type.INT, size=4)]
    read = apply(Op.EQUAL, Read("table", (apply(Op.SUBTRACT, q(), k()),), Type.INT), c(7))
    table = {"table": np.full(4, 7)}
    assert dense(mask(apply(Op.AND, causal(), read), tokens(4), inputs=inputs), inputs=table).sum() == 10
    assert dense(mask(apply(Op.SELECT, causal(), read, FALSE), tokens(4), inputs=inputs), inputs=table).sum() == 10
    assert dense(mask(apply(Op.AND, read, causal()), tokens(4), inputs=inputs), inputs=table).sum() == 10
    with pytest.raises(AttnError, match=r"E423.*index -1 in a dimension of 4"):
        dense(mask(apply(Op.OR, read, causal()), tokens(4), inputs=inputs), inputs=table)


def test_simplification():
    near, far = within(1), within(5)
    assert simplify(apply(Op.AND, near, TRUE, near)) == near
    assert simplify(apply(Op.OR, near, TRUE)) == TRUE
    assert simplify(apply(Op.AND, FALSE, near)) == FALSE
    assert simplify(apply(Op.OR, near, FALSE, far)) == apply(Op.OR, near, far)
    assert simplify(apply(Op.SELECT, TRUE, near, far)) == near
    assert simplify(apply(Op.ADD, c(2), apply(Op.FLOOR_MODULO, c(-1), c(3)))) == Constant(4)


def test_heads_fall_into_classes():
    relation = apply(Op.SELECT, apply(Op.LESS, Head(), c(2)), within(1), causal())
    assert head_classes(relation, 4) == ((within(1), causal()), (0, 0, 1, 1))
    assert head_classes(within(1, "x"), 3) == ((within(1, "x"),), (0, 0, 0))
