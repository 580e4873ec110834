"""What `emit --stage ir` prints of expressions is the language: read again, it means the same."""

import pytest

import maskdsl
from maskdsl.ir.expressions import Apply, walk
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.ops import OF_INTEGERS, OPERATORS, Op, Type

RELATIONS = (
    "min(q, 5) <= max(k, 3) and abs(q - k) != 2",
    "ilog2(q + 1) < ilog2(k + 9) or is_power_of_two(q - k) and not share_bit(q, k)",
    "(q - 2 * k) % 3 == 1 or (q - 9) // 4 < -(k // 2) or random(3, q // 2, k) % 5 > 2",
    "(q if k < 4 else k ** 2) > 7 and k + 1 >= q",
    "floor(float(q) / 2.5) == round(float(k) * 0.3) or int(float(q - k) / 4.0) == 1",
)
SCORES = (
    "min(s, 2.5) + max(s, float(k)) / (1.0 + abs(s))",
    "tanh(s) * sigmoid(s) - exp(-s) ** 3",
    "log(1.0 + s ** 2) + sqrt(abs(s)) * (s if q <= k else -s)",
)
RELATIONS += tuple(
    f"{OPERATORS[op].function}({', '.join(['q - 3', 'k'][: OPERATORS[op].count])}){end}"
    for kind, end in ((None, " % 3 == 1"), (Type.BOOL, ""))
    for op in OF_INTEGERS[kind]
)
TEXT = "pattern printed(n = 12) {{ space tokens[n] attend {} score {} }}"


def bound(relation: str, score: str) -> maskdsl.Mask:
    return maskdsl.parse(TEXT.format(relation, score))["printed"].bind(heads=1)


@pytest.mark.parametrize("relation", RELATIONS)
def test_what_is_printed_means_the_same(relation: str) -> None:
    mask = bound(relation, "s")
    again = bound(print_expression(mask.ir.relation), "s")
    assert 0 < mask.dense().sum() < 144
    assert (again.dense() == mask.dense()).all()


@pytest.mark.parametrize("score", SCORES)
def test_scores_are_the_same(score: str) -> None:
    mask = bound("all -> all", score)
    (printed,) = map(print_expression, mask.ir.scores)
    assert bound("all -> all", printed).ir.scores == mask.ir.scores


def test_every_operator_is_printed() -> None:
    masks = [bound(each, "s").ir for each in RELATIONS] + [bound("all -> all", each).ir for each in SCORES]
    roots = [root for mask in masks for root in (mask.relation, *mask.scores)]
    found = {node.op for root in roots for node in walk(root) if isinstance(node, Apply)}
    assert found == set(Op)
