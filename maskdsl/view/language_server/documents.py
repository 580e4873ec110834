"""The text of an editor as far as it can be read: half-typed lines are left out, and everything else is understood."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf
from os.path import normpath, relpath
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.language.syntax import UnclosedBracket
from maskdsl.base.source import Source
from maskdsl.base.text import LINE_END
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse
from maskdsl.syntax.program import Program, program_from_text, standard_library

HEADS = 4
"""Enough for patterns whose heads differ."""
_MOST_REPAIRS = 20
"""So many lines may be left out of a text before none of it is understood; fewer where it is long."""
_MOST_REPAIRED = 200_000
"""Characters that are looked at again, all repairs together."""
_BEGIN = re.compile(r"[\r\n](?:[ \t]*##[^\r\n]*(?:\r\n|\r|\n))*[ \t]*(?:use|def|pattern|stack)\b")


@dataclass(frozen=True)
class Document:
    """One version of a text. `name` is what errors call it: the path of its file, or its URI if it has none."""

    uri: str
    text: str

    @cached_property
    def path(self) -> Path | None:
        parts = urlsplit(self.uri)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

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
        """The program of what can be read of the text, its places those of the text. Never raises `AttnError`."""
        text = readable(self.text)
        try:
            return self.program(text)
        except AttnError:  # what it uses cannot be read, or names are declared twice
            return Program(root := parse(Source(self.name, text)), (standard_library(), root))

    def declaration_at(self, offset: int) -> tree.Declaration | None:
        """The declaration around a place, or the last one before it where it is not closed yet."""
        before = [each for each in self.understood.root.declarations if each.span.start <= offset]
        return before[-1] if before and not self.text[before[-1].span.end : offset].strip() else None


def uri_of(source: Source) -> str | None:
    """The URI of a used file's text; None where it is no file, as the standard library."""
    path = Path(normpath(source.name))
    return path.as_uri() if path.is_absolute() else None


def readable(text: str) -> str:
    """The text with blanks in place of all lines that are no part of the language; empty if there are too many."""
    found = _closed(text)
    for _ in range(min(_MOST_REPAIRS, _MOST_REPAIRED // max(len(text), 1))):
        if found.mistake is None:
            break
        repairs = [_closed(each) for each in _repairs(found, text)]
        found = max(repairs, key=lambda each: each.reach, default=_ReadText("", None))
    return found.text if found.mistake is None else ""


class _ReadText(NamedTuple):
    """A text and its first mistake."""

    text: str
    mistake: Diagnostic | None

    @property
    def reach(self) -> float:
        """How far the text is right."""
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
    """The text with a `}` in front of the next declaration, or at the end, for each that is missing."""
    found, last = _read(text), -1
    while isinstance(found.mistake, UnclosedBracket) and found.mistake.opener == "{" and found.reach > last:
        last = int(found.reach)
        behind = _BEGIN.search(text, last)
        text = f"{text}\n}}" if behind is None else f"{text[: behind.start()]}}}{text[behind.start() + 1 :]}"
        found = _read(text)
    return found


def _repairs(found: _ReadText, original: str) -> Iterator[str]:
    """The text without the line of its mistake, and without the one before, which may not be complete.

    Lines are those of the original, of which the text has all characters: an end of line may be a `}` by now.
    """
    if found.mistake is None or found.mistake.span is None:
        return
    lines = Lines(original)
    number, _ = lines.position(found.mistake.span.start)
    for _ in range(2):
        while number and not found.text[lines.starts[number] : lines.ends[number]].strip():
            number -= 1
        start, end = lines.starts[number], lines.ends[number]
        yield found.text[:start] + " " * (end - start) + found.text[end:]
        number = max(number - 1, 0)


class Lines:
    """Places of a text as the protocol has them: lines from 0, and UTF-16 units from 0 within them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in LINE_END.finditer(text))]
        self.ends = [*(match.start() for match in LINE_END.finditer(text)), len(text)]

    def offset(self, line: int, units: int) -> int:
        """The character at a place; the end of the line or of the text where there is none."""
        if line >= len(self.starts):
            return len(self.text)
        at = self.starts[line]
        while units > 0 and at < self.ends[line]:
            units -= _units(self.text[at])
            at += 1
        return at

    def before(self, offset: int) -> str:
        """The text of a line in front of a place in it."""
        return self.text[self.starts[self.position(offset)[0]] : offset]

    def position(self, offset: int) -> tuple[int, int]:
        """The line and the unit of a character."""
        offset = min(offset, len(self.text))
        low, high = 0, len(self.starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.starts[middle] <= offset else (low, middle)
        return low, sum(map(_units, self.text[self.starts[low] : offset]))


def _units(character: str) -> int:
    return 2 if ord(character) > 0xFFFF else 1


def shown_name(source: Source, document: Document) -> str:
    """How people know another file: its path from the document's folder."""
    if document.path is None or not Path(source.name).is_absolute():
        return source.name
    return relpath(source.name, document.path.parent)
