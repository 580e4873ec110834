"""The benchmark itself, at small sizes: it measures every line and writes well-formed results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cpu import LINES, STATUS, TABLE, with_figures

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


FEW = ("tiles_window", "forward_against_sdpa", "moba_selection")
OTHERS = ("tiles_documents", "tiles_neighborhood", "tiles_examples", "tiles_growth", "forward_backward", "first_run")
OTHERS += ("moba_against_sdpa", "moba_memory")


@pytest.mark.parametrize("names", [FEW[:1], pytest.param(FEW + OTHERS, marks=pytest.mark.long)], ids=["one", "all"])
def test_a_quick_run(names: tuple[str, ...], tmp_path: Path) -> None:
    output = tmp_path / "cpu.json"
    only = [word for name in names for word in ("--only", name)]
    command = [sys.executable, str(BENCHMARKS / "cpu.py"), "--quick", "--output", str(output), *only]
    wide = {**os.environ, "COLUMNS": "250"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=wide).stdout
    whole = json.loads(output.read_text())
    assert whole["results"].keys() == {*names}
    assert whole["results"]["tiles_window"]["seconds"] > 0
    assert whole["machine"]["cores"] >= 1
    assert "window 513" in printed


def test_committed_results_cover_every_line() -> None:
    whole = json.loads((BENCHMARKS / "results" / "cpu.json").read_text())
    assert not whole["quick"]
    assert list(whole["results"]) == [line.measure for line in LINES]
    for page in (TABLE, STATUS):
        assert page.read_text() == with_figures(page.read_text(), whole)
