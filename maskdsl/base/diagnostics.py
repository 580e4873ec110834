"""What every declared error is made of, and how it is rendered. Imports `source` and `excerpt` only.

An error is a class derived from `Diagnostic`, which makes it a frozen record: its class says the code and the
templates, its fields fill them. The catalogue is `maskdsl/base/errors/`, where each module is named for what its errors
are about. Stages collect diagnostics and raise one `AttnError` that holds all the independent ones. A warning is one
derived from `Caution`: it stops nothing, and goes along with what was made in spite of it.
"""

import string
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from heapq import nsmallest
from itertools import takewhile
from typing import ClassVar, Self, dataclass_transform

from maskdsl.base.excerpt import excerpt
from maskdsl.base.source import Span
from maskdsl.base.text import printable

_MOST_BITS = 256
_MOST_SHOWN = 80
"""Of a user's value, in messages: bits of an integer, and characters."""

_LONGEST_NAME = 100
"""Longer ones are misspellings of nothing."""
MOST_COMPARED = 200
"""Names that one is compared with letter by letter, which takes its time."""
LONGEST_VALUE = 2000
"""Of a field in a message, which may be a name of a megabyte."""


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that explains an error, such as the call of the macro in which it arose."""

    text: str
    span: Span | None = None


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _DiagnosticClass:
    """Gives classes that derive from it fields by their annotations, to be set by name.

    What frozen dataclasses do, without the time that they take to be made: there are more than a hundred errors, and
    every start of the command line makes them all.
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
    """One mistake of a user. Templates take the fields of the class by name: `no axis named {name}`."""

    severity: ClassVar[str] = "error"
    code: ClassVar[str]
    message: ClassVar[str]
    label: ClassVar[str] = ""
    help: ClassVar[str] = ""

    span: Span | None = None
    notes: tuple[Note, ...] = ()
    nearest: str | None = None
    """A name that the user may have meant, from `nearest_name`."""

    def fill(self, template: str) -> str:
        values = {name: _cut(getattr(self, name)) for name in self.fields()}
        return string.Formatter().vformat(template, (), values)

    def with_notes(self, *notes: Note) -> Self:
        """This with more notes behind its own."""
        return type(self)(**{**vars(self), "notes": (*self.notes, *notes)})

    def at(self, span: Span | None) -> Self:
        """This at another place."""
        return type(self)(**{**vars(self), "span": span})


class Caution(Diagnostic):
    """What a user probably did not mean. Its code begins with a W, and a comment `# allow: W001` silences it."""

    severity = "warning"


class AttnWarning(UserWarning):
    """The category of warnings about patterns, for `warnings.filterwarnings`. `str()` is the whole rendering."""

    __module__ = "maskdsl"  # the public name, in tracebacks and pickles

    def __init__(self, caution: Caution) -> None:
        super().__init__(caution)
        self.caution = caution

    def __str__(self) -> str:
        return render(self.caution)


def warn(cautions: Iterable[Caution]) -> None:
    """An `AttnWarning` for each, at the line outside of this package that led here."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    for each in cautions:
        warnings.warn(AttnWarning(each), stacklevel=level)


class AttnError(Exception):
    """Everything that was wrong with what the user gave, at least one diagnostic. `str()` is the whole rendering."""

    __module__ = "maskdsl"

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(*diagnostics)
        self.diagnostics = diagnostics

    def __str__(self) -> str:
        parts = [render(diagnostic) for diagnostic in self.diagnostics]
        return "\n\n".join(parts if len(parts) == 1 else [*parts, f"found {len(parts)} errors"])

    def __repr__(self) -> str:
        """What `torch.compile` shows of an error that it comes upon."""
        return f"AttnError({self})"


def _cut(value: object) -> object:
    """A text too long to be read, shortened."""
    return f"{value[:LONGEST_VALUE]}..." if isinstance(value, str) and len(value) > LONGEST_VALUE else value


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if one is like it at all."""
    if len(name) > _LONGEST_NAME:
        return None
    likely = nsmallest(MOST_COMPARED, known, key=lambda other: _unlikeness(name, other))
    matches = get_close_matches(name, likely, n=1, cutoff=0.6)
    return matches[0] if matches else None


def shown(value: object) -> str:
    """What a user gave, as messages say it: on one line, cut where it is long."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length():,} bits"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever the user's own class does
        text = f"a {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _unlikeness(name: str, other: str) -> int:
    """Cheap to find: how much of two names is not what they begin and end with alike."""
    return max(len(name), len(other)) - _common(name, other) - _common(reversed(name), reversed(other))


def _common(some: Iterable[str], others: Iterable[str]) -> int:
    """How many characters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False)))


def render(diagnostic: Diagnostic) -> str:
    """Plain text: code and message, then file:line:column, the source line and carets, notes, help."""
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {printable(diagnostic.fill(diagnostic.message))}"]
    if diagnostic.span is not None:
        lines += excerpt(diagnostic.span, printable(diagnostic.fill(diagnostic.label)))
    for note in diagnostic.notes:
        lines.append(f"  note: {printable(note.text)}")
        if note.span is not None:
            lines += excerpt(note.span, "")
    if diagnostic.nearest is not None:
        lines.append(f"  help: did you mean `{printable(diagnostic.nearest)}`?")
    if diagnostic.help:
        lines.append(f"  help: {printable(diagnostic.fill(diagnostic.help))}")
    return "\n".join(lines)
