"""Settings of all tests."""

import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.support.drawn import examples
from tests.support.records import record

settings.register_profile("project", deadline=None, max_examples=examples(100))
# Of mutants: what fails need not be made small.
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("project")
LONGEST = ("triton", "gpu", "independent")


@pytest.fixture(autouse=True)
def forget_what_was_compiled() -> None:
    """Every attention has the same `forward`, and torch.compile keeps some eight graphs of a function."""
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is compared with golden files")
    parser.addoption("--record", type=Path, help="a file of results, one line for each file of tests that ran")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests marked `thinned(step, *axes)`, one in `step` cases is no campaign: those whose numbers of values add up.

    Each value of each axis is in one of them, beside different values of the others. Folders of long tests come first:
    no worker is left with one at the end.
    """
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)
    numbers = defaultdict[tuple[object, str], dict[int, int]](dict)
    for item in items:
        thinned = item.get_closest_marker("thinned")
        if thinned is not None and isinstance(item, pytest.Function):
            step, *axes = thinned.args
            seen = [(numbers[item.function, axis], id(item.callspec.params[axis])) for axis in axes]
            if sum(known.setdefault(value, len(known)) for known, value in seen) % step:
                item.add_marker("long")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    file: Path | None = config.getoption("--record")
    if file is not None:
        record(terminalreporter.stats, file)
