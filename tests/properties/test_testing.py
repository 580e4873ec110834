"""The public strategies: what they draw is varied, and what is missing is said."""

import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl import load
from maskdsl.testing import inputs_for, patterns, relations, tensors_for
from tests.properties.checks import sample
from tests.support.drawn import examples

EXAMPLES = Path(__file__).parents[2] / "examples"

WORDS = (
    *("queries", "tokens", "coord", "input", "let", "require", "score", "weight", "scale", "order", "assert", "def"),
    *("hilbert", "morton", "snake", "shuffle", "random", "ilog2", "clamp", "where", "->", "if", "for", "head", "batch"),
    *("//", "%", "**", "neighborhood", "ball", "window", "blocks", "(t, y, x)", "kernel", "flag", "slope"),
    *("= mean(", "= max(", "coarser"),
)


def test_patterns_use_the_whole_language():
    texts = [sample(patterns(), number).text for number in range(300)]
    assert not [word for word in WORDS if not any(word in text for text in texts)]
    assert len(set(texts)) > 290


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


@settings(max_examples=examples(10))
@given(relations({"image": {"y": 3, "x": 4}}, heads=2))
def test_relations_are_expressions(text):
    assert text and "attend" not in text


def test_without_hypothesis():
    code = "import sys; sys.modules['hypothesis'] = None; import maskdsl.testing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "maskdsl.testing needs hypothesis: pip install 'maskdsl[testing]'" in result.stderr
