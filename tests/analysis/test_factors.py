"""Counting axis by axis gives what counting tile by tile gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.analysis.counts.axis_factors import axis_masks
from maskdsl.analysis.counts.stats import stats
from maskdsl.ir.expressions import TRUE, InSpace, Side, apply
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.ops import Op
from tests.support.drawn import examples
from tests.support.masks import both, c, causal, either, grid, k, mask, q, tokens, within

LENGTHS = st.lists(st.integers(1, 7), min_size=2, max_size=3)


@settings(max_examples=examples(50))
@given(LENGTHS, st.integers(0, 4), st.integers(1, 3), st.integers(0, 5))
def test_the_product_of_the_axes_is_exact(lengths, radius, step, first):
    names = "tyx"[-len(lengths) :]
    parts = [apply(Op.LESS, c(first), q()), within(radius, names[0])]
    for name in names[1:]:
        parts.append(apply(Op.EQUAL, *(apply(Op.FLOOR_MODULO, side(name), c(step)) for side in (q, k))))
    pattern = mask(both(*parts), grid(*lengths))
    assert axis_masks(pattern, pattern.relation) is not None
    keys = dense(pattern).sum(axis=1)
    figures = stats(pattern, (4, 4)).total
    assert (figures.attended, figures.empty_rows) == (keys.sum(), (keys == 0).sum())
    assert (figures.least_keys, figures.median_keys, figures.most_keys) == (keys.min(), np.median(keys), keys.max())


def test_an_axis_that_nothing_is_asked_of_attends_whole():
    figures = stats(mask(both(InSpace(Side.KEY, "image"), within(1, "y")), grid(5, 9))).total
    assert figures.attended == 9 * 9 * (3 * 5 - 2)
    assert stats(mask(TRUE, grid(5, 9))).total.attended == 45 * 45


@pytest.mark.parametrize(
    ("relation", "sequence"),
    [
        (within(3), tokens(9)),
        (both(causal(), within(1, "y")), grid(3, 4)),
        (either(within(1, "y"), within(1, "x")), grid(3, 4)),
        (apply(Op.EQUAL, k("y"), k("x")), grid(3, 4)),
    ],
)
def test_other_relations_do_not_fall_apart(relation, sequence):
    pattern = mask(relation, sequence)
    assert axis_masks(pattern, relation) is None
    assert stats(pattern, (4, 4)).total.attended == dense(pattern).sum()
