"""The benchmark of routes: every result is there, and what was recorded meets its bar."""

import json

import pytest
import routes


def test_what_was_recorded_meets_its_bar() -> None:
    results = json.loads(routes.RESULTS.read_text())["results"]
    assert len(results) == 5
    for result in results.values():
        if "bar_bytes" in result:
            assert 0 < result["bytes"] <= result["bar_bytes"]
        else:
            assert result["ratio"] <= result["bar_ratio"]


@pytest.mark.long
def test_a_quick_run() -> None:
    assert len(routes.measured(quick=True)) == 5
