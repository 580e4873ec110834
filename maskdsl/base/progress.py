"""Progress of long analyses, reported to a watcher if there is one. Changes no result."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from maskdsl.base.records import dataclass


@dataclass
class Watch:
    """The progress that a watcher sees, readable from any thread."""

    share: float = 0.0
    """The share of the work that is done, from 0 to 1."""
    number: int = 0
    steps: int = 1
    """The work at hand is step `number`, from 0, of so many."""


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched() -> Iterator[Watch]:
    """Reports the progress of the work done inside."""
    watch = Watch()
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def begin(number: int, steps: int) -> None:
    """Reports that step `number`, from 0, of so many begins. Steps are not nested."""
    watch = _watch.get()
    if watch is not None and steps > 1:
        watch.number, watch.steps = number, steps
        watch.share = number / steps


@dataclass
class Area:
    """How many of a number of tiles are classified; reported as progress."""

    total: int
    known: int = 0

    def add(self, count: int) -> None:
        self.known += count
        watch = _watch.get()
        if watch is not None:
            watch.share = (watch.number + min(1.0, self.known / self.total)) / watch.steps
