"""Steps that a GPU could make end in every way, without one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Keep = Callable[[dict[str, Any]], None]


def has_gpu(keep: Keep) -> dict[str, Any]:
    return {"gpu": "a stub"}


def no_gpu(keep: Keep) -> dict[str, Any]:
    return {"outcome": "no GPU", "gpu": None}


def adds(keep: Keep, one: int, other: int) -> dict[str, Any]:
    keep({"first": one})
    return {"sum": one + other}


def fails(keep: Keep) -> dict[str, Any]:
    keep({"forward": 1})
    raise ValueError("not right\nand more about it")


def faults(keep: Keep) -> dict[str, Any]:
    """As where a kernel has read outside of memory: from then on the GPU answers everything with the same error."""

    def synchronize() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    cuda = SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
    sys.modules["torch"] = SimpleNamespace(cuda=cuda)  # type: ignore[assignment]
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def dies(keep: Keep) -> dict[str, Any]:
    print("the last words", flush=True)
    os.abort()


def hangs(keep: Keep, pids: str) -> dict[str, Any]:
    """With a process that it started, whose number goes into a file."""
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(pids, "w") as file:
        file.write(str(sleeping.pid))
    keep({"forward": 1})
    time.sleep(600)
    return {}


def sleeps(keep: Keep, seconds: float) -> dict[str, Any]:
    time.sleep(seconds)
    return {}


def says(keep: Keep, text: str, name: str) -> dict[str, Any]:
    print(text)
    return {"variable": os.environ.get(name)}


def divides(call: dict[str, int]) -> None:
    """Fails for 0. What is called side by side has to be importable."""
    1 / call["number"]
