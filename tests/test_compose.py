"""Patterns and masks composed by `&`, `|` and `~`, against the dense meaning of each operand."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
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
    there = (mask | ~mask).dense(**given)  # nobody attends a pool without tokens, and it attends nobody
    assert there.all() or any(each.groupings for each in mask.ir.pooled_spaces)
    others = there & ~whole
    for composed, expected in ((mask & mask, whole), (mask | mask, whole), (~mask, others), (~mask & mask, whole & 0)):
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


CAPTURES = {
    "a coordinate and a parameter": (
        "pattern p(n = 16) { space tokens[n] coord size = i % 3 + 1 attend same(size) }",
        "pattern r(n = 16, size = 4) { space tokens[n] coord tile = i // size attend same(tile) }",
    ),
    "a coordinate of a space and a parameter": (
        "pattern p(h = 4) { space image[y = h, x = 4] coord image.size = x % 3 + 1 attend same(size) }",
        "pattern r(h = 4, size = 2) { space image[y = h, x = 4] coord tile = y // size attend same(tile) }",
    ),
    "a `let` and a parameter": (
        "pattern p(n = 16) { space tokens[n] let size = 5 attend q - k < size }",
        "pattern r(n = 16, size = 3) { space tokens[n] attend k - q < size }",
    ),
    "an input and a parameter": (
        "pattern p(n = 16) { space tokens[n] input size: int[tokens] attend same(size) }",
        "pattern r(n = 16, size = 3) { space tokens[n] coord tile = i // size attend same(tile) }",
    ),
    "a macro and a parameter": (
        "def size() = 5 pattern p(n = 16) { space tokens[n] attend q - k < size }",
        "pattern r(n = 16, size = 3) { space tokens[n] attend k - q < size }",
    ),
    "a sort key and a parameter": (
        "pattern p(n = 16) { space tokens[n] coord size = i % 3 + 1 attend same(size) }",
        "pattern r(n = 16, size = 4) { space tokens[n] attend k < size order by i // size }",
    ),
    "coordinates of a space and of all": (
        "pattern p(n = 16) { space tokens[n] coord size = i % 3 attend same(size) }",
        "pattern r(n = 16) { space tokens[n] coord tokens.size = i % 3 attend same(size) }",
    ),
    "an axis and a `let`": (
        "pattern p(h = 4) { space image[y = h, x = 4] coord size = y attend same(size) }",
        "pattern r(h = 4) { space image[y = h, x = 4] let size = 4 let y = 3 attend q.x < y }",
    ),
    "a coordinate and a variable": (
        "pattern p(n = 16) { space tokens[n] coord size = i % 3 attend same(size) }",
        "pattern r(n = 16) { space tokens[n] coord tile = i // sum(size for size in 1 .. 4) attend same(tile) }",
    ),
    "an integer and a float": (
        "pattern p(n = 16, size = 4) { space tokens[n] attend (q - k) % size == 0 }",
        "pattern r(n = 16, size = 4.0) { space tokens[n] attend q - k < size }",
    ),
    "a name that means two things": (
        "pattern p(n = 16, size = 2) { space tokens[n] coord tile = i // size coord size = i % 3 attend same(tile) }",
        "pattern r(n = 16, size = 2) { space tokens[n] coord size = i % 3 coord part = size attend same(part) }",
    ),
}


@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
@pytest.mark.parametrize("case", CAPTURES)
def test_a_name_never_captures_that_of_the_other(case):
    """Whether the values are bound or not, in either order; both places are shown."""
    one, other = (maskdsl.parse(text)[name] for text, name in zip(CAPTURES[case], "pr", strict=True))
    for first, second in ((one, other), (other, one), (one.bind(), other.bind()), (other.bind(), one.bind())):
        for compose in (lambda: first & second, lambda: first | second):  # noqa: B023
            with pytest.raises(maskdsl.AttnError, match=r"E446.*`(size|y)`") as caught:
                compose()
            assert f"in `{first.name}`" in str(caught.value) and f"in `{second.name}`" in str(caught.value)
            assert "<composed>" not in str(caught.value)


def test_names_that_mean_the_same():
    """In lines of another order, in a pattern that reads one name in two ways, and in variables of quantifiers."""
    texts = (
        "pattern {}(n = 3) {{ space a[n] space b[n] tokens a ++ b coord a.t = i coord b.t = i + 1 attend same(t) }}",
        "pattern {}(n = 3) {{ space a[n] space b[n] tokens a ++ b coord b.t = i + 1 coord a.t = i attend q.t < k.t }}",
    )
    one, other = (maskdsl.parse(text.format(name))[name].bind() for text, name in zip(texts, "pr", strict=True))
    np.testing.assert_array_equal((one | other).dense(), one.dense() | other.dense())
    twice = maskdsl.parse(CAPTURES["a name that means two things"][0])["p"].bind()
    np.testing.assert_array_equal((twice | ~twice).dense(), np.ones((16, 16), bool))
    text = "pattern {}(n = 9) {{ space a[n] attend any(q - k == {} * j for j in 0 .. {}) }}"
    one, other = (maskdsl.parse(text.format(*each))[each[0]].bind() for each in (("p", 2, 3), ("r", 3, 2)))
    np.testing.assert_array_equal((one | other).dense(), one.dense() | other.dense())


NAMES = ("size", "tile", "j", "y", "h", "causal")


@st.composite
def colliding(draw, name):
    """The text of a pattern whose names are of a small pool; it may be wrong."""
    macros, parameters, lines, relations = [], ["h = 4"], [], []
    read = st.sampled_from(["h"])
    for _ in range(draw(st.integers(1, 3))):
        new, number, old = draw(st.sampled_from(NAMES)), draw(st.integers(1, 3)), draw(read)
        kind = draw(st.sampled_from(["parameter", "let", "coord", "image.", "input", "macro", "variable"]))
        value = f"q.x + {number} * k.y < {new}"
        match kind:
            case "parameter":
                parameters.append(f"{new} = {number}")
            case "let":
                lines.append(f"let {new} = {old} + {number}")
            case "coord" | "image.":
                space = "image." if kind == "image." else ""
                lines.append(f"coord {space}{new} = (x + {number} * y) // max({old}, 1)")
                value = f"same({new})"
            case "input":
                lines.append(f"input {new}: int[image]")
                value = f"q.{new} <= k.{new}"
            case "macro":
                macros.append(f"def {new}() = {number}")
            case "variable":
                lines.append(f"coord {name}c{len(lines)} = x // max(sum({new} for {new} in 0 .. {number}), 1)")
                value = f"same({name}c{len(lines) - 1})"
        relations.append(value)
        read |= st.just(new)
    lines.append(f"attend {draw(st.sampled_from([' and ', ' or '])).join(relations)}")
    if draw(st.booleans()):
        lines.append(f"require q.y // max({draw(read)}, 1) <= k.x")
    if draw(st.booleans()):
        lines.append(f"order by x // max({draw(read)}, 1)")
    space = "space image[y = h, x = 3]"
    return f"{' '.join(macros)} pattern {name}({', '.join(parameters)}) {{ {space} {' '.join(lines)} }}"


def dense(mask, values):
    """The dense mask with the inputs that it declares."""
    return mask.dense(**{each.name: values[each.name] for each in mask.inputs})


@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
@settings(max_examples=examples(16), deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_colliding_names(data):
    """Two patterns of a few names are refused, or composed as they are, bound before or after, in either order."""
    operands = []
    for name in "pr":
        text = data.draw(colliding(name), label=name)
        try:
            pattern = maskdsl.parse(text)[name]
            operands.append((pattern, pattern.bind()))
        except maskdsl.AttnError:
            reject()
    generator = np.random.default_rng(0)
    values = {name: generator.integers(0, 3, 12) for name in NAMES}
    whole = [dense(mask, values) for _, mask in operands]
    for first, second in itertools.product(*([operands] * 2)):
        for number in range(2):
            try:
                both, either = first[number] & second[number], first[number] | second[number]
            except maskdsl.AttnError as error:
                assert {each.code for each in error.diagnostics} <= {"E446", "E448", "E449"}
                assert first is not second
                continue
            masks = [each if number else each.bind() for each in (both, either)]
            left, right = (whole[operands.index(each)] for each in (first, second))
            np.testing.assert_array_equal(dense(masks[0], values), left & right)
            np.testing.assert_array_equal(dense(masks[1], values), left | right)


def test_soft_caps() -> None:
    """A last line, also behind other scores and in every branch; of a mask with its values."""
    text = "pattern p(n, slope = 0.5) { space t[n] attend causal score s - slope * (q - k) }"
    pattern = maskdsl.parse(text)["p"]
    capped = maskdsl.parse(text.replace("(q - k) }", "(q - k) score 3 * tanh(s / 3) }"))["p"]
    q, k, v = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = capped.bind(n=9, slope=0.25).compile()(q, k, v)
    found = [pattern.soft_capped(3).bind(n=9, slope=0.25), pattern.bind(n=9, slope=0.25).soft_capped(3.0)]
    for mask in found:
        torch.testing.assert_close(mask.compile()(q, k, v), expected, rtol=0, atol=0)
    with pytest.raises(maskdsl.AttnError, match=r"E460[\s\S]*above 0"):
        pattern.soft_capped(0)


def test_scales() -> None:
    """A last line that holds in every branch; of a mask with its values; a pattern has one scale."""
    text = "pattern p(n) { space t[n] branch a { attend causal weight 0.5 } branch b { attend q - k < 3 } }"
    pattern = maskdsl.parse(text)["p"]
    q, k, v = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = pattern.bind(n=9).compile()(q * 8**0.5 * 0.25, k, v)
    for mask in (pattern.scaled(0.25).bind(n=9), pattern.bind(n=9).scaled(0.25)):
        torch.testing.assert_close(mask.compile()(q, k, v), expected)
    with pytest.raises(maskdsl.AttnError, match=r"E460[\s\S]*above 0"):
        pattern.scaled(0)
    with pytest.raises(maskdsl.AttnError, match="scale"):
        pattern.scaled(0.25).scaled(1).bind(n=9)
