"""Programs of tests in processes of their own, in which kernels are interpreted."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def last_line(program: str, *arguments: object) -> str:
    """Of what `python -m tests.PROGRAM` prints. Fails where it does."""
    command = [sys.executable, "-m", f"tests.{program}", *map(str, arguments)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()[-1]
