"""How long things take on a device, and how long they may take."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch

FEWEST, MOST = 3, 50
FLUSHED, FLUSHES = 256 * 2**20, 4
"""Bytes written between two runs, more than any cache holds, and how often: for longer than a host prepares a run."""

Step = Callable[[], object]


class Skipped(Exception):
    """There is no time left."""


@dataclass(frozen=True)
class Budget:
    """Seconds that something may take, from now."""

    what: str
    seconds: float
    end: float

    @staticmethod
    def of(what: str, seconds: float) -> "Budget":
        return Budget(what, seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def check(self) -> None:
        """Raises `Skipped` once the time is spent."""
        if self.left <= 0:
            raise Skipped(f"the {self.seconds:.0f} s of {self.what} are spent")


class Timer:
    """Medians of many runs, each with cold caches. `seconds` is how long one measurement takes, about."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device = device
        self.seconds = seconds
        self.cache = torch.empty(FLUSHED if device.type == "cuda" else 0, dtype=torch.int8, device=device)

    def median(self, step: Step) -> float:
        """Seconds of one run, the device's own on a GPU. Two runs come before, for everything that is done once."""
        for _ in range(2):
            step()
        first = self.once(step)
        repeats = min(MOST, max(FEWEST, int(self.seconds / max(first, 1e-6))))
        return median(self.once(step) for _ in range(repeats))

    def once(self, step: Step) -> float:
        if self.device.type != "cuda":
            began = time.perf_counter()
            step()
            return time.perf_counter() - began
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(FLUSHES):  # the device has work while the host prepares the step, as in a model
            self.cache.zero_()
        began.record()
        step()
        ended.record()
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1e3

    def wall(self, steps: Iterator[Step]) -> float:
        """The same for steps that keep the host busy as well, each run once: from the call to the end of its work."""
        return median(self.by_clock(step) for step in steps)

    def by_clock(self, step: Step) -> float:
        synchronize(self.device)
        began = time.perf_counter()
        step()
        synchronize(self.device)
        return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
