"""The tests of kernels, run in Triton's interpreter: they hold there too, and so are tested where there is no GPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("test_kernels", "test_numbers", "test_configurations", "test_repeats", "test_large")
EXAMPLES = "test_every_example"
"""Which `tests/triton/test_interpreted.py` has its own of."""
SHORT = "test_head_dims or test_values_of_another_dim"
"""Which `make test` runs. What the others ask for, `tests/triton/test_interpreted.py` asks for there too."""
PARTS = {
    EXAMPLES: 18,
    SHORT: 20,
    "test_grouped_heads or test_lengths or test_orders or every_run": 36,
    "test_lists or test_large or test_repeats or test_configurations": 23,
    "test_decoding or test_pages": 20,
    "test_numbers": 67,
}
"""Names of tests, and how many there are at least."""


@pytest.mark.parametrize(
    "names", [pytest.param(names, marks=() if names == SHORT else pytest.mark.long) for names in PARTS]
)
def test_kernels_in_the_interpreter(names: str) -> None:
    run(names, "not long", PARTS[names])


@pytest.mark.long
def test_the_other_examples_in_the_interpreter() -> None:
    run(EXAMPLES, "long", 88)


def run(names: str, marked: str, least: int) -> None:
    tests = [str(HERE / f"{name}.py") for name in FILES]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests, "-k", names, "-m", marked]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout[-3000:]
    summary = re.search(r"(\d+) passed", ended.stdout)
    assert summary is not None
    assert int(summary[1]) >= least
    assert "skipped" not in ended.stdout
