"""Where two patterns differ, and parts of maps, against dense masks."""

import numpy as np
import pytest
from hypothesis import given, settings

import maskdsl
from maskdsl.analysis.counts.compare import Compared, differences
from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import dense
from tests.support.drawn import examples
from tests.support.properties import cases

GRID = """
pattern grid(h = 9, w = 11) {
    space image[y = h, x = w]
    input table: bool[heads, 11]
    attend neighborhood((5, 3)) or table[head, k.x]
    order by hilbert(y, x)
}
"""
LINE = """
pattern line(n = 99) {
    space tokens[n]
    coord y = i // 9
    input table: bool[12]
    attend window(20 + 20 * head) and q.y != k.y
    attend table[q.y]
}
"""


def classes(selected, block):
    """The class of every tile of a dense mask."""
    rows, columns = (range(0, length, size) for length, size in zip(selected.shape, block, strict=True))
    parts = [[selected[row : row + block[0], column : column + block[1]] for column in columns] for row in rows]
    return np.array([[FULL if part.all() else PARTIAL if part.any() else EMPTY for part in row] for row in parts])


@pytest.mark.parametrize("block", [(16, 16), (7, 30)])
@pytest.mark.parametrize("part", [(slice(None), slice(None)), (slice(13, 61), slice(40, 99))])
def test_two_patterns_against_dense_masks(block, part):
    random = np.random.default_rng(5)
    first = maskdsl.parse(GRID)["grid"].bind(heads=2).ir
    second = maskdsl.parse(LINE)["line"].bind(heads=2).ir
    given_first, given_second = {"table": random.random((2, 11)) < 0.2}, {"table": random.random(12) < 0.3}
    found = differences(Compared.of(first, given_first), Compared.of(second, given_second), block, part)
    assert [each.heads for each in found] == [(0,), (1,)]
    order = Coordinates(first, first.queries, {}).permutation()
    for each in found:
        (head,) = each.heads
        one = dense(first, head, 0, given_first)[np.ix_(order, order)][part]
        other = dense(second, head, 0, given_second)[np.ix_(order, order)][part]
        for share, wanted in ((each.first, one & ~other), (each.second, other & ~one), (each.common, one & other)):
            assert share.pairs == wanted.sum() > 0
            assert np.array_equal(share.tiles.classes(each.key_blocks), classes(wanted, block))


def test_a_pattern_does_not_differ_from_itself():
    mask = maskdsl.parse(LINE)["line"].bind(heads=3).ir
    compared = Compared.of(mask, {"table": np.ones(12, dtype=bool)})
    for each in differences(compared, compared, (16, 16)):
        assert each.first.pairs == each.second.pairs == 0
        assert each.common.pairs == dense(mask, each.heads[0], 0, compared.inputs).sum()


@settings(max_examples=examples(40))
@given(cases())
def test_parts_of_maps_are_exact(case):
    mask = case.mask
    part = (slice(mask.queries.length // 3, None), slice(0, mask.keys.length // 2 + 1))
    found = tiles(mask, case.block, case.inputs, case.batch, part)
    for head in range(mask.heads):
        orders = [
            Coordinates(mask, sequence, case.inputs, 0, head).permutation() for sequence in (mask.queries, mask.keys)
        ]
        selected = dense(mask, head, 0, case.inputs)
        rows, columns = (
            np.arange(length) if order is None else order for order, length in zip(orders, selected.shape, strict=True)
        )
        assert np.array_equal(found.classes(head), classes(selected[np.ix_(rows, columns)][part], case.block))
