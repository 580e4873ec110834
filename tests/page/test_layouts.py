"""What the page has of every order and size of tiles, against the tiles and figures that everything else has."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.counts.stats import stats
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.view.page.page_maps import classes_of_heads, measure, usual_blocks, usual_orders
from tests.page.pages import GRID

LAID_BY_HEAD = """
pattern p(n = 90) {
    space tokens[n]
    input document: int[batch, tokens]
    input group: int[heads, tokens]
    attend same(document) and (causal if head < 2 else q.group == k.group)
    order by group
}
"""


@pytest.mark.parametrize("text", [GRID, LAID_BY_HEAD], ids=["grid", "by head"])
def test_every_layout_is_exact(text):
    (pattern,) = maskdsl.parse(text).values()
    mask = pattern.bind(heads=4).ir
    inputs = synthetic_inputs(mask, 1, batch=3)
    layouts = measure(usual_orders(mask), [(16, 16), (8, 32)], inputs)
    for row in layouts:
        for each in row:
            assert each.figures == stats(each.mask, each.block, inputs)
            found = tiles(each.mask, each.block, inputs)
            for head in range(4):
                assert each.tiles(head) == found.tile_map(head)
    assert classes_of_heads(layouts) == ([[0, 1], [2, 3]] if text is GRID else [[0], [1], [2], [3]])


def orders(text, **parameters):
    (pattern,) = maskdsl.parse(text).values()
    mask = pattern.bind(**parameters).ir
    return [row[0].order for row in measure(usual_orders(mask), usual_blocks(mask)[-1:], {})]


def test_usual_orders():
    line = "pattern p(n = 64) { space tokens[n] attend causal"
    assert orders(f"{line} }}") == ["declared"]
    assert orders(f"{line} order by i % 2 }}") == ["by i % 2", "declared"]
    assert orders("pattern p() { space v[t = 4, y = 8, x = 8] attend all }".replace("all", "q.t == k.t")) == [
        "declared",
        "by t // 4, y // 4, x // 8",
        "by hilbert(t, y, x)",
    ]


@pytest.mark.parametrize(("length", "largest"), [(1, 128), (1000, 128), (5000, 128), (2**20, 256)])
def test_usual_blocks(length, largest):
    (pattern,) = maskdsl.parse("pattern p(n) { space tokens[n] attend causal }").values()
    blocks = usual_blocks(pattern.bind(n=length).ir)
    assert max(map(max, blocks)) == largest and len(set(blocks)) == len(blocks) and blocks[0] == (128, 128)
    assert np.all(np.array(blocks) >= 8)
