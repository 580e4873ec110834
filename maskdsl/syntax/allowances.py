"""Comments such as `# allow: W001` that silence warnings: the spans they reach, and whether a warning is in one.

A comment in a statement, after it on its line, or above it reaches the whole statement; one above a declaration the
whole declaration. The formatter moves no comment out of its reach.
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
    """An allowed code, its span in the comment, and the span in which warnings of this code are silenced."""

    code: str
    span: Span
    reach: Span | None


def allowances(file: tree.File) -> Iterator[Allowance]:
    """All codes that the comments of a file allow."""

    @cache
    def inside(*path: int) -> _Spans | None:
        """The spans of the declarations, or of the statements of the pattern or branch at this path; None elsewhere."""
        nodes: Sequence[tree.Node] = file.declarations
        for number in path:
            node = nodes[number]
            if not isinstance(node, tree.PatternDeclaration | tree.BranchStatement):
                return None
            nodes = node.statements
        return _Spans([each.span for each in nodes])

    def reach(comment: Span, *path: int) -> Span | None:
        """The statement or declaration that a comment is in, beside or above; None if there is none."""
        spans = inside(*path)
        assert spans is not None
        around = spans.around(comment)
        if around is None:
            return spans.at(comment)
        return spans.spans[around] if inside(*path, around) is None else reach(comment, *path, around)

    for comment in file.comments:
        match = _ALLOWANCE.match(comment.text)
        for code in re.finditer(r"\w+", match[1]) if match else ():
            assert match is not None
            start = comment.span.start + match.start(1) + code.start()
            span = Span(comment.span.source, start, start + len(code[0]))
            yield Allowance(code[0], span, reach(comment.span))


def unknown_allowances(allowed: Iterable[Allowance]) -> Iterator[Caution]:
    """Warnings (W002) for allowed codes that no warning has."""
    known = f"`{min(CODES)}` to `{max(CODES)}`"
    for code, span, _ in allowed:
        if code not in CODES:
            yield UnknownAllowance(span=span, name=code, known=known, nearest=nearest_name(code, CODES))


class Allowed:
    """The warnings that comments silence, looked up by span: there may be thousands of both."""

    def __init__(self, allowed: Iterable[Allowance]) -> None:
        reaches: dict[tuple[str, int], list[Span]] = {}
        for code, _, reach in allowed:
            if reach is not None:
                reaches.setdefault((code, id(reach.source)), []).append(reach)
        self.spans = {key: _Spans(_outermost(spans)) for key, spans in reaches.items()}

    def __contains__(self, caution: Caution) -> bool:
        """Whether an allowance reaches the warning, or one of the calls that led to it."""
        spans = [caution.span, *(note.span for note in caution.notes)]
        return any(self.reaches(caution.code, span) for span in spans if span is not None)

    def reaches(self, code: str, span: Span) -> bool:
        """Whether an allowance of this code reaches a span."""
        spans = self.spans.get((code, id(span.source)))
        return spans is not None and spans.around(span) is not None


def _outermost(spans: Iterable[Span]) -> list[Span]:
    """The spans that are not inside others, in the order of the text."""
    outermost: list[Span] = []
    for each in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not outermost or each.start >= outermost[-1].end:
            outermost.append(each)
    return outermost


class _Spans:
    """Disjoint spans of one text, in order."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.starts = [each.start for each in spans]

    def around(self, span: Span) -> int | None:
        """The number of the span in which `span` begins."""
        number = bisect_right(self.starts, span.start) - 1
        return number if number >= 0 and span.start < self.spans[number].end else None

    def at(self, comment: Span) -> Span | None:
        """The span that ends on the line of a comment or after it; else the next span."""
        number = bisect_left(self.starts, comment.start)
        line, _ = comment.source.position(comment.start)
        if number and line <= _last_line(self.spans[number - 1]):
            return self.spans[number - 1]
        return self.spans[number] if number < len(self.spans) else None


def _last_line(span: Span) -> int:
    return span.source.position(span.end - 1)[0]
