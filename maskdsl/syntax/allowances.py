"""Comments such as `# allow: W001`, which silence warnings: what they reach, and whether a warning is among it.

One that stands in a statement, behind it on its line, or above it reaches all of the statement; one above a
declaration all of the declaration. Where the formatter puts comments, they reach what they reached before.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from maskdsl.base.diagnostics import Caution, nearest_name
from maskdsl.base.errors.language.warnings import CODES, UnknownAllowance
from maskdsl.base.source import Span
from maskdsl.syntax import tree

_ALLOWANCE = re.compile(r"#+\s*allow:\s*([A-Z]\d+(?:\s*,\s*[A-Z]\d+)*)")


class Allowance(NamedTuple):
    """A code, where it stands, and the span in which warnings of it are silenced."""

    code: str
    position: Span
    reach: Span | None


def allowances(file: tree.File) -> Iterator[Allowance]:
    declarations = _Spans([each.span for each in file.declarations])

    @cache
    def inside(number: int) -> _Spans | None:
        """The statements of a declaration that has any."""
        declaration = file.declarations[number]
        if isinstance(declaration, tree.PatternDeclaration):
            return _Spans([each.span for each in declaration.statements])
        return None

    def reach(comment: Span) -> Span | None:
        """The statement or the declaration that a comment stands in, beside or above; None where there is none."""
        around = declarations.around(comment)
        if around is None:
            return declarations.at(comment)
        statements = inside(around)
        return declarations.spans[around] if statements is None else statements.at(comment)

    for comment in file.comments:
        match = _ALLOWANCE.match(comment.text)
        for code in re.finditer(r"\w+", match[1]) if match else ():
            assert match is not None
            start = comment.span.start + match.start(1) + code.start()
            position = Span(comment.span.source, start, start + len(code[0]))
            yield Allowance(code[0], position, reach(comment.span))


def unknown_allowances(allowed: Iterable[Allowance]) -> Iterator[Caution]:
    """Codes that no warning has."""
    known = ", ".join(f"`{each}`" for each in CODES)
    for code, position, _ in allowed:
        if code not in CODES:
            yield UnknownAllowance(span=position, name=code, known=known, nearest=nearest_name(code, CODES))


class Allowed:
    """What comments silence; found by place, as there may be thousands of both."""

    def __init__(self, allowed: Iterable[Allowance]) -> None:
        reaches: dict[tuple[str, int], list[Span]] = {}
        for code, _, reach in allowed:
            if reach is not None:
                reaches.setdefault((code, id(reach.source)), []).append(reach)
        self.spans = {key: _Spans(_outermost(found)) for key, found in reaches.items()}

    def __contains__(self, caution: Caution) -> bool:
        """Whether an allowance reaches its place, or one of the calls on the way there."""
        positions = [caution.span, *(note.span for note in caution.notes)]
        return any(self._reaches(caution.code, position) for position in positions if position is not None)

    def _reaches(self, code: str, position: Span) -> bool:
        spans = self.spans.get((code, id(position.source)))
        return spans is not None and spans.around(position) is not None


def _outermost(spans: Iterable[Span]) -> list[Span]:
    """Without those that are inside others, in the order of the text."""
    found: list[Span] = []
    for each in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not found or each.start >= found[-1].end:
            found.append(each)
    return found


class _Spans:
    """Spans of one text that follow each other."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.starts = [each.start for each in spans]

    def around(self, position: Span) -> int | None:
        """The number of the one that a place begins in."""
        number = bisect_right(self.starts, position.start) - 1
        return number if number >= 0 and position.start < self.spans[number].end else None

    def at(self, comment: Span) -> Span | None:
        """The one that ends on the line of a comment, or goes on there; else the next one."""
        number = bisect_left(self.starts, comment.start)
        line, _ = comment.source.position(comment.start)
        if number and line <= _last_line(self.spans[number - 1]):
            return self.spans[number - 1]
        return self.spans[number] if number < len(self.spans) else None


def _last_line(span: Span) -> int:
    return span.source.position(span.end - 1)[0]
