"""An error of the GPU that stays fails the test that meets it, and no other. The GPU here is a stub."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = "from tests.gpu.conftest import pytest_runtest_makereport\n"
TESTS = """
import pytest
import torch

def lost():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

@pytest.mark.parametrize("number", range(6))
def test_kernels(number, monkeypatch):
    if number == 1:
        raise ValueError("the GPU has no part in it")
    if number == 2 or torch.cuda.synchronize.__name__ == "lost":
        torch.cuda.is_initialized = lambda: True
        torch.cuda.synchronize = lost
        torch.cuda.synchronize()
"""


@pytest.mark.parametrize(
    ("workers", "expected"),
    [("1", "2 failed, 4 passed"), ("0", "2 failed, 1 passed")],
    ids=["another worker goes on", "the run ends"],
)
def test_a_lost_gpu(workers: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT} {ROOT / 'benchmarks'}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", workers, "."]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert f"{expected} in" in ended.stdout.splitlines()[-1], ended.stdout
    assert "illegal memory access" in ended.stdout + ended.stderr
