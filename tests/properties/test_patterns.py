"""Random patterns: text, intervals, tiles and numbers against the plain meaning."""

from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.testing import patterns
from tests.support.drawn import examples
from tests.support.properties import cases, check_intervals, check_round_trip, check_stats, check_tiles


@settings(max_examples=examples(150))
@given(patterns())
def test_text_and_mask_survive_the_formatter(pattern):
    check_round_trip(pattern)


@settings(max_examples=examples(150))
@given(cases(), st.integers(0, 2**32 - 1))
def test_intervals_hold_every_value(case, seed):
    check_intervals(case, seed)


@settings(max_examples=examples(200))
@given(cases())
def test_tiles_are_exact(case):
    check_tiles(case)


@settings(max_examples=examples(100))
@given(cases())
def test_stats_are_exact(case):
    check_stats(case)
