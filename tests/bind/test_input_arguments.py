"""Macros that take inputs mean what their bodies mean with the names of the inputs."""

import pytest
import torch

import maskdsl

FAR = "table[head, min(abs(q - k), {})]"
ROW = "dot(q, {}[head, min(abs(q - k), 4)])"
PAIRS = [
    (f"def far(table: input, size) = {FAR.format('size')}", "far(bias, 4)", "bias[head, min(abs(q - k), 4)]"),
    (f"def far(table: input, bias) = {FAR.format('bias')}", "far(bias, 4)", "bias[head, min(abs(q - k), 4)]"),
    ("def far(table: input) = { let bias = 3 table[head, bias] }", "far(bias)", "bias[head, 3]"),
    ("def of(x: input) = q.x - k.x", "of(worth)", "q.worth - k.worth"),
    ("def of(x: input) = x[q // 2]", "of(worth)", "worth[q // 2]"),
    ("def twice(x: input) = x * x", "twice(gain)", "gain * gain"),
    ("def outer(x: input) = inner(1, x)  def inner(a, t: input) = t[head, a]", "outer(bias)", "bias[head, 1]"),
    ("def alike(x: input) = 1.0 if same(x) else 0.0", "alike(group)", "1.0 if same(group) else 0.0"),
]
INPUTS = """input bias: float[heads, 5]  input worth: float[tokens]  input gain: float  input group: int[tokens]
    input one: float[heads, 5, dim]  input other: float[heads, 5, dim]"""


def bound(macros: str, score: str) -> maskdsl.Mask:
    line = f"s + ({score}) + 0.0 * (q.worth + bias[head, 0] + gain + q.group)"
    text = f"{macros} pattern p(n = 9) {{ space tokens[n] {INPUTS} attend causal  score {line} }}"
    return maskdsl.parse(text)["p"].bind(heads=2)


@pytest.mark.parametrize(("macros", "call", "body"), PAIRS)
def test_macros_take_inputs(macros: str, call: str, body: str) -> None:
    assert bound(macros, call).ir.scores == bound(macros, body).ir.scores


def test_macros_multiply_rows_of_the_inputs_that_they_take() -> None:
    """Two calls of one text are products of two tables."""
    macro = f"def row(x: input) = {ROW.format('x')}"
    q, k = torch.randn(2, 1, 2, 9, 8).unbind()
    one, other = torch.randn(2, 2, 5, 8).unbind()
    given = {"worth": torch.zeros(9), "bias": torch.zeros(2, 5), "gain": 0.0, "group": torch.zeros(9, dtype=torch.long)}
    attentions = [
        bound(macro, "row(one) + 2.0 * row(other)").compile(),
        bound("", f"{ROW.format('one')} + 2.0 * {ROW.format('other')}").compile(),
    ]
    outs = [each(q, k, k, **given, one=one, other=other) for each in attentions]
    torch.testing.assert_close(*outs)
