"""How far long work is, told to whoever watches it: nobody, unless a face does. Changes no result."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Watch:
    """What a watcher sees, from any thread."""

    share: float = 0.0
    """Of the work at hand, from 0 to 1."""
    number: int = 0
    parts: int = 1
    """The work is the `number`th of so many parts."""


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched() -> Iterator[Watch]:
    """What is done inside tells how far it is."""
    watch = Watch()
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def begin(number: int, parts: int) -> None:
    """The part of this number, from 0, is next. A part is not divided again."""
    watch = _watch.get()
    if watch is not None and parts > 1:
        watch.number, watch.parts = number, parts
        watch.share = number / parts


@dataclass
class Area:
    """Tiles whose class is known, of so many."""

    total: int
    known: int = 0

    def add(self, count: int) -> None:
        self.known += count
        watch = _watch.get()
        if watch is not None:
            watch.share = (watch.number + min(1.0, self.known / self.total)) / watch.parts
