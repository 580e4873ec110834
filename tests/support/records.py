"""Results of what runs in pieces, as JSON: pieces of campaigns, and files of tests, one a line."""

import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

OUTCOMES = ("passed", "failed", "error", "skipped")


def commit() -> str:
    """What is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout.strip()


def add(piece: dict[str, object], file: Path) -> None:
    """Adds a piece to a campaign."""
    pieces = json.loads(file.read_text())["pieces"] if file.exists() else []
    lines = ",\n".join(f"    {json.dumps(each)}" for each in [*pieces, piece])
    file.write_text(f'{{\n  "pieces": [\n{lines}\n  ]\n}}\n')


def record(outcomes: Mapping[str, Sequence[pytest.TestReport]], file: Path) -> None:
    """Puts what became of tests in place of what is recorded of the files that hold them."""
    files: dict[str, dict[str, object]] = json.loads(file.read_text()) if file.exists() else {}
    reports = [(outcome, each) for outcome in OUTCOMES for each in outcomes.get(outcome, ())]
    for name in {each.nodeid.split("::")[0] for _, each in reports}:
        here = [(outcome, each) for outcome, each in reports if each.nodeid.split("::")[0] == name]
        files[name] = {
            "commit": commit(),
            "seconds": round(sum(each.duration for _, each in here), 1),
            **Counter(outcome for outcome, _ in here),
            "not passed": sorted({each.nodeid for outcome, each in here if outcome in ("failed", "error")}),
        }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(files[name])}" for name in sorted(files))
    file.write_text(f"{{\n{lines}\n}}\n")
