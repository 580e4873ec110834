"""Progress on standard error while people wait. On a terminal it disappears when the work is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, Timer
from time import monotonic

from rich.console import Console
from rich.text import Text

from maskdsl.base.progress import Watch, watched
from maskdsl.cli.consoles import messages

_PATIENCE = 0.7
"""Seconds before a terminal shows progress of work that may be quick."""
_LONG_WORK = 3.0
"""Seconds of work that people may not want to wait for."""
LONG = 10.0
"""Seconds between two lines about long work, if standard error is not a terminal."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar; gives a function that sets how much is done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # start-up time

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    console = messages()
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows how far the work inside is, and how long it may still take. Nothing may be printed meanwhile.

    A terminal shows a line that changes; otherwise long work prints a line now and then. Ctrl-C raises a
    `KeyboardInterrupt` that says how far the work was.
    """
    console, start = messages(), monotonic()
    try:
        with watched() as watch, (_clock if console.is_terminal else _lines)(console, what, watch):
            yield
    except KeyboardInterrupt:
        done = f", {watch.share:.0%} done" if watch.share else ""
        raise KeyboardInterrupt(f"{what}: ended by Ctrl-C after {_time(monotonic() - start)}{done}") from None


@contextmanager
def _clock(console: Console, what: str, watch: Watch) -> Iterator[None]:
    from rich import progress as bars  # start-up time

    class Far(bars.ProgressColumn):
        def render(self, task: bars.Task) -> Text:
            return Text(_outlook(watch.share, task.elapsed or 0.0))

    columns = (bars.SpinnerColumn(), bars.TextColumn("{task.description}"), bars.TimeElapsedColumn(), Far())
    clock = bars.Progress(*columns, console=console, transient=True)
    clock.add_task(what, total=None)
    timer = Timer(_PATIENCE, clock.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # it may be starting the clock
        clock.stop()


@contextmanager
def _lines(console: Console, what: str, watch: Watch) -> Iterator[None]:
    start, ended = monotonic(), Event()

    def tell() -> None:
        while not ended.wait(LONG):
            seconds = monotonic() - start
            console.print(f"{what}: {seconds:.0f} s, {far(watch.share, seconds) or 'it has just begun'}", markup=False)

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _outlook(share: float, seconds: float) -> str:
    """`far`, and how to end work that takes long."""
    is_long = share > 0 and seconds / share > _LONG_WORK
    return far(share, seconds) + "; Ctrl-C ends it" * is_long


def far(share: float, seconds: float) -> str:
    """The share of the work that is done after so many seconds, and the time left at this pace."""
    if share <= 0:
        return ""
    return f"{share:.0%}, about {_time(seconds / share - seconds)} to go"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
