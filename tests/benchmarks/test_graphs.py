"""The benchmark of graphs: every result is there, and what was recorded meets its bar."""

import json

import graphs
import pytest


def test_what_was_recorded_meets_its_bar() -> None:
    results = json.loads(graphs.RESULTS.read_text())["results"]
    assert len(results) == 4
    for result in results.values():
        if "bar_s" in result:
            assert result["seconds"] <= result["bar_s"]
        else:
            assert all(result[name]["ratio"] <= result["bar_ratio"] for name in ("forward", "training"))


@pytest.mark.long
def test_a_quick_run() -> None:
    assert len(graphs.measured(quick=True)) == 4
