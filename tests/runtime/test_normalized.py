"""Sinks, factors and normalizations on the CPU's backends, held against published code in float64."""

import pytest

from tests.support.normalized import CASES, check


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_published(name: str, backend: str) -> None:
    check(CASES[name], backend)
