"""The fastest of a kernel's choices, measured on the user's GPU and kept on disk: what `tune=True` asks for."""

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
"""Seconds that a start takes."""


@dataclass(frozen=True)
class TuningKey:
    """What the best choice for a kernel depends on, besides its text."""

    kernel: KernelName
    device: torch.device
    dims: tuple[int, int]
    """Of q and k, and of v."""
    dtype: torch.dtype
    length: int
    """The power of two that the number of queries reaches; 0 where lengths have no say."""
    inputs: tuple[str, ...] = ()
    """Those whose gradients the kernel computes too."""


def fastest(
    question: TuningKey, function: FunctionType, starts: Mapping[TileChoice, Callable[[], object]]
) -> TileChoice | None:
    """As measured now or before; None where nothing can be measured.

    `function` is the one of a generated module that starts the kernel; `starts` does so, with each choice.
    """
    timer = timer_of(question.device)
    if timer is None:
        return None
    path = _position(question, function)
    known = stored(path)
    if known in list(starts):  # by equality: a file may say anything
        return known
    seconds = dict(_measured(timer, starts))
    if not seconds:
        return None
    winner = min(seconds, key=seconds.__getitem__)
    found = {"choice": winner, "seconds": [[*choice, time] for choice, time in seconds.items()]}
    write_whole(path, json.dumps(found).encode())
    return winner


def _measured(timer: Timer, starts: Mapping[TileChoice, Callable[[], object]]) -> Iterator[tuple[TileChoice, float]]:
    """Seconds of every choice that can be started."""
    for choice, start in starts.items():
        with suppress(*failures()):
            yield choice, timer(start)


@lru_cache(maxsize=1)
def failures() -> tuple[type[Exception], ...]:
    """What Triton raises for a kernel that cannot be compiled or started with some choice of tiles.

    Its passes and the driver raise RuntimeError. All else is an error of its own: code that it cannot lower, what
    `ptxas` refuses, memory and threads that a GPU lacks.
    """
    from triton.errors import TritonError  # late: an optional dependency, and slow

    return RuntimeError, TritonError


def timer_of(device: torch.device) -> Timer | None:
    """None on the CPU, whose times say nothing of a GPU's, and while a graph is captured."""
    return None if device.type != "cuda" or torch.cuda.is_current_stream_capturing() else _gpu_seconds


def _gpu_seconds(start: Callable[[], object]) -> float:
    """The median of a few starts, by the GPU's own clock."""
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


def _position(question: TuningKey, function: FunctionType) -> Path:
    """The file of an answer: by the device code, the kind of GPU, and all else that the answer depends on."""
    text = device_code("".join(linecache.getlines(function.__code__.co_filename)))
    gpu = torch.cuda.get_device_name(question.device) if question.device.type == "cuda" else "cpu"
    parts = (text, gpu, question.kernel, question.dims, question.dtype, question.length, question.inputs)
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
    return cache_directory() / "tiles" / f"{digest[:32]}.json"


def device_code(source: str) -> str:
    """Of a generated module: all functions that Triton compiles. Lengths are no part of it."""
    return "\n".join(_DEVICE_CODE.findall(source))


def stored(path: Path) -> TileChoice | None:
    """What a file says, if it is there and says anything."""
    content = read_whole(path)
    try:
        return None if content is None else TileChoice(*json.loads(content)["choice"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
