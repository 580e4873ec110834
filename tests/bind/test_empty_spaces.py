"""A space without tokens: lines about it say nothing, and the rest means what it means without them."""

import pytest
import torch

import maskdsl

GUIDED = """pattern guided(words = 0, h = 4, w = 4, tile = 2) {
    space text[words]
    space image[y = h, x = w]
    space coarse = mean(text, 2)
    tokens text ++ image
    input depth: float[text]
    coord text.row = -1 - i
    coord image.row = y
    attend text -> all
    attend all -> text where q.row > k.text
    attend image -> image where blocks((tile, tile))
    score s + (q.depth if text -> image else 0.5 * len(text))
    order text by text % 2
    order image by hilbert(y, x)
}"""
PLAIN = """pattern guided(h = 4, w = 4, tile = 2) {
    space image[y = h, x = w]
    attend blocks((tile, tile))
    order image by hilbert(y, x)
}"""


def without_pool(text: str) -> str:
    return text.replace("    space coarse = mean(text, 2)\n", "")


def test_lines_about_an_empty_space_say_nothing() -> None:
    empty, plain = (maskdsl.parse(each)["guided"].bind(heads=2) for each in (without_pool(GUIDED), PLAIN))
    assert (empty.ir.queries.spaces, empty.ir.relation) == (plain.ir.queries.spaces, plain.ir.relation)
    assert empty.stats().total.attended == plain.stats().total.attended
    q, k, v = torch.randn(3, 1, 2, 16, 8).unbind()
    for given in ({}, {"depth": torch.empty(0)}):
        torch.testing.assert_close(empty.compile()(q, k, v, **given), plain.compile()(q, k, v))
    assert maskdsl.parse(without_pool(GUIDED))["guided"].bind(words=3).query_length == 19


def test_lengths_that_follow_tensors_leave_out_inputs_of_empty_spaces() -> None:
    text = """pattern p(n, words = 0) { space text[words] space image[n] tokens text ++ image  input depth: float[text]
    attend all -> image  score s + (q.depth if text -> image else 0.0) }"""
    attention = maskdsl.parse(text)["p"].compile(follow="n")
    q, k, v = torch.randn(3, 1, 1, 7, 8).unbind()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    for given in ({}, {"depth": torch.empty(0)}):
        torch.testing.assert_close(attention(q, k, v, **given), expected)


def test_pools_of_an_empty_space_are_empty() -> None:
    text = """pattern p(words = 0) { space text[words] space image[9] space coarse = mean(text, 2)
    queries image keys image ++ coarse  attend all -> image  attend all -> coarse where k.coarse < 3 }"""
    assert maskdsl.parse(text)["p"].bind().key_length == 9
    assert maskdsl.parse(text)["p"].bind(words=5).key_length == 12


def test_a_pattern_whose_lines_all_say_nothing_gives_zeros() -> None:
    text = "pattern p(n = 0) { space words[n] space image[9] tokens words ++ image  attend image -> words }"
    out = maskdsl.parse(text)["p"].bind().compile()(*torch.randn(3, 1, 1, 9, 8))
    assert not out.any()


@pytest.mark.parametrize("words", [-1, -9])
def test_negative_lengths_are_errors(words: int) -> None:
    with pytest.raises(maskdsl.AttnError, match="length of an axis"):
        maskdsl.parse(without_pool(GUIDED))["guided"].bind(words=words)
