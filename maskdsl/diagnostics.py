"""What every declared error is made of, and how it is rendered. Imports `source` and `excerpt` only.

An error is a frozen dataclass derived from `Diagnostic`: its class says the code and the templates, its fields fill
them. The catalogue is `maskdsl/errors/`, one module a stage. Stages collect diagnostics and raise one `AttnError`
that holds all the independent ones.
"""

import string
from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import ClassVar

from maskdsl.excerpt import excerpt, printable
from maskdsl.source import Span


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that explains an error, such as the call of the macro in which it arose."""

    text: str
    span: Span | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One mistake of a user. Templates take the fields of the class by name: `no axis named {name}`."""

    code: ClassVar[str]
    message: ClassVar[str]
    label: ClassVar[str] = ""
    help: ClassVar[str] = ""

    span: Span | None = None
    notes: tuple[Note, ...] = ()
    nearest: str | None = None
    """A name that the user may have meant, from `nearest_name`."""

    def fill(self, template: str) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return string.Formatter().vformat(template, (), values)


class AttnError(Exception):
    """Everything that was wrong with what the user gave, at least one diagnostic. `str()` is the whole rendering."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(*diagnostics)
        self.diagnostics = diagnostics

    def __str__(self) -> str:
        parts = [render(diagnostic) for diagnostic in self.diagnostics]
        return "\n\n".join(parts if len(parts) == 1 else [*parts, f"found {len(parts)} errors"])


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if one is like it at all."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def render(diagnostic: Diagnostic) -> str:
    """Plain text: code and message, then file:line:column, the source line and carets, notes, help."""
    lines = [f"error[{diagnostic.code}]: {printable(diagnostic.fill(diagnostic.message))}"]
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
