"""`order auto`: found when a pattern is bound, by what is known then, and without a change of any result."""

from time import process_time

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import maskdsl
from maskdsl.analysis.orders.layouts import layout_text, written_layout
from maskdsl.ir.meaning.evaluate import attention as meaning
from maskdsl.testing import patterns
from tests.support.drawn import examples

IMAGE = """
pattern image(h = 40, w = 72, kernel = 21) {
    space image[y = h, x = w]
    attend neighborhood((kernel, kernel))
    order auto
}
"""
PACKED = """
pattern packed(h = 40, w = 72, kernel = 21) {
    space image[y = h, x = w]
    input document: int[tokens]
    input kept: bool[tokens, tokens]
    attend neighborhood((kernel, kernel)) and same(document) and not (kept[q, k] and q != k)
    order auto
}
"""
DOCUMENTS = """
pattern documents(n = 640) {
    space tokens[n]
    input document: int[tokens]
    attend same(document)
    order auto
}
"""
SPACES = """
pattern spaces(n = 128, h = 128, w = 128) {
    space text[n]
    space image[y = h, x = w]
    tokens text ++ image
    attend text -> all
    attend all -> text
    attend image -> image where neighborhood((33, 33))
    %s
}
"""


def bind(text, **parameters):
    module = maskdsl.parse(text)
    return module[next(iter(module))].bind(**parameters)


def order(mask):
    """Keys of each space, as text."""
    return layout_text(mask.ir, written_layout(mask.ir))


def test_it_is_the_best_order():
    mask = bind(IMAGE)
    assert mask.ir.auto == ()
    assert order(mask) == mask.best_order().order != "declared"
    assert mask == bind(IMAGE)
    assert bind(IMAGE, kernel=81, h=33).ir.queries.order == ()


def test_as_an_argument():
    mask = bind(IMAGE)
    assert mask.with_order("declared").with_order("auto").ir == mask.ir
    assert mask.with_order("image auto").ir == mask.ir


def test_inputs_are_left_out():
    """Conditions that read inputs are taken to hold; documents may come in any order."""
    assert order(bind(PACKED)) == order(bind(IMAGE))
    assert order(bind(DOCUMENTS)) == "declared"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("order auto", "image by y // 8, x // 16"),
        ("order image auto", "image by y // 8, x // 16"),
        ("order text auto", "declared"),
        ("order image by x\n    order text auto", "image by x"),
        ("order auto\n    order image by x", "image by x"),
        ("order auto\n    order text by shuffle(i, 3)", "text by shuffle(i, 3); image by y // 8, x // 16"),
    ],
)
def test_each_space_has_its_own(lines, text):
    assert order(bind(SPACES % lines)) == text


def test_stacks_and_lengths_that_follow():
    text = IMAGE + "stack two(h) = image(h) + image(h, kernel = 9)"
    bound = maskdsl.parse(text).stack("two").bind(h=40)
    assert [mask.ir.auto for mask in bound.layers] == [(), ()]
    assert order(bound.layers[0]) == order(bind(IMAGE))
    assert bound.ir.different[0] == bound.layers[0].ir


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_results_are_the_same(backend):
    mask = bind(PACKED, heads=2)
    random = np.random.default_rng(7)
    length = mask.query_length
    q, k, v = random.normal(size=(3, 1, 2, length, 8))
    inputs = {
        "document": random.integers(0, 3, length).astype(np.int32),
        "kept": random.random((length, length)) < 0.1,
    }
    expected, _ = meaning(mask.with_order("declared").ir, q, k, v, inputs)
    tensors = [torch.from_numpy(each) for each in (q, k, v)]
    found = mask.compile(backend)(*tensors, **{name: torch.from_numpy(value) for name, value in inputs.items()})
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=examples(40))
@given(patterns(tokens=300))
def test_any_pattern_may_say_it(pattern):
    """No more tiles than as declared, as far as this can be known without inputs."""
    mask = pattern.bind(order="auto")
    declared = pattern.bind(order="declared")
    assert mask.ir.relation == declared.ir.relation
    if not mask.inputs:
        assert sum(block_pairs(mask)) <= sum(block_pairs(declared))


def block_pairs(mask):
    tiles = mask.tiles()
    return [tiles.full_count(head) + tiles.partial_count(head) for head in range(mask.heads)]


@pytest.mark.parametrize("length", ["h = 1024, w = 1024", "h = 2, w = 2 ** 19"])
def test_a_million_tokens_take_moments(length):
    """In processor time, which others' work lengthens little; see what a bind without `order auto` takes."""
    text = IMAGE.replace("h = 40, w = 72", length)
    start = process_time()
    mask = bind(text, heads=2)
    assert process_time() - start < 4
    assert mask.query_length == 1 << 20


def test_masks_that_are_equal_are_searched_once(monkeypatch):
    bind(IMAGE, h=41)
    monkeypatch.setattr("maskdsl.analysis.orders.auto.OrderSearch", None)
    assert order(bind(IMAGE, h=41)) != "declared"


def test_sequences_too_long_to_analyse_stay_as_they_are():
    assert order(bind(IMAGE, h=2**14, w=2**14)) == "declared"
