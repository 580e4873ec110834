"""Settings of all tests."""

import pytest
from hypothesis import Phase, settings

settings.register_profile("project", deadline=None)
# Of mutants: what fails need not be made small.
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is compared with golden files")
