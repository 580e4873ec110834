"""Several processes, over gloo: heads of a whole attention, and what is refused where tokens are shared out."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
WORLD = 2


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no processes")
def test_two_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.runtime.processes"]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(WORLD), str(tmp_path / "meeting")], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for rank in range(WORLD)
    ]
    errors = [process.communicate(timeout=240)[1] for process in running]
    assert [process.returncode for process in running] == [0] * WORLD, "\n".join(errors)
