"""Steps over pages: the benchmark at small sizes, and its committed results against what is promised of them."""

import json
from pathlib import Path

import paged

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "paged.json"


def test_it_measures_all_that_is_committed() -> None:
    committed, quick = json.loads(RESULTS.read_text()), paged.results(quick=True)
    assert committed.keys() == quick.keys() and len(committed["seconds"]) == len(quick["seconds"])
    assert quick["float8_difference"] < 2e-6


def test_time_follows_the_window_and_is_below_that_of_plain_torch() -> None:
    committed = json.loads(RESULTS.read_text())
    assert committed["keys"] == [1024, 65536]
    assert max(committed["long_to_short"].values()) <= 1.2
    assert max(committed["to_plain"].values()) <= 1
    assert committed["float8_difference"] < 2e-6
