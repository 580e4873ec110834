"""Times calls in turn, so that all of them meet the same noise, and the memory that each takes."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from maskdsl.base.records import dataclass
from maskdsl.cli.timing.sdpa_calls import Call
from maskdsl.cli.waiting import progress

_MOST_REPEATS = 1000
"""The most repetitions of one measurement."""
_LEAST_REPEATS = 3
_STATUS, _PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""What Linux tells of a process, and where it takes the peak of its memory back."""


@dataclass(frozen=True)
class Timing:
    """The times of one contender, in seconds, and the most bytes that a call takes at once beside its tensors."""

    name: str
    first: float
    """Of the first call, which compiles and finds tiles."""
    typical: float
    best: float
    repeats: int
    memory: int | None
    """None where the system does not tell it."""


class TimedCall:
    """A call that is timed, with its backward pass if `backward`."""

    def __init__(self, name: str, call: Call, tensors: Sequence[Tensor], backward: bool) -> None:
        self.name = name
        self.call, self.tensors, self.backward = call, tensors, backward
        self.times: list[float] = []
        self.first, self.out = self._timed()
        """Seconds of the first call, and its result."""

    def repeat(self) -> None:
        self.times.append(self._timed()[0])

    def _timed(self) -> tuple[float, Tensor]:
        begin = perf_counter()
        out = self.call()
        if self.backward:
            torch.autograd.backward(out, torch.ones_like(out))
        if out.is_cuda:
            torch.cuda.synchronize()
        taken = perf_counter() - begin
        for tensor in self.tensors:
            tensor.grad = None
        return taken, out.detach()


def measure(steps: Sequence[TimedCall], seconds: float) -> list[Timing]:
    """Repeats all steps in turn, each as often as fits into its `seconds`, at least three times."""
    for each in steps:
        each.repeat()
    counts = [max(_LEAST_REPEATS, min(_MOST_REPEATS, round(seconds / max(each.times[0], 1e-9)))) for each in steps]
    with progress("in turn", sum(counts)) as advance:
        for turn in range(max(counts, default=0)):
            for each, count in zip(steps, counts, strict=True):
                if len(each.times) < count and turn < count:
                    each.repeat()
            advance(sum(len(each.times) for each in steps))
    return [
        Timing(each.name, each.first, median(each.times), min(each.times), len(each.times), _memory(each))
        for each in steps
    ]


def _memory(step: TimedCall) -> int | None:
    device = step.out.device
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step.repeat()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    return _resident(step.repeat)


def _resident(call: Callable[[], object]) -> int | None:
    """The most memory that a call adds to the process. On Linux: None elsewhere."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not counted as there
        _PEAK.write_text("5")
        before = _kilobytes("VmRSS")
        call()
        return max(0, _kilobytes("VmHWM") - before) * 1024
    except (AttributeError, OSError, TypeError):
        return None


def _kilobytes(name: str) -> int:
    return int(_STATUS.read_text().split(f"{name}:")[1].split()[0])
