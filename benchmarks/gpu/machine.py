"""Which machine this is. It answers without a GPU too, and without the packages that maskdsl needs."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import torch
from contact.child import Keep
from contact.runner import NO_GPU, Record


def versions(keep: Keep) -> Record:
    """Of everything that runs, and the GPU. Without one the outcome says so."""
    packages = {name: installed(name) for name in ("triton", "numpy", "lark")}
    found = {"python": sys.version.split()[0], "torch": torch.__version__, **packages}
    keep({**found, "toolkit": torch.version.cuda or torch.version.hip, "cores": os.cpu_count(), "gpu": None})
    if not torch.cuda.is_available():
        return {"outcome": NO_GPU}
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "capability": ".".join(map(str, torch.cuda.get_device_capability(0))),
        "memory_mib": properties.total_memory // 2**20,
        "multiprocessors": properties.multi_processor_count,
        "driver": driver(),
    }


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def driver() -> str | None:
    """The driver's version, where nvidia-smi says it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
