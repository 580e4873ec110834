"""Generated kernels in Triton's interpreter: every example, and patterns that use everything the language has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
FILES = sorted(EXAMPLES.rglob("*.attn"))


def interpret(cases: int, seed: int, *files: Path) -> dict[str, str]:
    command = [sys.executable, str(HERE / "interpreted.py"), str(cases), str(seed), *map(str, files)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("part", range(4))
def test_examples(part: int) -> None:
    found = interpret(3, 17 + part, *FILES[part::4])
    assert found
    assert not {name: wrong for name, wrong in found.items() if wrong}


def test_everything() -> None:
    found = interpret(10, 5, HERE / "everything.attn")
    assert len(found) == 9
    assert not {name: wrong for name, wrong in found.items() if wrong}
