"""Autotuning for `tune=True`: measures a kernel's tile choices on the user's GPU and caches the fastest on disk."""

import hashlib
import json
import linecache
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from types import FunctionType

import torch

from maskdsl.analysis.cost.tile_table import KernelName, TileChoice
from maskdsl.base.cache import cache_directory, read_whole, write_whole

_DEVICE_CODE = re.compile(r"^@triton.jit.*\n(?:.+\n|\n(?! *\n))*", re.MULTILINE)
_REPETITIONS = 10

Timer = Callable[[Callable[[], object]], float]
"""Measures a kernel start, in seconds."""


@dataclass(frozen=True)
class TuningKey:
    """What the best tile choice of a kernel depends on, besides its source."""

    kernel: KernelName
    device: torch.device
    dims: tuple[int, int]
    """Head dims of q and k, and of v."""
    dtype: torch.dtype
    length: int
    """log2 of the number of queries, rounded up; 0 where the length does not matter."""
    inputs: tuple[str, ...] = ()
    """The inputs whose gradients the kernel computes too."""
    descriptors: bool = False
    """Whether it may load by tensor descriptors."""


def fastest(
    question: TuningKey, function: FunctionType, starts: Mapping[TileChoice, Callable[[], object]]
) -> TileChoice | None:
    """The fastest tile choice, from the disk cache or measured now; None where nothing can be measured.

    `function` of a generated module starts the kernel; `starts` maps each choice to a call of it.
    """
    timer = timer_of(question.device)
    if timer is None:
        return None
    path = _cache_file(question, function)
    known = stored(path)
    if known in list(starts):  # compared by equality: a file may hold anything
        return known
    seconds = dict(_measured(timer, starts))
    if not seconds:
        return None
    winner = min(seconds, key=seconds.__getitem__)
    record = {"choice": winner, "seconds": [[*choice, time] for choice, time in seconds.items()]}
    write_whole(path, json.dumps(record).encode())
    return winner


def _measured(timer: Timer, starts: Mapping[TileChoice, Callable[[], object]]) -> Iterator[tuple[TileChoice, float]]:
    """Every choice that can be started, with its seconds."""
    for choice, start in starts.items():
        with suppress(*failures()):
            yield choice, timer(start)


@lru_cache(maxsize=1)
def failures() -> tuple[type[Exception], ...]:
    """The exceptions that Triton raises for a kernel that cannot be compiled or started with some tile choice.

    Its passes and the driver raise RuntimeError. TritonError covers code that it cannot lower, code that `ptxas`
    refuses, and memory or threads that the GPU lacks.
    """
    from triton.errors import TritonError  # late: an optional dependency, and slow

    return RuntimeError, TritonError


def timer_of(device: torch.device) -> Timer | None:
    """A timer for this device; None on a CPU, whose interpreter's times mean nothing, and during CUDA graph capture."""
    return None if device.type != "cuda" or torch.cuda.is_current_stream_capturing() else _gpu_seconds


def _gpu_seconds(start: Callable[[], object]) -> float:
    """The median of ten starts by CUDA events, in seconds, after one warm-up."""
    start()
    times: list[float] = []
    for _ in range(_REPETITIONS):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        before.record()
        start()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after) / 1e3)
    return median(times)


def _cache_file(question: TuningKey, function: FunctionType) -> Path:
    """The cache file of a question, named by a hash of the device code, the GPU's name and the question."""
    text = device_code("".join(linecache.getlines(function.__code__.co_filename)))
    gpu = torch.cuda.get_device_name(question.device) if question.device.type == "cuda" else "cpu"
    asked = question.kernel, question.dims, question.dtype, question.length, question.inputs, question.descriptors
    key = (text, gpu, *asked)
    digest = hashlib.sha256("\n".join(map(str, key)).encode()).hexdigest()
    return cache_directory() / "tiles" / f"{digest[:32]}.json"


def device_code(source: str) -> str:
    """All functions of a generated module that Triton compiles. They do not contain lengths."""
    return "\n".join(_DEVICE_CODE.findall(source))


def stored(path: Path) -> TileChoice | None:
    """The tile choice in a cache file; None if the file is missing or malformed."""
    content = read_whole(path)
    try:
        return None if content is None else TileChoice(*json.loads(content)["choice"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
