"""Formulas of what patterns cost: known ones, and all of them against counting every pair at other settings."""

import pytest
import sympy

import maskdsl
from maskdsl.analysis.counts.growth import growth

WINDOW = "pattern p(n = 4096, size = 512) { space tokens[n]  attend backward(size) }"
STRIDED = "pattern p(n = 4096, stride = 64) { space tokens[n]  attend strided(stride) }"
POWERS = "pattern p(n = 4096) { space tokens[n]  attend causal and powers() or q == k }"
GRID = "pattern p(h = 56, w = 56, size = 7) { space image[y = h, x = w]  attend neighborhood((size, size)) }"
CROSS = "pattern p(a = 64, b = 256) { space one[a]  space two[b]  queries one  keys two  attend q + k >= 3 }"
POOLED = """
pattern p(n = 4096, c = 16) {
    space tokens[n]
    space means = mean(tokens, c)
    queries tokens
    keys means
    attend c * k + c <= q
}
"""
HEADS = "pattern p(n = 1024) { space tokens[n]  attend backward(4 * (head + 1)) }"


def found(text, heads=1, **parameters):
    mask = maskdsl.parse(text)["p"].bind(heads=heads, **parameters)
    return growth(mask.pattern.program, mask.ir)


@pytest.mark.parametrize(
    "text, pairs, order",
    [
        (WINDOW, "n*size - size*(size - 1)/2", "n*size"),
        (STRIDED, "n**2/(2*stride) + n*stride - n/2 - stride**2/2 + stride/2", "n**2/stride"),
        (POWERS, "n*log2(n) + 1", "n*log2(n)"),
        (GRID, "h*w*size**2", "h*size**2*w"),
    ],
)
def test_known_formulas(text, pairs, order):
    result = found(text)
    names = {str(each): each for each in result.pairs.free_symbols} | {"log2": sympy.Function("log2")}
    assert sympy.expand(result.pairs - sympy.sympify(pairs, locals=names)) == 0
    assert result.order == sympy.sympify(order, locals=names)


@pytest.mark.parametrize(
    "text, settings",
    [
        (WINDOW, {"n": 173, "size": 30}),
        (STRIDED, {"n": 24 * 7, "stride": 12}),
        (POWERS, {"n": 256}),
        (GRID, {"h": 21, "w": 17, "size": 5}),
        (CROSS, {"a": 37, "b": 91}),
        (POOLED, {"n": 24 * 9, "c": 8}),
    ],
)
def test_formulas_hold_where_nothing_was_counted(text, settings):
    result = found(text)
    dense = maskdsl.parse(text)["p"].bind(**settings).dense()
    values = {each: settings[str(each)] for each in result.pairs.free_symbols | result.queries.free_symbols}
    values |= {each: settings[str(each)] for each in result.keys.free_symbols}
    logarithm = sympy.Function("log2")
    for formula, count in (
        (result.queries, dense.shape[-2]),
        (result.keys, dense.shape[-1]),
        (result.pairs, int(dense.sum())),
    ):
        assert formula.subs(values).replace(logarithm, lambda x: sympy.log(x, 2)) == count
    assert sympy.cancel(result.density * result.queries * result.keys - result.pairs) == 0


def test_heads_that_differ_are_counted_together():
    result = found(HEADS, heads=3)
    assert result.heads == 3
    assert str(sympy.expand(result.pairs)) == "24*n - 100"
    assert sympy.expand(result.keys_per_query * 3 * result.queries - result.pairs) == 0


def test_what_has_no_formula():
    assert found("pattern p(n = 64) { space tokens[n]  input document: int[tokens]  attend same(document) }") is None


@pytest.mark.long
def test_random_pairs_have_no_formula():
    assert found("pattern p(n = 64) { space tokens[n]  attend random(7, q, k) % 3 == 0 }") is None


def test_the_settings_it_was_asked_for_count():
    """A window wider than the text is no window: the formula of large n is not told of it."""
    result = found(WINDOW, n=64, size=512)
    assert (
        result is None
        or result.pairs.subs({each: 64 if str(each) == "n" else 512 for each in result.pairs.free_symbols})
        == 64 * 65 // 2
    )
