"""Cliques: what a relation implies, sizes that are counted, and blocks and orders that save something."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.orders.clique_tiles import clique_blocks, clique_tiles
from maskdsl.analysis.orders.cliques import Cliques, find_cliques
from maskdsl.analysis.orders.layouts import layout_text, written_layout
from maskdsl.ir.meaning.coordinates import Coordinates

IMAGE = "pattern p(h = 28, w = 28) { space image[y = h, x = w] "
LINE = "pattern p(n = 512) { space t[n] "
WINDOWS = "q.y // 7 == k.y // 7 and q.x // 7 == k.x // 7"


def bound(text: str, heads: int = 2, **sizes: int):
    return maskdsl.parse(text + " }")["p"].bind(heads=heads, **sizes)


def summary(mask) -> list[tuple[tuple[int, int] | None, str]]:
    return [(each.sizes, layout_text(mask.ir, each.layout)) for each in find_cliques(mask.ir)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (IMAGE + f"attend {WINDOWS}", [((49, 49), "by y // 7, x // 7")]),
        (IMAGE + f"attend {WINDOWS} require causal", [((49, 49), "by y // 7, x // 7")]),
        (IMAGE + "attend (q.y + 3) % 28 // 7 == (k.y + 3) % 28 // 7", [((196, 196), "by (y + 3) % 28 // 7")]),
        # The sides of a border cut windows into groups of different sizes.
        (
            IMAGE + "attend rolled_blocks((7, 7), 3) require same_side((3, 3))",
            [
                ((49, 49), "by (y - 3) % 28 // 7, (x - 3) % 28 // 7"),
                (None, "by (y - 3) % 28 // 7, (x - 3) % 28 // 7, 0 if y < 3 else 1, 0 if x < 3 else 1"),
            ],
        ),
        (LINE + "attend blocks(100)", [(None, "declared")]),
        (IMAGE + "attend blocks((8, 8))", [(None, "by y // 8, x // 8")]),
        (IMAGE + "attend blocks((7, 8))", [((196, 196), "declared"), (None, "by y // 7, x // 8")]),
        (IMAGE + "attend dilated(4, axis = y) and dilated(4, axis = x)", [((49, 49), "by y % 4, x % 4")]),
        (IMAGE + "attend q.x == k.x", [((28, 28), "by x")]),
        (IMAGE + "attend q.y == k.y", [((28, 28), "declared")]),
        (IMAGE + "attend q.y - k.y == 0 and q.x % 7 == k.x % 7", [((4, 4), "by y, x % 7")]),
        (LINE + "attend blocks(32) and causal", [((32, 32), "declared")]),
        (LINE + "attend dilated(8)", [((64, 64), "by i % 8")]),
        (LINE + "attend (q % 8 < 4) == (k % 8 < 4)", [((256, 256), "by 0 if i % 8 < 4 else 1")]),
        # In both branches of an `or`, and not in one alone.
        (LINE + "attend blocks(32) and causal attend blocks(32) and k % 2 == 0", [((32, 32), "declared")]),
        (LINE + "attend blocks(32) attend q == k", []),
        # An order of the pattern: kept.
        (LINE + "order by i % 8 attend dilated(8)", [((64, 64), "declared")]),
        (LINE + "order by i % 3 attend dilated(8)", []),
        # No groups.
        (LINE + "attend window(33)", []),
        # What calls or heads decide.
        (LINE + "input doc: int[batch, t] attend same(doc)", []),
        (LINE + "input doc: int[batch, t] attend same(doc) and blocks(64)", [((64, 64), "declared")]),
        (LINE + "attend q // (head + 1) == k // (head + 1)", []),
        (LINE + "attend blocks(32) where head == 0 attend dilated(16) where head == 1", []),
    ],
)
def test_cliques_of_a_relation(text: str, expected: list[tuple[tuple[int, int] | None, str]]) -> None:
    assert summary(bound(text)) == expected


def test_cliques_of_two_sequences() -> None:
    """Of other sizes on each side, by other expressions."""
    text = "pattern p() { space image[y = 28, x = 28] space coarse[b = 4, a = 4] queries image keys coarse "
    mask = bound(text + "attend q.y // 14 == k.b // 2 and q.x // 14 == k.a // 2")
    assert summary(mask) == [((196, 4), "image by y // 14, x // 14; coarse by b // 2, a // 2")]
    assert summary(bound(text + "attend q.y // 14 == k.b // 2")) == [((392, 8), "declared")]


def test_an_order_for_heads_that_differ() -> None:
    text = IMAGE + "attend q.y // 2 == k.y // 2 where head < 2 attend q.x // 2 == k.x // 2 where head >= 2"
    chosen = clique_tiles(bound(text, heads=4).ir, (64, 64), 1)
    assert chosen is not None and chosen.block == (56, 56)
    assert layout_text(chosen.mask, written_layout(chosen.mask)) == "by 0 if head < 2 else x // 2"


def test_cliques_hold() -> None:
    """Laid out, no pair of two cliques attends, whatever else the relation says."""
    for more in ("", " require same_side((3, 3))", " require causal", " require q.x != k.y"):
        mask = bound(IMAGE + "attend rolled_blocks((7, 7), 3)" + more).ir
        chosen = clique_tiles(mask, (64, 64), 1)
        assert chosen is not None and chosen.block == (49, 49)
        order = Coordinates(chosen.mask, chosen.mask.queries, {}).permutation()
        assert order is not None and sorted(order) == [*range(784)]
        dense = bound(IMAGE + "attend rolled_blocks((7, 7), 3)" + more).dense()[np.ix_(order, order)]
        assert not (dense & ~np.kron(np.eye(16, dtype=bool), np.ones((49, 49), dtype=bool))).any()
        assert dense.any(axis=1).all()


@pytest.mark.parametrize(
    ("sizes", "panel", "expected"),
    [
        ((49, 49), 16, (49, 49)),
        ((64, 64), 16, (64, 64)),
        ((4, 4), 16, (16, 16)),
        ((3, 2), 1, (15, 10)),
        ((2, 64), 16, (2, 64)),
        ((196, 196), 16, (49, 49)),
        ((96, 96), 16, (48, 48)),
        ((160, 160), 1, (40, 40)),
        ((160, 160), 16, (40, 32)),
        ((100, 100), 16, (50, 50)),
        ((256, 4096), 16, (64, 64)),
        ((121, 121), 1, (64, 64)),
        (None, 1, (64, 64)),
    ],
)
def test_blocks_of_cliques(sizes: tuple[int, int] | None, panel: int, expected: tuple[int, int]) -> None:
    assert clique_blocks(Cliques(sizes, {}), (64, 64), panel) == expected


def test_nothing_is_chosen_where_nothing_is_saved() -> None:
    for text in (
        LINE + "attend blocks(64)",  # the usual tiles
        LINE.replace("512", "4096") + "attend dilated(8) and window(17)",  # as many keys in either order
        "pattern p() { space image[y = 8, x = 8] attend blocks((4, 4))",  # a short call
        LINE + "attend window(65)",
    ):
        assert clique_tiles(bound(text).ir, (64, 64), 1) is None
    chosen = clique_tiles(bound(LINE + "attend blocks(32)").ir, (64, 64), 1)
    assert chosen is not None and chosen.block == (32, 32)
    assert written_layout(chosen.mask) == {} and chosen.mask == bound(LINE + "attend blocks(32)").ir
    keys = (
        LINE.replace("512", "6272") + "attend blocks(784)"
    )  # 14 blocks of 56, of which whole panels are 14 blocks of 64
    assert clique_tiles(bound(keys).ir, (64, 64), 1).block == (56, 56)
    assert clique_tiles(bound(keys).ir, (64, 64), 16) is None


def test_windows_of_different_sizes_are_laid_out_in_the_usual_blocks() -> None:
    mask = bound(IMAGE + "attend blocks((7, 7))", h=60, w=60)
    chosen = clique_tiles(mask.ir, (64, 64), 1)
    assert chosen is not None and chosen.block == (64, 64)
    assert written_layout(chosen.mask)
