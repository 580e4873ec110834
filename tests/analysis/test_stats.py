"""Exact numbers against dense masks, and figures of published patterns."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.analysis.counts.stats import median, stats
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.expressions import FALSE, Coordinate, Head, Side, apply
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.ops import Op, Type
from tests.analysis.relations import dense_classes
from tests.support.masks import both, c, causal, declared, grid, k, mask, q, tokens, within
from tests.support.masks import given as given_coordinate


def check(figures, masks, block):
    """`masks`: the dense masks of all heads and batch entries that the figures cover."""
    classes = np.concatenate([dense_classes(each, block).ravel() for each in masks])
    keys = np.concatenate([each.sum(axis=1) for each in masks])
    computed = sum(
        each[row : row + block[0], column : column + block[1]].size
        for each in masks
        for (row, column) in np.ndindex(each.shape)
        if row % block[0] == column % block[1] == 0 and each[row : row + block[0], column : column + block[1]].any()
    )
    assert figures.pairs == sum(each.size for each in masks)
    assert figures.attended == keys.sum()
    assert (figures.full_tiles, figures.partial_tiles) == ((classes == 2).sum(), (classes == 1).sum())
    assert (figures.tiles, figures.computed) == (classes.size, computed)
    assert (figures.least_keys, figures.median_keys, figures.most_keys) == (keys.min(), np.median(keys), keys.max())
    assert (figures.queries, figures.empty_rows) == (keys.size, (keys == 0).sum())
    assert figures.density == pytest.approx(keys.sum() / figures.pairs)
    assert figures.block_density == pytest.approx((classes > 0).mean())
    assert figures.forward_flops == 4 * 64 * computed and figures.backward_flops == 10 * 64 * computed


@pytest.mark.parametrize("block", [(16, 16), (1, 7), (64, 20)])
def test_heads_and_batch_entries_are_counted_one_by_one_and_together(block):
    near = apply(Op.SELECT, apply(Op.LESS, Head(), c(1)), within(9), causal())
    pattern = mask(
        both(near, apply(Op.EQUAL, q("document"), k("document")), apply(Op.LESS, c(4), q())),
        tokens(75, given_coordinate("document")),
        inputs=[declared("document", Type.INT, batch=None, tokens=75)],
        heads=3,
    )
    inputs = {"document": np.sort(np.random.default_rng(0).integers(0, 4, (2, 75)), axis=1)}
    result = stats(pattern, block, inputs)
    masks = [[dense(pattern, head=head, batch=batch, inputs=inputs) for batch in range(2)] for head in range(3)]
    check(result.total, [each for entries in masks for each in entries], block)
    for figures, entries in zip(result.heads, masks, strict=True):
        check(figures, entries, block)
    assert json.loads(json.dumps(result.as_dict()))["total"]["empty_rows"] == result.total.empty_rows


def test_nothing_attends():
    figures = stats(mask(FALSE, tokens(10)), (4, 4)).total
    assert (figures.attended, figures.most_keys, figures.waste, figures.empty_rows) == (0, 0, 0, 10)
    assert figures.speedup_bound == figures.ideal_speedup == float("inf")


def test_bytes_count_each_row_of_tiles():
    """Two rows of tiles of a causal mask: 4 queries and 4 keys, then 2 queries and 6 keys."""
    figures = stats(mask(causal(), tokens(6)), (4, 4), head_dim=8, element_size=4).total
    assert figures.bytes == 2 * 8 * 4 * ((4 + 4) + (2 + 6))


@given(st.lists(st.integers(0, 9), min_size=1))
def test_median_of_counted_numbers(numbers):
    assert median(np.bincount(numbers)) == np.median(numbers)


def test_a_window_over_a_million_tokens():
    size, half = 1 << 20, 256
    figures = stats(mask(within(half), tokens(size))).total
    assert figures.attended == size * (2 * half + 1) - half * (half + 1)
    assert (figures.least_keys, figures.median_keys, figures.most_keys) == (half + 1, 2 * half + 1, 2 * half + 1)


def neighbourhood(name, length, kernel, stride):
    """Generalised neighbourhood attention on one axis."""
    group = apply(Op.ADD, apply(Op.MULTIPLY, apply(Op.FLOOR_DIVIDE, q(name), c(stride)), c(stride)), c(stride // 2))
    leader = apply(Op.MINIMUM, group, c(length - 1))
    start = apply(Op.SUBTRACT, leader, c(kernel // 2))
    start = apply(Op.MINIMUM, apply(Op.MAXIMUM, start, c(0)), c(length - kernel))
    offset = apply(Op.SUBTRACT, k(name), start)
    return both(apply(Op.LESS_EQUAL, c(0), offset), apply(Op.LESS, offset, c(kernel)))


def gna(lengths, kernel, stride, query_tile, key_tile):
    names = "tyx"[-len(lengths) :]
    parts = [neighbourhood(*each) for each in zip(names, lengths, kernel, stride, strict=True)]
    sides = []
    for tile in (query_tile, key_tile):
        order = (apply(Op.FLOOR_DIVIDE, Coordinate(Side.TOKEN, n), c(s)) for n, s in zip(names, tile, strict=True))
        sides.append(replace(grid(*lengths), order=(tuple(order),)))
    return mask(both(*parts), *sides)


GNA = [
    ((30, 48, 80), (18, 24, 24), (16, 8, 8), (2, 8, 8), (2, 8, 8), 11.11),
    ((256, 256), (80, 80), (16, 16), (16, 16), (16, 8), 10.24),
    ((256, 256), (80, 80), (16, 16), (16, 16), (8, 16), 10.24),
]


@pytest.mark.parametrize(("lengths", "kernel", "stride", "query_tile", "key_tile", "speedup"), GNA)
def test_generalised_neighbourhoods_are_perfectly_block_sparse(lengths, kernel, stride, query_tile, key_tile, speedup):
    block = int(np.prod(query_tile)), int(np.prod(key_tile))
    figures = stats(gna(lengths, kernel, stride, query_tile, key_tile), block).total
    assert figures.partial_tiles == 0 and figures.waste == 0
    assert round(figures.ideal_speedup, 2) == speedup == round(figures.speedup_bound, 2)


@pytest.mark.parametrize(("lengths", "kernel", "stride", "query_tile", "key_tile", "speedup"), GNA[:1])
def test_the_same_windows_with_stride_one_are_not(lengths, kernel, stride, query_tile, key_tile, speedup):
    pattern = gna(lengths, kernel, (1,) * len(lengths), query_tile, key_tile)
    result = tiles(pattern)
    assert result.partial_count() > 0
    computed = (result.partial_count() + result.full_count()) * 128 * 128
    assert np.prod(lengths) ** 2 / computed < speedup
