"""The consoles of the command line: results go to standard output, everything else to standard error."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from maskdsl.base.diagnostics import AttnError, AttnWarning, Caution, render
from maskdsl.base.text import printable_lines
from maskdsl.view.terminal.coloured_errors import coloured_error


class _Safe(Console):
    """A console that prints no text as an escape sequence, whether names of files, values or foreign messages."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            known = segment.control or text.isprintable()
            yield segment if known else Segment(printable_lines(text), segment.style)


def output() -> Console:
    """The console of results."""
    return _Safe(highlight=False)


def messages() -> Console:
    """The console of errors, warnings, notes and progress."""
    return _Safe(stderr=True, highlight=False)


def print_error(error: AttnError) -> None:
    messages().print(coloured_error(str(error)), soft_wrap=True)


def print_warning(caution: Caution) -> None:
    messages().print(coloured_error(render(caution)), soft_wrap=True)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Shows warnings about patterns in the style of errors, each once."""
    with warnings.catch_warnings():
        warnings.simplefilter("once", AttnWarning)
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if isinstance(message, AttnWarning):
                print_warning(message.caution)
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def note(text: str) -> None:
    """Prints a note, which is no part of the result."""
    messages().print(f"note: {text}", style="yellow", markup=False)
