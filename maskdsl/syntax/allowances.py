"""Comments such as `# allow: W001`, which silence warnings: what they reach, and whether a warning is among it.

One that stands in a statement, behind it on its line, or above it reaches all of the statement; one above a
declaration all of the declaration. Where the formatter puts comments, they reach what they reached before.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from maskdsl.diagnostics import Caution, nearest_name
from maskdsl.errors.warnings import CODES, UnknownAllowance
from maskdsl.source import Span
from maskdsl.syntax import tree

ALLOWANCE = re.compile(r"#+\s*allow:\s*([A-Z]\d+(?:\s*,\s*[A-Z]\d+)*)")


class Allowance(NamedTuple):
    """A code, where it stands, and the span in which warnings of it are silenced."""

    code: str
    place: Span
    reach: Span | None


def allowances(file: tree.File) -> Iterator[Allowance]:
    for comment in file.comments:
        match = ALLOWANCE.match(comment.text)
        for code in re.finditer(r"\w+", match[1]) if match else ():
            assert match is not None
            start = comment.span.start + match.start(1) + code.start()
            place = Span(comment.span.source, start, start + len(code[0]))
            yield Allowance(code[0], place, _reach(file, comment.span))


def unknown_allowances(file: tree.File) -> Iterator[Caution]:
    """Codes that no warning has."""
    known = ", ".join(f"`{each}`" for each in CODES)
    for code, place, _ in allowances(file):
        if code not in CODES:
            yield UnknownAllowance(span=place, name=code, known=known, nearest=nearest_name(code, CODES))


def is_allowed(caution: Caution, allowed: list[Allowance]) -> bool:
    """Whether an allowance reaches its place, or one of the calls on the way there."""
    places = [caution.span, *(note.span for note in caution.notes)]
    return any(
        code == caution.code and reach is not None and any(_within(place, reach) for place in places)
        for code, _, reach in allowed
    )


def _within(place: Span | None, reach: Span) -> bool:
    return place is not None and place.source is reach.source and reach.start <= place.start < reach.end


def _reach(file: tree.File, comment: Span) -> Span | None:
    """The statement or the declaration that a comment stands in, beside or above; None where there is none."""
    around = next((each for each in file.declarations if _within(comment, each.span)), None)
    match around:
        case None:
            spans = [each.span for each in file.declarations]
        case tree.PatternDeclaration(statements=statements):
            spans = [each.span for each in statements]
        case _:
            return around.span
    line, _ = comment.source.position(comment.start)
    beside = [each for each in spans if each.start < comment.start and line <= _last_line(each)]
    below = [each for each in spans if each.start > comment.start]
    return next(iter([*beside[-1:], *below]), None)


def _last_line(span: Span) -> int:
    return span.source.position(span.end - 1)[0]
