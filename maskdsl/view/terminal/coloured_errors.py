"""Colours errors and warnings. The text is that of `str(error)`, line for line."""

import re

from rich.text import Text

_RULES: tuple[tuple[str, str], ...] = (
    (r"(?m)^(error|warning)\[[EW]\d+\]: .*$", "bold"),
    (r"(?m)^error\[E\d+\]", "bold red"),
    (r"(?m)^warning\[W\d+\]", "bold yellow"),
    (r"(?m)^ *--> .*$", "blue"),
    (r"(?m)^ *\d* \|(?= |$)", "blue"),
    (r"(?m)(?<=\| )[ |_/]*\^+.*$", "red"),
    (r"(?m)^ *help:", "bold cyan"),
    (r"(?m)^ *note:", "bold green"),
    (r"(?m)^found \d+ errors$", "bold red"),
)


def coloured_error(rendered: str) -> Text:
    """A rendered error with colours."""
    text = Text(rendered)
    for pattern, style in _RULES:
        for match in re.finditer(pattern, rendered):
            text.stylize(style, *match.span())
    return text
