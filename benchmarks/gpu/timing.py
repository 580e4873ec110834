"""How long things take on a device: in turn, so that all meet the same clocks and the same heat."""

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median

import torch

FEWEST, MOST = 3, 50
FLUSHED, FLUSHES = 256 * 2**20, 4
"""Bytes written between two runs, more than any cache holds, and how often: for longer than a host prepares a run."""

Step = Callable[[], object]


def device() -> torch.device:
    """The GPU. A CPU where there is none: steps are tried there, and no plan gets so far."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Timer:
    """Medians of many runs, each with cold caches. `seconds` is how long the runs of one step take, about."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device = device
        self.seconds = seconds
        self.cache = torch.empty(FLUSHED if device.type == "cuda" else 0, dtype=torch.int8, device=device)

    def in_turn(self, steps: Mapping[str, Step], by_clock: bool = False) -> dict[str, float]:
        """Seconds of each step, whose runs take turns: the device's, or by the clock from call to end of work.

        Two runs of each come before, for everything that is done once.
        """
        once = self.by_clock if by_clock else self.by_event
        for step in steps.values():
            for _ in range(2):
                step()
        first = sum(map(once, steps.values()))
        rounds = min(MOST, max(FEWEST, int(self.seconds * len(steps) / max(first, 1e-6))))
        times = [{name: once(step) for name, step in steps.items()} for _ in range(rounds)]
        return {name: median(each[name] for each in times) for name in steps}

    def median(self, step: Step) -> float:
        """Seconds of one step alone."""
        return self.in_turn({"": step})[""]

    def by_event(self, step: Step) -> float:
        """Seconds of one run, the device's where it is a GPU."""
        if self.device.type != "cuda":
            return self.by_clock(step)
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(FLUSHES):  # the device has work while the host prepares the step, as in a model
            self.cache.zero_()
        began.record()
        step()
        ended.record()
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1e3

    def by_clock(self, step: Step) -> float:
        """Seconds of one run, from the call to the end of its work."""
        synchronize(self.device)
        began = time.perf_counter()
        step()
        synchronize(self.device)
        return time.perf_counter() - began

    def wall(self, steps: Iterator[Step]) -> float:
        """The median by the clock of steps that are each run once."""
        return median(map(self.by_clock, steps))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
