"""The benchmark of the host itself: it compiles for a GPU that is not there, and measures."""

import host
import pytest

pytestmark = pytest.mark.long


def test_a_quick_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PATTERNS", {"causal": host.PATTERNS["causal"]})
    found = host.measured(rounds=10)
    assert found["bare"]["ratio"] == 1
    assert 0 < found["causal"]["us"] < 10_000
