"""Patterns and masks composed by `&`, `|` and `~`, against the dense meaning of each operand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.api import Mask
from maskdsl.testing import inputs_for, patterns, relations
from tests.support.drawn import examples

SPACES = (
    {"tokens": {"tokens": 13}},
    {"image": {"y": 4, "x": 5}},
    {"text": {"text": 3}, "image": {"y": 3, "x": 4}},
)
MODULE = maskdsl.parse(
    """
    def near(size) = abs(q - k) < size
    def twice(size) = near(2 * size)  # a macro that calls one
    ## The last tokens.
    pattern local(n = 40, size = 5) { space tokens[n] let reach = size + 1 attend causal and twice(reach) }
    pattern packed(n = 40) { space tokens[n] input document: int[tokens] attend same(document) }
    pattern sinks_too(n = 40, count = 2) { space tokens[n] attend sinks(count) require causal }
    pattern longer(n = 64) { space tokens[n] attend causal }
    pattern image(h = 5, w = 8) { space image[y = h, x = w] attend window((3, 3)) }
    pattern biased(n = 40) { space tokens[n] attend causal score s - (q - k) }
    pattern capped(n = 40) { space tokens[n] attend causal score 5 * tanh(s / 5) order by i % 4 }
    pattern by_table(n = 40) { space tokens[n] input document: bool[tokens] attend k.document order by i // 4 }
    """
)


def written_again(pattern):
    """The pattern that its text says."""
    (name,) = module = maskdsl.parse(pattern.text)
    return module[name]


@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
@settings(max_examples=examples(16), deadline=None)
@given(st.data())
def test_random_relations(data):
    spaces = data.draw(st.sampled_from(SPACES))
    declared = " ".join(
        f"space {name}[{', '.join(f'{axis} = {length}' for axis, length in axes.items())}]"
        if [*axes] != [name]
        else f"space {name}[{axes[name]}]"
        for name, axes in spaces.items()
    )
    declared += f" tokens {' ++ '.join(spaces)}" if len(spaces) > 1 else ""
    masks = []
    for name in "ab":
        relation = data.draw(relations(spaces, heads=2), label=name)
        required = f" require {data.draw(relations(spaces, heads=2))}" if data.draw(st.booleans()) else ""
        text = f"pattern {name}() {{ {declared} attend {relation}{required} }}"
        masks.append(maskdsl.parse(text)[name].bind(heads=2))
    one, other = masks
    for head in range(2):
        left, right = (mask.dense(head) for mask in masks)
        np.testing.assert_array_equal((one & other).dense(head), left & right)
        np.testing.assert_array_equal((one | other).dense(head), left | right)
        np.testing.assert_array_equal((~one).dense(head), ~left)
    both = written_again((one & ~other).pattern).bind(heads=2)
    np.testing.assert_array_equal(both.dense(1), one.dense(1) & ~other.dense(1))


@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
@settings(max_examples=examples(16), deadline=None)
@given(patterns(), st.data())
def test_whole_patterns(random, data):
    """With all that the language has: inputs, tables, coordinates, macros, scores, orders."""
    mask = random.bind()
    again = written_again(mask.pattern).bind(heads=mask.ir.whole or mask.heads)
    assert again.ir == mask.ir
    given = data.draw(inputs_for(mask.ir))
    try:
        whole = mask.dense(**given)
    except maskdsl.AttnError:  # these values lead outside a table
        return
    for composed, expected in ((mask & mask, whole), (mask | mask, whole), (~mask, ~whole), (~mask & mask, whole & 0)):
        np.testing.assert_array_equal(composed.dense(**given), expected)


def test_a_pattern_that_can_be_kept():
    both = MODULE["local"] & MODULE["packed"]
    assert both.name == "local_and_packed" and both.parameters == {"n": "40", "size": "5"}
    assert both.text == (
        "def twice(size) = near(2 * size)\n\ndef near(size) = abs(q - k) < size\n\n"
        "## What `local` and `packed` both attend.\n"
        "pattern local_and_packed(n = 40, size = 5) {\n    space tokens[n]\n    let reach = size + 1\n"
        "    input document: int[tokens]\n    attend causal and twice(reach)\n    require same(document)\n}\n"
    )
    document = np.arange(30) // 7
    found = written_again(both).bind(n=30, size=3).dense(document=document)
    expected = MODULE["local"].bind(n=30, size=3).dense() & (document[:, None] == document)
    np.testing.assert_array_equal(found, expected)
    either = MODULE["local"] | MODULE["sinks_too"]
    assert "attend causal and twice(reach)\n    attend sinks(count) and causal\n" in either.text
    assert "attend not (sinks(count) and causal)" in (~MODULE["sinks_too"]).text
    assert MODULE["local"].text.splitlines()[4] == "## The last tokens."


def test_masks_have_the_values_of_both():
    """Defaults of their patterns do not matter, nor the files that these come from."""
    other = maskdsl.parse("pattern far(n = 9, gap = 1) { space tokens[n] attend q - k >= gap }")["far"]
    composed = MODULE["local"].bind(n=50, size=2, heads=3) | other.bind(n=50, gap=20, heads=3)
    assert isinstance(composed, Mask) and composed.heads == 3
    assert dict(composed.ir.parameters) == {"n": 50, "size": 2, "gap": 20}
    assert written_again(composed.pattern).bind(heads=3).ir == composed.ir
    q, k, v = torch.randn(3, 1, 3, 50, 8)
    seen = torch.tensor(composed.dense())
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(composed.compile()(q, k, v), expected)


def test_scores_and_orders_of_one():
    scored = MODULE["biased"] & MODULE["packed"]
    assert "score s - (q - k)" in scored.text and scored.bind().ir.scores == MODULE["biased"].bind().ir.scores
    assert "order by i % 4" in (MODULE["packed"] & MODULE["capped"]).text
    assert "score" in (~MODULE["biased"]).text


def test_allowed_warnings_stay_allowed(recwarn):
    text = "pattern {}(n = 4, m = 4) {{ space a[n] space b[m] queries a keys b attend {} # allow: W001\n }}"
    one, other = (maskdsl.parse(text.format(*each))[each[0]] for each in (("p", "causal"), ("r", "q - k < 2")))
    (one & other).bind()
    (one.bind() | other.bind()).compile()
    assert not [each for each in recwarn if issubclass(each.category, maskdsl.AttnWarning)]


CLASHES = {
    "tokens": (lambda: MODULE["local"] & MODULE["image"], "E445"),
    "lengths": (lambda: MODULE["local"] & MODULE["longer"], "E446.*`n`"),
    "inputs": (lambda: MODULE["packed"] | MODULE["by_table"], "E446.*`document`"),
    "scores of both": (lambda: MODULE["biased"] & MODULE["capped"], "E447"),
    "scores of a union": (lambda: MODULE["biased"] | MODULE["packed"], "E447"),
    "orders": (lambda: MODULE["capped"] & MODULE["by_table"], "E448"),
    "values": (lambda: MODULE["local"].bind(size=3) | MODULE["local"].bind(size=4), "E449.*`size` is 3.*4"),
    "heads": (lambda: MODULE["local"].bind(heads=2) | MODULE["packed"].bind(), "E449.*heads are 2.*1"),
    "a number": (lambda: MODULE["local"] & 3, "E495.*`int`"),
    "a mask and a pattern": (lambda: MODULE["local"].bind() | MODULE["packed"], "E495.*`Pattern`"),
    "nothing": (lambda: ~maskdsl.parse("pattern p() { space a[3] }")["p"], "E224"),
}


@pytest.mark.parametrize("name", CLASHES)
def test_what_cannot_be_composed(name):
    compose, message = CLASHES[name]
    with pytest.raises(maskdsl.AttnError, match=message):
        compose()


def test_a_name_that_the_other_pattern_means_otherwise():
    """A macro, of the file or of the standard library, that the other pattern has a parameter for."""
    text = "def own(n) = q < n pattern p(n = 9) { space tokens[n] attend own(4) and causal }"
    one = maskdsl.parse(text)["p"]
    for name in ("own", "causal"):
        other = maskdsl.parse(f"pattern r(n = 9, {name} = 3) {{ space tokens[n] attend k < {name} }}")["r"]
        with pytest.raises(maskdsl.AttnError, match=f"E446.*`{name}`"):
            one & other
    again = maskdsl.parse(text.replace("q < n", "q <= n"))["p"]
    with pytest.raises(maskdsl.AttnError, match=r"E446.*`own`"):
        one | again
