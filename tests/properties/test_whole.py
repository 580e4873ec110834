"""Random patterns that only whole calls take: text, tiles and numbers of both torch backends against the meaning."""

import random
import re
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl import parse
from maskdsl.api.verify import Case, problem
from maskdsl.base.source import Source
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import parse as syntax_tree
from maskdsl.testing import inputs_for, patterns, tensors_for
from tests.support.drawn import examples
from tests.support.properties import sample, tile_classes

WORDS = {
    "pooled queries": r"queries [^\n]*coarse",
    "pools by a coordinate": r"= (mean|max|min)\(\w+ by of_",
    "pools by an input": r"input of_\w+: int\[",
    "draws": r"route some = draw\(",
    "a draw that is read": r"(attend|require)[^\n]*\bsome\b",
    "products with a table": r"score [^\n]*dot\([^\n]*rows\[",
    "products of vectors of tokens": r"score [^\n]*[qk]\.added",
    "pools in scores": r"(mean|max|sum|root)\([qk] by cube",
    "values": r"value [^\n]*\bv\b",
    "no softmax": r"normalize none",
    "softmaxes by key": r"normalize softmax by k",
    "sinks": r"\n +sink ",
    "sparse inputs": r": sparse\[",
    "the head dimension": r"sqrt\(dim\)",
    "key heads": r"\bkey_heads?\b",
}


def test_every_word_is_drawn() -> None:
    """How often each is among 200 patterns; with branches as well."""
    texts = [sample(patterns(tokens=30, whole=True, branches=number % 3 == 0), number).text for number in range(200)]
    counts = {name: sum(bool(re.search(form, text)) for text in texts) for name, form in WORDS.items()}
    assert {name: count for name, count in counts.items() if count < 3} == {}, counts


@settings(max_examples=examples(60), deadline=None)
@given(patterns(whole=True, tokens=30))
def test_text_survives_the_formatter(pattern) -> None:
    """The tree, and so the mask but for products that are named as they are written."""
    formatted = format_file(syntax_tree(Source("<drawn>", pattern.text)))
    assert syntax_tree(Source("<formatted>", formatted)) == syntax_tree(Source("<drawn>", pattern.text)), formatted
    assert format_file(syntax_tree(Source("<again>", formatted))) == formatted
    assert replace(pattern, text=formatted).bind().ir.heads == pattern.heads


@settings(max_examples=examples(50), deadline=None)
@given(st.data(), patterns(whole=True, tokens=20, branches=False) | patterns(whole=True, tokens=16, branches=True))
def test_tiles_are_exact(data, pattern) -> None:
    mask = pattern.bind()
    inputs = data.draw(inputs_for(mask.ir, 1))
    tensors = dict(zip("qk", data.draw(tensors_for(mask.ir, 1, key_heads=pattern.key_heads))[:2], strict=True))
    inputs |= tensors if mask.ir.routed else {}
    block = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    found = pattern.bind(order="declared").tiles(block, **inputs)
    for head in range(mask.heads):
        np.testing.assert_array_equal(found.classes(head), tile_classes(mask.dense(head=head, **inputs), block))


@settings(max_examples=examples(40), deadline=None)
@given(patterns(whole=True, tokens=16, depth=1), st.integers(0, 99))
def test_backends_are_what_the_meaning_says(pattern, seed) -> None:
    """Output, log-sum-exp and gradients, by `maskdsl verify`."""
    block = random.Random(seed).randint(1, 30), random.Random(seed + 1).randint(1, 30)
    heads = pattern.heads, pattern.key_heads or pattern.heads
    case = Case({}, *heads, batch=1 + seed % 2, dim=4, block=block, seed=seed)
    assert problem(parse(pattern.text)["random_pattern"], case, ("tiled", "reference")) is None
