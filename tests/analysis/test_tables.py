"""Bounds of table inputs over boxes of indices."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.ir.facts.intervals import Interval, point

tables = arrays(np.int64, array_shapes(max_dims=3, max_side=6), elements=st.integers(-9, 9))


@given(tables, st.data())
def test_bounds_hold_the_box_and_are_exact_for_one_entry(values, data):
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, length - 1)] * 2))) for length in values.shape]
    result = BoundedTable.of(values).read(*(Interval(np.array([low]), np.array([high])) for low, high in ends))
    box = values[tuple(slice(low, high + 1) for low, high in ends)]
    assert result.low[0] <= box.min() and result.high[0] >= box.max()
    if box.size == 1:
        assert result.low[0] == result.high[0]


@given(tables)
def test_points_are_read_exactly_and_clipped(values):
    table = BoundedTable.of(values)
    grids = [np.arange(-1, length + 1) for length in values.shape]
    for index in product(*grids):
        inside = tuple(min(max(at, 0), length - 1) for at, length in zip(index, values.shape, strict=True))
        result = table.read(*(point(np.array(at)) for at in index))
        assert result.is_point and result.low == values[inside]


def test_long_boxes_are_covered_by_two_cells():
    values = np.zeros(1024, dtype=np.int64)
    values[:100] = values[900:] = 7
    result = BoundedTable.of(values).read(Interval(np.array([512, 0]), np.array([767, 300])))
    assert result.low.tolist() == [0, 0] and result.high.tolist() == [0, 7]


def test_nan_stands_for_anything():
    values = np.array([1.0, np.nan, 3.0, 4.0])
    result = BoundedTable.of(values).read(Interval(np.array([0, 2]), np.array([1, 3])))
    assert np.isnan(result.low).tolist() == [True, False] and np.isnan(result.high).tolist() == [True, False]
