"""Laws of the rewriting, and straight-line programs."""

import numpy as np
import pytest
from hypothesis import given

from maskdsl.analysis.tiles.interval_program import Column
from maskdsl.analysis.tiles.separation import SideTable, group_by_side, rewrite, separate, split_congruence
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.ir.expressions import Apply, Constant, Coordinate, Read, Side, apply
from maskdsl.ir.facts.intervals import point
from maskdsl.ir.ops import Op, Type
from tests.analysis.relations import booleans, dense, settings

Q, K = Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i")


def entered(node):
    sides = SideTable()
    stack = [node]
    for each in stack:
        stack.extend(each.arguments if isinstance(each, Apply) else ())
    for each in reversed(stack):
        sides.enter(each)
    return node, sides


@given(booleans(3), settings(longest=20), settings(longest=20))
def test_rewriting_changes_no_pair(relation, query, key):
    assert np.array_equal(dense(rewrite(relation, SideTable()), query, key), dense(relation, query, key))


@pytest.mark.parametrize("op", [Op.EQUAL, Op.NOT_EQUAL])
def test_a_congruence_becomes_a_comparison_of_remainders(op):
    remainder = apply(Op.FLOOR_MODULO, apply(Op.SUBTRACT, Q, K), Constant(-3))
    split = split_congruence(*entered(apply(op, remainder, Constant(0))))
    assert split == apply(op, *(apply(Op.FLOOR_MODULO, side, Constant(-3)) for side in (Q, K)))
    assert split_congruence(*entered(apply(op, remainder, Constant(1)))) is None
    one_sided = apply(Op.FLOOR_MODULO, apply(Op.SUBTRACT, Q, Constant(5)), Constant(3))
    assert split_congruence(*entered(apply(op, one_sided, Constant(0)))) is None


@pytest.mark.parametrize("op", [Op.AND, Op.OR])
def test_parts_of_one_side_are_grouped(op):
    early, late = apply(Op.LESS, Q, Constant(9)), apply(Op.LESS, Constant(2), Q)
    pair = apply(Op.LESS, Q, K)
    grouped = group_by_side(*entered(apply(op, early, pair, late)))
    assert grouped == apply(op, apply(op, early, late), pair)
    assert group_by_side(*entered(apply(op, early, pair))) is None
    assert group_by_side(*entered(apply(op, early, late))) is None


def test_what_one_side_alone_decides_is_a_column():
    third = apply(Op.FLOOR_DIVIDE, Q, Constant(3))
    separated = separate(apply(Op.AND, apply(Op.EQUAL, third, K), apply(Op.LESS, K, third)), {})
    assert (separated.query, separated.key) == ((third,), (K,))
    actions = [step.action for step in separated.program.steps]
    assert actions == [Column(Side.QUERY, 0), Column(Side.KEY, 0), Op.EQUAL, Op.LESS, Op.AND]


def test_slots_are_dropped_after_their_last_use():
    distance = apply(Op.SUBTRACT, Q, K)
    near = [apply(Op.EQUAL, distance, Constant(number)) for number in range(50)]
    program = separate(apply(Op.OR, *near), {}).program
    assert program.width == 4
    freed = [slot for step in program.steps for slot in step.frees]
    assert sorted(freed) == list(range(len(program.steps) - 1))


def test_tables_are_read_by_pairs():
    table = np.arange(12).reshape(3, 4)
    read = Read("table", (Q, K), Type.INT)
    program = separate(apply(Op.LESS, read, Constant(6)), {"table": BoundedTable.of(table)}).program
    sides = {Side.QUERY: np.arange(3)[:, None], Side.KEY: np.arange(4)[None, :]}
    assert np.array_equal(program.run(lambda column: point(sides[column.side])).low, table < 6)
