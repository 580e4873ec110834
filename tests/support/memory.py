"""The memory of a process, for tests that run one."""

import resource
import sys
from pathlib import Path


def peak() -> int:
    """The most bytes that the process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike `getrusage`, it forgets what the parent process held
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
