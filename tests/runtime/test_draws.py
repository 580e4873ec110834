"""Groups that are drawn at random: the permutation of the page, what costs little, and what calls see."""

import time
from collections import Counter

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.scoring.draw_meaning import drawn
from maskdsl.ir.values.drawing import permuted, positions_of
from maskdsl.ir.values.entries import EntryList

TEXT = """
pattern bigbird(n = 96, block = 8, draws = 3, seed = 0) {
    space tokens[n]
    coord b = tokens // block
    let last = len(b) - 1
    route drawn = draw(draws, seed, head) where abs(q.b - k.b) > 1 and 0 < k.b < last and 0 < q.b < last
    attend abs(q.b - k.b) <= 1
    attend q.b == 0 or q.b == last or k.b == 0 or k.b == last
    attend drawn
}
pattern earlier(n = 60) {
    space t[n]
    route drawn = draw(head + 2, -7) where k < q
    attend q == k or drawn
}
pattern near(n = 500) {
    space t[n]
    route drawn = draw(2, 7, 5) where abs(q - k) <= 4 and q != k
    attend q == k or drawn
}
pattern two_kinds(n = 40) {
    space text[9]
    space image[y = n // 8, x = 8]
    tokens text ++ image
    route drawn = draw(2, 3) where q.text != k.y
    attend q == k
    attend text -> image where drawn
}
pattern spread(n = 64) {
    space t[n]
    coord c = t % 5 * 2
    route all_of_them = draw(9, 3) where k.c >= 0 and q.c >= 0
    route none = draw(0, 3)
    attend (all_of_them or none) and q.c != k.c
}
"""
MODULE = maskdsl.parse(TEXT)
HEADS = {"bigbird": 4, "earlier": 3, "near": 1, "two_kinds": 1, "spread": 1}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 100])
def test_a_permutation_for_each_word(count: int) -> None:
    words, positions = np.arange(5)[:, None] * 12345, np.arange(count)
    places = permuted(positions, words, count)
    assert (np.sort(places, axis=1) == positions).all()
    assert (positions_of(places, words, count) == positions).all()
    if count > 10:
        assert len({tuple(each) for each in places.tolist()}) == 5


@pytest.mark.parametrize("name", HEADS)
def test_what_is_found_fast_is_the_meaning(name: str) -> None:
    mask = MODULE[name].bind(heads=HEADS[name]).ir
    for draw in mask.routed:
        assert draw.lists is not None
        np.testing.assert_array_equal(draw.lists.array, drawn(mask, draw))


def test_draws_of_bigbird() -> None:
    """Three other blocks for each block between the first and the last, and others in each head and for each seed."""
    found = []
    for seed in (0, 1):
        mask = MODULE["bigbird"].bind(heads=4, seed=seed)
        for head in range(4):
            blocks = mask.dense(head=head)[::8, ::8]
            selected = [set(np.flatnonzero(row).tolist()) for row in blocks]
            for number, row in enumerate(selected[1:-1], start=1):
                fixed = {0, 11, number - 1, number, number + 1}
                assert fixed <= row and len(row - fixed) == 3, (head, number)
            found.append(str(selected))
    assert len(set(found)) == len(found)


def test_draws_are_spread_evenly() -> None:
    mask = MODULE["earlier"].bind(n=400, heads=1).ir
    entries = EntryList.of(mask.routed[0].lists.array)
    last = entries.columns[entries.starts[200] :]
    counts = np.array([Counter((last // 25).tolist())[each] for each in range(8)])  # of keys that all of these may draw
    expected = sum(2 * 25 / row for row in range(200, 400))
    assert (abs(counts - expected) < 5 * expected**0.5).all(), (counts, expected)


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", ["bigbird", "earlier"])
def test_calls(name: str, backend: str) -> None:
    """Against dense attention; a call with some of the tokens, and packed sequences, see the same draws."""
    torch.manual_seed(0)
    heads = HEADS[name]
    mask = MODULE[name].bind(heads=heads)
    n = mask.query_length
    leaves = [torch.randn(2, heads, n, 4, dtype=torch.float64).requires_grad_() for _ in "qkv"]
    q, k, v = leaves
    attends = torch.stack([torch.tensor(mask.dense(head=head)) for head in range(heads)])
    expected = (q @ k.mT / 2).masked_fill(~attends, -torch.inf).softmax(-1) @ v
    attention = mask.compile(backend)
    found = attention(q, k, v)
    torch.testing.assert_close(found, expected)
    toward = torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad(x, leaves, toward) for x in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        part = attention(q[:, :, 20:25], k, v, query_start=20)
        torch.testing.assert_close(part, expected[:, :, 20:25])
        ends = torch.arange(3) * n
        packed = attention.varlen(*(x.transpose(1, 2).flatten(0, 1) for x in leaves), ends)
        torch.testing.assert_close(packed.unflatten(0, (2, n)).transpose(1, 2), expected)
        torch.testing.assert_close(MODULE[name].compile(heads=heads)(q, k, v), expected)


def test_some_heads_draw_as_in_the_whole() -> None:
    whole, part = (MODULE["bigbird"].bind(heads=4, **here) for here in ({}, {"first_head": 2, "local_heads": 2}))
    for head in range(2):
        np.testing.assert_array_equal(part.dense(head=head), whole.dense(head=head + 2))


def test_tiles_and_counts_need_nothing() -> None:
    for name, heads in HEADS.items():
        mask = MODULE[name].bind(heads=heads)
        dense = np.stack([mask.dense(head=head) for head in range(heads)])
        assert mask.stats().total.attended == dense.sum()
        for head in range(heads):
            found = mask.tiles((7, 5)).classes(head)
            rows, columns = (range(0, length, size) for length, size in zip(dense[head].shape, (7, 5), strict=True))
            parts = [[dense[head][r : r + 7, c : c + 5] for c in columns] for r in rows]
            expected = [[2 if part.all() else int(part.any()) for part in row] for row in parts]
            np.testing.assert_array_equal(found, expected)


def test_costs_what_is_drawn() -> None:
    """Half a million tokens in blocks, and a window in which each of many queries has few candidates."""
    began = time.process_time()
    MODULE["bigbird"].bind(n=2**19, block=64)
    MODULE["near"].bind(n=2**14)
    assert time.process_time() - began < 10


def test_explanations_say_what_was_drawn() -> None:
    mask = MODULE["bigbird"].bind(heads=1)
    drawn = next(k for k in range(96) if mask.dense()[40, k] and k // 8 not in (0, 4, 5, 6, 11))
    text = str(mask.explain(40, drawn))
    assert "drawn: group 5 of `b` selected groups" in text and f"the key is in group {drawn // 8}" in text, text


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_draws_know_tokens_in_laid_out_order(backend: str) -> None:
    attention = MODULE["bigbird"].bind(heads=4, order="by shuffle(i, 3)").compile(backend)
    turn = Coordinates(attention.mask, attention.mask.queries, {}).permutation()
    q, k, v = (torch.randn(2, 4, 96, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out = attention(q, k, v)
    laid_out = attention(*(each[:, :, turn] for each in (q, k, v)), layout="ordered")
    torch.testing.assert_close(laid_out, out[:, :, turn])
    grads = (torch.autograd.grad(each.square().sum(), (q, k, v)) for each in (out, laid_out))
    torch.testing.assert_close(*grads)
