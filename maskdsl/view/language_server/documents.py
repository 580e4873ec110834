"""The texts of an editor, parsed as far as possible: half-typed lines are left out, and everything else is parsed."""

import re
from collections.abc import Iterator
from functools import cached_property
from math import inf
from os.path import normpath, relpath
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.language.syntax import UnclosedBracket
from maskdsl.base.records import dataclass
from maskdsl.base.source import Source
from maskdsl.base.text import LINE_END
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse
from maskdsl.syntax.program import Program, program_from_text
from maskdsl.syntax.standard_library import standard_library

_MOST_REPAIRS = 20
"""The most lines that are left out of a text before all of it is given up; fewer for long texts."""
_MOST_REPAIRED = 200_000
"""The most characters that are parsed again, over all repairs of a text."""
_BEGIN = re.compile(r"[\r\n](?:[ \t]*##[^\r\n]*(?:\r\n|\r|\n))*[ \t]*(?:use|def|pattern|stack)\b")


@dataclass(frozen=True)
class Document:
    """One version of a text. Its `name` in errors is the path of its file, or its URI."""

    uri: str
    text: str

    @cached_property
    def path(self) -> Path | None:
        address = urlsplit(self.uri)
        return Path(unquote(address.path)) if address.scheme == "file" else None

    @property
    def name(self) -> str:
        return self.uri if self.path is None else str(self.path)

    @cached_property
    def lines(self) -> "Lines":
        return Lines(self.text)

    def program(self, text: str) -> Program:
        """The program of a version of the text. Raises `AttnError`."""
        return program_from_text(text, self.name, None if self.path is None else self.path.parent)

    @cached_property
    def understood(self) -> Program:
        """The program of the readable lines, with the spans of the text. Never raises `AttnError`."""
        text = readable(self.text)
        try:
            return self.program(text)
        except AttnError:  # a used file cannot be read, or a name is declared twice
            return Program(root := parse(Source(self.name, text)), (standard_library(), root))

    def declaration_at(self, offset: int) -> tree.Declaration | None:
        """The declaration around an offset, or the last one before it if it is not closed yet."""
        before = [each for each in self.understood.root.declarations if each.span.start <= offset]
        return before[-1] if before and not self.text[before[-1].span.end : offset].strip() else None


def uri_of(source: Source) -> str | None:
    """The URI of a used file; None for texts that are not files, such as the standard library."""
    path = Path(normpath(source.name))
    return path.as_uri() if path.is_absolute() else None


def readable(text: str) -> str:
    """The text with blanks in place of lines that cannot be parsed; empty if there are too many."""
    result = _closed(text)
    for _ in range(min(_MOST_REPAIRS, _MOST_REPAIRED // max(len(text), 1))):
        if result.mistake is None:
            break
        repairs = [_closed(each) for each in _repairs(result, text)]
        result = max(repairs, key=lambda each: each.reach, default=_ReadText("", None))
    return result.text if result.mistake is None else ""


class _ReadText(NamedTuple):
    """A text and its first mistake."""

    text: str
    mistake: Diagnostic | None

    @property
    def reach(self) -> float:
        """The offset up to which the text is right."""
        if self.mistake is None:
            return inf
        return -1 if self.mistake.span is None else self.mistake.span.start


def _read(text: str) -> _ReadText:
    try:
        parse(Source("", text))
    except AttnError as error:
        return _ReadText(text, error.diagnostics[0])
    return _ReadText(text, None)


def _closed(text: str) -> _ReadText:
    """The text with each missing `}` added, before the next declaration or at the end."""
    result, last = _read(text), -1
    while isinstance(result.mistake, UnclosedBracket) and result.mistake.opener == "{" and result.reach > last:
        last = int(result.reach)
        following = _BEGIN.search(text, last)
        text = f"{text}\n}}" if following is None else f"{text[: following.start()]}}}{text[following.start() + 1 :]}"
        result = _read(text)
    return result


def _repairs(wrong: _ReadText, original: str) -> Iterator[str]:
    """The text without the line of its mistake, and without the line before, which may be incomplete.

    Lines are those of the original. The text keeps its length, but a line end may have become a `}`.
    """
    if wrong.mistake is None or wrong.mistake.span is None:
        return
    lines = Lines(original)
    number, _ = lines.position(wrong.mistake.span.start)
    for _ in range(2):
        while number and not wrong.text[lines.starts[number] : lines.ends[number]].strip():
            number -= 1
        start, end = lines.starts[number], lines.ends[number]
        yield wrong.text[:start] + " " * (end - start) + wrong.text[end:]
        number = max(number - 1, 0)


class Lines:
    """Converts offsets of a text to positions of the protocol: lines from 0, and UTF-16 units from 0 within a line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in LINE_END.finditer(text))]
        self.ends = [*(match.start() for match in LINE_END.finditer(text)), len(text)]

    def offset(self, line: int, units: int) -> int:
        """The offset of a position; the end of the line or of the text if the position is beyond it."""
        if line >= len(self.starts):
            return len(self.text)
        at = self.starts[line]
        while units > 0 and at < self.ends[line]:
            units -= _units(self.text[at])
            at += 1
        return at

    def before(self, offset: int) -> str:
        """The text of a line before an offset in it."""
        return self.text[self.starts[self.position(offset)[0]] : offset]

    def position(self, offset: int) -> tuple[int, int]:
        """The line and the unit of an offset."""
        offset = min(offset, len(self.text))
        low, high = 0, len(self.starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.starts[middle] <= offset else (low, middle)
        return low, sum(map(_units, self.text[self.starts[low] : offset]))


def _units(character: str) -> int:
    return 2 if ord(character) > 0xFFFF else 1


def shown_name(source: Source, document: Document) -> str:
    """The path of another file relative to the document's folder, for people."""
    if document.path is None or not Path(source.name).is_absolute():
        return source.name
    return relpath(source.name, document.path.parent)
