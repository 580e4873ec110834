"""Settings of all tests."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.support.records import commit

settings.register_profile("project", deadline=None)
# Of mutants: what fails need not be made small.
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("project")
BEGAN = time.monotonic()
OUTCOMES = ("passed", "failed", "error", "skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is compared with golden files")
    parser.addoption("--record", type=Path, help="a file for what became of the tests, as JSON")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    file: Path | None = config.getoption("--record")
    if file is None:
        return
    reports = {each: terminalreporter.stats.get(each, []) for each in OUTCOMES}
    took = {each.nodeid: round(each.duration, 1) for each in reports["passed"] + reports["failed"]}
    found = {
        "commit": commit(),
        "seconds": round(time.monotonic() - BEGAN),
        **{each: len(those) for each, those in reports.items()},
        "not passed": sorted({each.nodeid for each in reports["failed"] + reports["error"]}),
        "slowest": dict(sorted(took.items(), key=lambda each: -each[1])[:20]),
    }
    file.write_text(json.dumps(found, indent=2) + "\n")
