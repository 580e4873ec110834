"""The benchmark of branches itself: both sides give the same, and are measured."""

import branches
import pytest

pytestmark = pytest.mark.long


def test_a_quick_run() -> None:
    measured = branches.measured(192, heads=2, dim=16, times=1)
    assert measured["forward"]["ratio"] > 0 and measured["both"]["one_s"] > 0
