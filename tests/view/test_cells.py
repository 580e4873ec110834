"""Cells against counting in the dense map; the choice of a scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL, Runs, TileMap
from maskdsl.view.cells import Cells, count_cells, fit, smooth


@st.composite
def maps(draw):
    rows, columns = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    return np.where(random.random((rows, columns)) < density, random.integers(1, 3, (rows, columns)), 0)


@given(maps(), st.integers(1, 25), st.integers(1, 25))
def test_cells_count_the_tiles_in_them(classes, height, width):
    tiles = TileMap(Runs.of_dense(classes == FULL), Runs.of_dense(classes == PARTIAL))
    cells = count_cells(tiles, classes.shape[1], (height, width))
    for row, column in np.ndindex(cells.tiles.shape):
        part = classes[row * height : (row + 1) * height, column * width : (column + 1) * width]
        assert cells.full[row, column] == (part == FULL).sum()
        assert cells.partial[row, column] == (part == PARTIAL).sum()
        assert cells.tiles[row, column] == part.size
        whole = FULL if (part == FULL).all() else EMPTY if (part == EMPTY).all() else PARTIAL
        assert cells.classes[row, column] == whole


def test_density_counts_partial_tiles_half():
    cells = Cells(np.array([[2]]), np.array([[1]]), np.array([[4]]))
    assert cells.density[0, 0] == 0.625


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.integers(8, 200), st.integers(8, 200))
def test_a_fitted_scale_fits(queries, keys, rows, columns):
    scale = fit((queries, keys), (rows, columns))
    assert -(-queries // scale.cell[0]) <= rows
    assert -(-keys // scale.cell[1]) <= columns


@given(st.integers(1, 2**31 - 1), st.integers(1, 500), st.integers(1, 500), st.integers(8, 200))
def test_a_given_block_stays(length, height, width, space):
    scale = fit((length, length), (space, space), (height, width))
    assert scale.block == (height, width) and not scale.fitted
    assert -(-length // scale.cell[0]) <= space and -(-length // scale.cell[1]) <= space


def test_short_sequences_are_seen_token_by_token():
    assert fit((5, 5), (64, 64)).cell == (1, 1)


@pytest.mark.parametrize(("number", "expected"), [(1, 1), (7, 7), (8, 8), (9, 10), (65, 80), (100, 112), (4096, 4096)])
def test_smooth_numbers(number, expected):
    assert smooth(number) == expected
