"""Bounds over blocks of tokens against the meaning of random relations, pair by pair."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.api.given_inputs import arrays_of
from maskdsl.ir.expressions import Apply, Coordinate, Expression, Side
from maskdsl.ir.facts.bounds import Bounder
from maskdsl.ir.facts.ranges import mask_leaf
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.ops import Op
from maskdsl.testing import inputs_for, patterns
from tests.support.drawn import examples
from tests.support.tile_bounds import classes, ends


@settings(max_examples=examples(300))
@given(st.data())
def test_bounds_are_never_wrong(data: st.DataObject) -> None:
    mask = data.draw(patterns()).bind()
    arrays = data.draw(inputs_for(mask.ir))
    block = data.draw(st.sampled_from([1, 3, 8]))
    head = data.draw(st.integers(0, mask.heads - 1))
    known = input_arrays(mask.ir, arrays_of(mask.ir, arrays), relation_inputs(mask.ir))
    certain, possible = classes(mask.ir, known, (block, block), head)
    dense = mask.dense(head=head, **arrays)
    for row, column in np.ndindex(certain.shape):
        tile = dense[row * block : row * block + block, column * block : column * block + block]
        assert not certain[row, column] or tile.all()
        assert possible[row, column] or not tile.any()


def test_bounds_of_windows_are_exact() -> None:
    text = "pattern p(n = 61) { space t[n]  attend window(9) and causal or blocks(8) }"
    mask = maskdsl.parse(text)["p"].bind()
    for block in (1, 4, 16):
        certain, possible = classes(mask.ir, {}, (block, block))
        found = mask.tiles((block, block)).classes()
        assert (possible >= (found > 0)).all()
        assert (possible == (found > 0)).mean() > 0.9
        assert (certain <= (found == 2)).all()


def test_tables_are_read_where_all_pairs_read_the_same() -> None:
    text = "pattern p(n = 64) { space t[n]  input cut: int[8]  attend k < cut[q // 8] }"
    mask = maskdsl.parse(text)["p"].bind()
    cut = np.array([5, 64, 0, 17, 40, 33, 8, 9])
    certain, possible = classes(mask.ir, {"cut": cut}, (8, 8))
    found = mask.tiles((8, 8), cut=cut).classes()
    assert np.array_equal(np.where(certain, 2, possible), found)


def test_a_product_with_nothing_known_is_bounded_by_its_range() -> None:
    a: Expression = Coordinate(Side.QUERY, "i")
    product = Apply(Op.MULTIPLY, (a, Coordinate(Side.KEY, "i")))
    mask = maskdsl.parse("pattern p(n = 10) { space t[n]  attend q * k < 5 }")["p"].bind().ir
    low, high = Bounder(ends, mask_leaf(mask)).bounds(product)
    assert (low.value, high.value) == (0, 81)  # type: ignore[union-attr]
