"""Why a pair attends: every line against the pair's own truth, on random patterns, and one pair by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.ir.expressions import Constant
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.ir.meaning.reasons import coordinates, pair_reasons
from maskdsl.ir.ops import Op
from tests.support.drawn import examples
from tests.support.properties import cases

GRID = """
pattern grid(h = 6, w = 8) {
    space image[y = h, x = w]
    coord stripe = x // 2
    attend q.y == k.y and not (q.stripe == k.stripe or k.x < 2)
    attend k == 0
    require head != 1
}
"""


def check(reason, pair):
    """A reason agrees with what it is made of, and its steps with its condition."""
    assert reason.holds == bool(pair.evaluate(reason.condition, np.asarray(False)))
    assert not (reason.operands and reason.steps)
    for step in reason.steps:
        assert bool(pair.evaluate(step, np.asarray(False))) == reason.holds
    holds = [part.holds for part in reason.operands]
    match reason.condition:
        case _ if not holds:
            pass
        case node if node.op is Op.AND:
            assert reason.holds == all(holds)
        case node if node.op is Op.OR:
            assert reason.holds == any(holds)
        case node:
            assert node.op is Op.NOT and holds == [not reason.holds]
    for part in reason.operands:
        check(part, pair)


@settings(max_examples=examples(100))
@given(cases(), st.data())
def test_lines_agree_with_the_pair(case, data):
    mask = case.mask
    query = data.draw(st.integers(0, mask.queries.length - 1))
    key = data.draw(st.integers(0, mask.keys.length - 1))
    head = data.draw(st.integers(0, mask.heads - 1))
    pair = Pairs(mask, np.asarray(query), np.asarray(key), head, 0, case.inputs)
    reasons = pair_reasons(mask, query, key, head, 0, case.inputs)
    assert reasons.attends == bool(pair.allowed())
    allowed = any(line.reason.holds for line in reasons.attend)
    assert reasons.attends == (allowed and all(line.reason.holds for line in reasons.require))
    assert reasons.deciding
    for line in (*reasons.attend, *reasons.require):
        check(line.reason, pair)


def texts(reason):
    return [print_expression(each) for each in (reason.condition, *reason.steps)]


def test_a_pair_by_hand():
    mask = maskdsl.parse(GRID)["grid"].bind(heads=2).ir
    reasons = pair_reasons(mask, 9, 14, head=0)
    first, second = reasons.attend
    assert reasons.attends and reasons.deciding == (first,)
    row, no = first.reason.operands
    assert texts(row) == ["q.y == k.y", "1 == 1"]
    (either,) = no.operands
    assert [texts(part) for part in either.operands] == [
        ["q.stripe == k.stripe", "0 == 3"],
        ["k.x < 2", "6 < 2"],
    ]
    assert texts(second.reason) == ["k == 0", "14 == 0"]
    assert coordinates(mask, mask.queries, 9, 0, 0, {}) == {"y": 1, "x": 1, "stripe": 0}


def test_a_line_that_forbids():
    mask = maskdsl.parse(GRID)["grid"].bind(heads=2).ir
    reasons = pair_reasons(mask, 9, 0, head=1)
    assert not reasons.attends and reasons.deciding == reasons.require
    assert texts(reasons.require[0].reason) == ["head != 1", "1 != 1"]


def test_steps_are_numbers_in_the_end():
    mask = maskdsl.parse("pattern p(n = 99) { space tokens[n]  attend abs(q - k) ** 2 <= 4 * (k + 1) }")["p"].bind().ir
    (line,) = pair_reasons(mask, 17, 93).attend
    assert texts(line.reason) == ["abs(q - k) ** 2 <= 4 * (k + 1)", "abs(17 - 93) ** 2 <= 4 * (93 + 1)", "5776 <= 376"]
    assert all(isinstance(part, Constant) for part in line.reason.steps[-1].arguments)
