"""Where the command line writes: results to standard output, everything else to standard error."""

from rich.console import Console

from maskdsl.diagnostics import AttnError
from maskdsl.view.errors import coloured_error


def output() -> Console:
    return Console(highlight=False)


def messages() -> Console:
    return Console(stderr=True, highlight=False)


def print_error(error: AttnError) -> None:
    messages().print(coloured_error(str(error)), soft_wrap=True)


def note(text: str) -> None:
    messages().print(f"note: {text}", style="yellow", markup=False)
