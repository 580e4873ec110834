"""The public strategies: what they draw is varied, and what is missing is said."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl import load, parse
from maskdsl.testing import inputs_for, patterns, relations, tensors_for
from maskdsl.testing.inputs import LEAST
from tests.support.drawn import examples
from tests.support.properties import sample

EXAMPLES = Path(__file__).parents[2] / "examples"

WORDS = (
    *("queries", "tokens", "coord", "input", "let", "require", "score", "weight", "scale", "order", "assert", "def"),
    *("hilbert", "morton", "snake", "shuffle", "random", "ilog2", "clamp", "where", "->", "if", "for", "head", "batch"),
    *("floor(", "round(", "int("),
    *("//", "%", "**", "neighborhood", "ball", "window", "blocks", "(t, y, x)", "kernel", "flag", "slope"),
    *("= mean(", "= max(", "coarser"),
)


def test_patterns_use_the_whole_language():
    texts = [sample(patterns(), number).text for number in range(300)]
    assert not [word for word in WORDS if not any(word in text for text in texts)]
    assert len(set(texts)) > 290


def test_branches_of_patterns():
    drawn = [sample(patterns(tokens=20, branches=True), number) for number in range(40)]
    found = drawn
    assert {len(each.bind().branches) for each in found} >= {1, 2, 3, 4}
    assert any("\n        score" in each.text for each in found) and any("sink" in each.text for each in found)


def test_most_patterns_attend_some_pairs_and_not_others():
    found = []
    for number in range(60):
        mask = sample(patterns(tokens=20), number).bind()
        assert max(mask.query_length, mask.key_length) <= 40
        found.append(mask.dense(**sample(inputs_for(mask.ir), number)).mean())
    assert sum(0 < density < 1 for density in found) >= 25


@settings(max_examples=examples(10))
@given(st.data())
def test_inputs_and_tensors_for_any_mask(data):
    mask = load(EXAMPLES / "language" / "packed.attn")["packed"].bind(n=30, heads=4)
    assert mask.dense(**data.draw(inputs_for(mask.ir))).diagonal().all()
    q, k, v = data.draw(tensors_for(mask.ir, batch=3, dim=8, key_heads=2))
    assert (q.shape, k.shape, v.shape) == ((3, 4, 30, 8), (3, 2, 30, 8), (3, 2, 30, 8))


@pytest.mark.parametrize(
    ("lines", "fills"),
    [
        ("score s + k.pad", {"pad": {-np.inf, LEAST}}),
        ("score 0.5 * s  score table[q, k] + s", {"table": {-np.inf, LEAST}}),
        ("score s + k.pad + table[q, k]", {"pad": {-np.inf}, "table": {-np.inf}}),
        ("score s + k.pad  score s + q.pad", {"pad": {-np.inf}}),
        ("score s * k.pad  score s + table[q, k]", {"table": {-np.inf, LEAST}}),
        ("score s + k.pad  score 0.5 * s", {}),
        ("score s + k.pad  weight k.pad", {}),
        ("score s + 2.0 * k.pad + table[q, k]  attend k.pad > 0.5 and table[k, q] < 0.5", {}),
        ("score k.pad", {}),
    ],
)
def test_what_is_only_added_to_scores_hides_pairs(lines, fills):
    """In all drawn arrays together: which fills stand in which input, if any."""
    text = f"pattern p() {{ space t[9] input pad: float[batch, t] input table: float[t, t] attend causal {lines} }}"
    mask, found = parse(text)["p"].bind().ir, {}
    for number in range(30):
        for name, array in sample(inputs_for(mask, batch=2), number).items():
            found[name] = found.get(name, set()) | set(array[array < -10].tolist())
    assert {name: each for name, each in found.items() if each} == fills


def test_whole_rows_are_hidden():
    text = "pattern p() { space t[9] input table: float[heads, t, t] attend causal score s + table[head, q, k] }"
    mask = parse(text)["p"].bind(heads=2).ir
    hidden = [np.isneginf(sample(inputs_for(mask), number)["table"]).all(-1) for number in range(30)]
    assert any(rows.any() and not rows.all() for rows in hidden) and any(rows.all() for rows in hidden)


@settings(max_examples=examples(10))
@given(relations({"image": {"y": 3, "x": 4}}, heads=2))
def test_relations_are_expressions(text):
    assert text and "attend" not in text


def test_without_hypothesis():
    code = "import sys; sys.modules['hypothesis'] = None; import maskdsl.testing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "`maskdsl.testing` needs hypothesis, which cannot be imported" in result.stderr
    assert 'pip install "maskdsl[testing]"' in result.stderr
