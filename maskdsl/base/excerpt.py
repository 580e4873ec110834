"""The lines of a span with carets below it, for error messages. Imports `source` and `text` only.

Tabs and wide characters are laid out so that the carets line up. Unprintable characters are replaced, so that no text
of a file reaches the terminal as an escape sequence. Long lines are cut around the span.
"""

import unicodedata
from typing import NamedTuple

from maskdsl.base.source import Span
from maskdsl.base.text import printable

WIDTH = 120
_TAB = 4
_MOST_LINES = 4


def excerpt(span: Span, label: str) -> list[str]:
    """The rows of an excerpt: file, line and column of the span, its lines, and carets below it with the label."""
    source = span.source
    end_of_text = len(source.text.rstrip())
    start = min(span.start, end_of_text)
    end = max(start, min(span.end, end_of_text))
    first, column = source.position(start)
    last, last_column = source.position(max(start, end - 1))
    if first == last:
        rows = _one_line(first, source.line(first), column - 1, last_column if end > start else column, label)
    else:
        lines = [(number, source.line(number)) for number in _numbers(first, last)]
        rows = _several_lines(lines, column - 1, last_column - 1, label)
    gutter = max(len(number) for number, _ in rows)
    head = [f"{' ' * gutter}--> {printable(source.name)}:{first}:{column}", f"{' ' * gutter} |"]
    return head + [f"{number:>{gutter}} | {text}".rstrip() for number, text in rows]


class _Shown(NamedTuple):
    """A line as printed, and the columns at which the span begins and ends in it."""

    text: str
    start: int
    end: int


def _show(text: str, start: int, end: int) -> _Shown:
    """A line as printed, cut around the characters `start` to `end` if it is long."""
    left = max(0, min(start - WIDTH // 3, len(text) - WIDTH))
    right = min(len(text), left + WIDTH)
    shown = "..." if left else ""
    column, columns = len(shown), []
    for character in text[left:right]:
        columns.append(column)
        cell = " " * (_TAB - column % _TAB) if character == "\t" else printable(character)
        shown += cell
        column += _width(cell)
    columns.append(column)
    start, end = (columns[min(offset - left, len(columns) - 1)] for offset in (start, end))
    return _Shown(shown + ("..." if right < len(text) else ""), start, end)


def _width(cell: str) -> int:
    """The number of terminal columns that one printed character takes."""
    if unicodedata.combining(cell[0]) or unicodedata.category(cell[0]) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(cell[0]) in "WF" else len(cell)


def _numbers(first: int, last: int) -> list[int]:
    """The numbers of the lines that are shown: of many, the first two and the last."""
    return list(range(first, last + 1)) if last - first < _MOST_LINES else [first, first + 1, last]


def _one_line(number: int, text: str, start: int, end: int, label: str) -> list[tuple[str, str]]:
    shown = _show(text, start, end)
    carets = "^" * max(1, shown.end - shown.start)
    return [(str(number), shown.text), ("", f"{' ' * shown.start}{carets} {label}")]


def _several_lines(lines: list[tuple[int, str]], start: int, end: int, label: str) -> list[tuple[str, str]]:
    """The lines with a bar at their left, from the first character of the span to its last."""
    (first, opening), *middle, (last, closing) = lines
    shown = _show(opening, start, start)
    rows = [(str(first), f"  {shown.text}"), ("", f" _{'_' * shown.start}^")]
    if not opening[:start].strip():
        rows = [(str(first), f"/ {shown.text}")]
    rows += [(str(number), f"| {_show(text, 0, 0).text}") for number, text in middle]
    if last - first >= _MOST_LINES:
        rows.append(("...", "|"))
    shown = _show(closing, end, end)
    return [*rows, (str(last), f"| {shown.text}"), ("", f"|_{'_' * shown.start}^ {label}")]
