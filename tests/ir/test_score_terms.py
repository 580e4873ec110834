"""Scores and weights by their terms: what is a term, and that nothing changes where terms take their places again."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import maskdsl
from maskdsl.ir.expressions import Expression, substitute
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.rewrites.score_bias import score_bias
from maskdsl.ir.rewrites.score_terms import ScoreTerms, TermKind, score_terms
from maskdsl.testing import patterns

INPUTS = (
    "input x: float[t] input y: float[heads] input r: float[heads, 9] input doc: int[t] input e: float[heads, 8, 8]"
)


def mask_of(lines: str) -> MaskIR:
    return maskdsl.parse(f"pattern p(n = 8) {{ space t[n] {INPUTS} attend window(4) {lines} }}")["p"].bind(heads=2).ir


def whole(terms: ScoreTerms, expression: Expression) -> Expression:
    """The expression with the values of terms in their places."""
    return substitute(expression, {leaf: value for _, some in terms.terms for leaf, value in some})


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        ("score s * y[head]", (1, 0, 0)),
        ("score s + q.x - k.x", (1, 1, 0)),
        ("score s * (q.x * y[head] + 1.0)", (1, 0, 0)),
        ("score s * r[head, q - k + 4] + k.x", (0, 1, 1)),
        ("score s + k.x * (r[head, q - k + 4] + 1.0)", (0, 1, 1)),
        ("score tanh(s) + tanh(s * q.x) if k.x > 0.0 and s > q.x else q.x", (1, 1, 0)),
        ("score s - abs(q.x - k.x)", (1, 1, 0)),
        ("weight k.x * q.x", (0, 1, 0)),
        ("weight r[head, q - k + 4]", (0, 0, 1)),
        ("scale y[head]", (1, 0, 0)),
        ("score sigmoid(s) normalize none", (0, 0, 0)),
    ],
)
def test_terms(lines: str, counts: tuple[int, ...]) -> None:
    mask = mask_of(lines)
    assert score_bias(mask) is None
    terms = score_terms(mask)
    assert terms is not None and tuple(len(terms.of(kind)) for kind in TermKind) == counts


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "scale 0.5",
        "score 3.0 * tanh(s / 3.0) + r[head, q - k + 4]",
        "score s - 2.0 ** (-(head + 1)) * float(q - k)",
        "score s + (1.0 if q - k == 2 else 0.0)",
    ],
)
def test_caps_and_biases_need_none(lines: str) -> None:
    assert score_bias(mask_of(lines)) is not None


@pytest.mark.parametrize(
    "lines",
    [
        "score s + (1.0 if q.doc == k.doc else 0.0)",
        "score s + r[head, q.doc - k.doc + 4]",
        "score s + float(floor(s))",
        "score s + (1.0 if q.x < k.x else 0.0)",
        "score s normalize softmax by k",
    ],
)
def test_other_forms(lines: str) -> None:
    mask = mask_of(lines)
    assert score_bias(mask) is None and score_terms(mask) is None


@pytest.mark.parametrize("lines", [20, 100])
def test_scores_of_many_lines_are_left_to_others(lines: int) -> None:
    """None is an answer, and compilers are given no text that takes them long."""
    of_line = f"score {'tanh(' * 40}s{')' * 40}"
    assert score_terms(mask_of(of_line)) is not None
    assert score_terms(mask_of(" ".join([of_line] * lines))) is None


@given(st.data())
def test_terms_in_their_places_are_the_score(data: st.DataObject) -> None:
    mask = data.draw(patterns()).bind().ir
    terms = score_terms(mask)
    assume(terms is not None and not mask.scores[1:] and mask.scale is None)
    assert terms is not None
    assert whole(terms, terms.score) == (mask.scores[0] if mask.scores else terms.score)
    if mask.weight is not None and terms.weight is not None:
        assert whole(terms, terms.weight) == mask.weight
