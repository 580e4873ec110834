"""What is shown while people wait: on standard error, where that is a terminal, and gone when the work is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

from maskdsl.cli.consoles import messages

PATIENCE = 0.7
"""Seconds before anything is said about work that may be quick."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar; gives what sets how much is done."""
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
    """A clock beside what is being done, for work whose end is not known. Nothing is to be printed meanwhile."""
    console = messages()
    if not console.is_terminal:
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # start-up time

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    clock = Progress(*columns, console=console, transient=True)
    clock.add_task(what, total=None)
    timer = Timer(PATIENCE, clock.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # it may be starting the clock
        clock.stop()
