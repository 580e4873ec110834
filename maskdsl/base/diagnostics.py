"""Declared errors and warnings, and how they are rendered. Imports `source`, `excerpt` and `text` only.

An error is a subclass of `Diagnostic`, a frozen record: the class declares the code and the templates, the fields fill
them. The catalogue is `maskdsl/base/errors/`, with one module for each subject. Stages collect diagnostics and raise
one `AttnError` that holds all independent ones. A warning is a subclass of `Caution`: it stops nothing, and is kept
with the result.
"""

import string
import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from heapq import nsmallest
from itertools import takewhile
from typing import ClassVar, Self, dataclass_transform

from maskdsl.base.excerpt import excerpt
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.base.text import printable

_MOST_BITS = 256
_MOST_SHOWN = 80
"""The most that a message shows of a user's value: bits of an integer, characters of a text."""

_LONGEST_NAME = 100
"""Longer names are not compared with known ones."""
MOST_COMPARED = 200
"""The most names that one name is compared with letter by letter, which is slow."""
LONGEST_VALUE = 2000
"""The most characters of a field in a message: a name may have a megabyte."""


@dataclass(frozen=True)
class Note:
    """A second span that explains an error, such as the call of the macro that it arose in."""

    text: str
    span: Span | None = None


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _DiagnosticClass:
    """Gives its subclasses fields by their annotations, set by keyword.

    This replaces frozen dataclasses, which are slow to create: every start of the command line defines more than a
    hundred errors.
    """

    def __init__(self, **values: object) -> None:
        missing = {name for name in self.fields() - values.keys() if not hasattr(type(self), name)}
        unknown = values.keys() - self.fields()
        assert not missing and not unknown, f"{type(self).__name__}: {missing or unknown}"
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    @classmethod
    @cache
    def fields(cls) -> frozenset[str]:
        """The names of all fields, those of base classes included."""
        kinds = (vars(each).get("__annotations__", {}) for each in cls.__mro__)
        names = (name for annotations in kinds for name, kind in annotations.items() if "ClassVar" not in str(kind))
        return frozenset(names)


class Diagnostic(_DiagnosticClass):
    """One mistake of a user. The templates refer to fields by name: `no axis named {name}`."""

    severity: ClassVar[str] = "error"
    code: ClassVar[str]
    message: ClassVar[str]
    label: ClassVar[str] = ""
    help: ClassVar[str] = ""

    span: Span | None = None
    notes: tuple[Note, ...] = ()
    nearest: str | None = None
    """The name that the user may have meant, from `nearest_name`."""

    def fill(self, template: str) -> str:
        """The template with the fields in it, long ones cut."""
        values = {name: _cut(getattr(self, name)) for name in self.fields()}
        return string.Formatter().vformat(template, (), values)

    def with_notes(self, *notes: Note) -> Self:
        """A copy with these notes after its own."""
        return type(self)(**{**vars(self), "notes": (*self.notes, *notes)})

    def at(self, span: Span | None) -> Self:
        """A copy at this span."""
        return type(self)(**{**vars(self), "span": span})


class Caution(Diagnostic):
    """A warning: something that a user probably did not mean. Its code begins with W; `# allow: W001` silences it."""

    severity = "warning"
    is_of_text: ClassVar[bool] = False
    """Whether it is about the text with its defaults: `check` and editors give it, and binding does not."""


class AttnWarning(UserWarning):
    """The category of warnings about patterns, for `warnings.filterwarnings`. `str()` is the whole rendering."""

    __module__ = "maskdsl"  # the public name, in tracebacks and pickles

    def __init__(self, caution: Caution) -> None:
        super().__init__(caution)
        self.caution = caution

    def __str__(self) -> str:
        return render(self.caution)


def warn(cautions: Iterable[Caution]) -> None:
    """Issues an `AttnWarning` for each that is not of the text, at the caller's line outside this package."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    for each in cautions:
        if not each.is_of_text:
            warnings.warn(AttnWarning(each), stacklevel=level)


class AttnError(Exception):
    """All mistakes found in what the user gave, at least one diagnostic. `str()` is the whole rendering."""

    __module__ = "maskdsl"

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(*diagnostics)
        self.diagnostics = diagnostics

    def __str__(self) -> str:
        texts = [render(diagnostic) for diagnostic in self.diagnostics]
        return "\n\n".join(texts if len(texts) == 1 else [*texts, f"found {len(texts)} errors"])

    def __repr__(self) -> str:
        """The text that `torch.compile` shows for an error raised while it traces."""
        return f"AttnError({self})"


def _cut(value: object) -> object:
    """A text cut to `LONGEST_VALUE` characters; other values as they are."""
    return f"{value[:LONGEST_VALUE]}..." if isinstance(value, str) and len(value) > LONGEST_VALUE else value


def nearest_name(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known name most similar to `name`; None if none is similar enough, from 0 to 1, where 1 is the same."""
    if len(name) > _LONGEST_NAME:
        return None
    likely = nsmallest(MOST_COMPARED, known, key=lambda other: _unlikeness(name, other))
    matches = get_close_matches(name, likely, n=1, cutoff=likeness)
    return matches[0] if matches else None


def shown(value: object) -> str:
    """A user's value as messages show it: on one line, cut if it is long."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length():,} bits"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # the user's class may raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _unlikeness(name: str, other: str) -> int:
    """A cheap distance: the length of the longer name without the common beginning and end."""
    return max(len(name), len(other)) - _common(name, other) - _common(reversed(name), reversed(other))


def _common(some: Iterable[str], others: Iterable[str]) -> int:
    """The length of the common beginning of two texts."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False)))


def render(diagnostic: Diagnostic) -> str:
    """Renders as plain text: code and message, then file:line:column, the source line and carets, notes, help."""
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {printable(diagnostic.fill(diagnostic.message))}"]
    if diagnostic.span is not None:
        lines += excerpt(diagnostic.span, printable(diagnostic.fill(diagnostic.label)))
    for note in diagnostic.notes:
        lines.append(f"  note: {printable(note.text)}")
        if note.span is not None:
            lines += excerpt(note.span, "")
    if diagnostic.nearest is not None:
        lines.append(f"  help: did you mean `{printable(diagnostic.nearest)}`?")
    advice = diagnostic.fill(diagnostic.help)
    if advice:
        lines.append(f"  help: {printable(advice)}")
    return "\n".join(lines)
