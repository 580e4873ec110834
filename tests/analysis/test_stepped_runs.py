"""Runs with a step against the runs and the tiles that they hold."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskdsl.analysis.tiles.block_map import Runs
from maskdsl.analysis.tiles.stepped_runs import SteppedRuns

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=24))
teeth = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7))
"""Width, gap and number of the runs of a comb."""


def row_of(combs: list[tuple[int, int, int]]) -> np.ndarray:
    """A row of tiles, from combs side by side."""
    pieces = [np.tile(np.repeat([True, False], [width, gap]), count) for width, gap, count in combs]
    return np.concatenate([np.zeros(0, dtype=bool), *pieces])


def expanded(runs: SteppedRuns, columns: int) -> np.ndarray:
    """int [rows, columns]: how many runs hold each tile."""
    counts = np.zeros((len(runs.row_start) - 1, columns), dtype=int)
    for row, (first, end) in enumerate(zip(runs.row_start[:-1], runs.row_start[1:], strict=True)):
        assert (np.diff(runs.start[first:end]) > 0).all()
        for run in range(first, end):
            assert 0 <= runs.start[run] < runs.end[run] <= columns
            assert runs.step[run] > 0
            assert (runs.end[run] - 1 - runs.start[run]) % runs.step[run] == 0
            counts[row, runs.start[run] : runs.end[run] : runs.step[run]] += 1
    return counts


def fewest(row: np.ndarray) -> int:
    """As many runs as a row takes, tooth by tooth: a comb from the left ends where width or distance change."""
    plain = Runs.of_dense(row[None])
    start, width = plain.start.tolist(), (plain.end - plain.start).tolist()
    count = at = 0
    while at < len(start):
        end = at + 1
        while end < len(start) and width[end] == width[at] and start[end] - start[end - 1] == start[at + 1] - start[at]:
            end += 1
        is_comb = width[at] < end - at
        count, at = count + (width[at] if is_comb else 1), end if is_comb else at + 1
    return count


def check(mask: np.ndarray) -> None:
    runs = SteppedRuns.of(Runs.of_dense(mask))
    assert np.array_equal(expanded(runs, mask.shape[1]), mask)
    assert np.diff(runs.row_start).tolist() == [fewest(row) for row in mask]
    assert {each.dtype for each in (runs.row_start, runs.start, runs.end, runs.step)} == {np.dtype(np.int32)}


@given(masks)
def test_every_tile_is_in_one_run(mask):
    check(mask)


@given(st.lists(st.lists(teeth, max_size=5), min_size=1, max_size=4))
def test_combs_are_few_runs(combs):
    rows = [row_of(each) for each in combs]
    mask = np.zeros((len(rows), max(map(len, rows)) + 1), dtype=bool)
    for row, values in zip(mask, rows, strict=True):
        row[: len(values)] = values
    check(mask)


@pytest.mark.parametrize(
    ("width", "count", "expected"), [(1, 9, 1), (2, 9, 2), (3, 3, 3), (3, 4, 3), (4, 3, 3), (1, 2, 1)]
)
def test_a_comb_of_teeth_is_as_many_runs_as_it_has_columns_or_teeth(width, count, expected):
    assert len(SteppedRuns.of(Runs.of_dense(row_of([(width, 5, count)])[None])).start) == expected


@pytest.mark.parametrize("kind", ["combs", "random"])
def test_millions_of_runs_take_a_second(kind):
    rows, each = 2048, 2048
    random = np.random.default_rng(1)
    start = np.tile(np.arange(each) * 16, rows)
    if kind == "random":
        start += random.integers(0, 8, len(start))
    runs = Runs.of_sorted(rows, np.repeat(np.arange(rows), each), start, start + 1)
    began = time.process_time()
    stepped = SteppedRuns.of(runs)
    assert time.process_time() - began < 3  # on a slow machine with other work; otherwise below one
    assert len(stepped.start) == rows if kind == "combs" else len(stepped.start) < len(start)
