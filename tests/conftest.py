"""Settings of all tests."""

from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.support.records import record

settings.register_profile("project", deadline=None)
# Of mutants: what fails need not be made small.
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is compared with golden files")
    parser.addoption("--record", type=Path, help="a file of results, one line for each file of tests that ran")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    file: Path | None = config.getoption("--record")
    if file is not None:
        record(terminalreporter.stats, file)
