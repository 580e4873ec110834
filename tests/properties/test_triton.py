"""Random patterns through the generated Triton kernels, in the interpreter, which needs a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.drawn import examples

ROOT = Path(__file__).parents[2]


def interpret(*arguments: object) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.properties.interpreted", *map(str, arguments)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.hypothesis
def test_kernels_agree_with_the_meaning():
    count = examples(30)
    found = interpret(count, 1)
    assert not found["failure"]
    assert found["ran"] >= count


def test_rounding_toward_zero_is_noticed():
    assert "triton, " in str(interpret(60, 1, "break")["failure"])
