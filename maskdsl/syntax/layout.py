"""Documents that know where they may be broken, and their text within a width. Imports nothing of the project.

A group stands on one line if it fits, else all its own breaks become line ends. A hard break never fits. A suffix,
such as a comment behind code, waits for the end of its line and takes no width.
"""

from dataclasses import dataclass
from typing import assert_never


@dataclass(frozen=True, slots=True)
class Break:
    flat: str = " "
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Suffix:
    text: str


@dataclass(frozen=True, slots=True)
class Nest:
    indent: int
    content: "Document"


@dataclass(frozen=True, slots=True)
class Group:
    content: "Document"


Document = str | Break | Suffix | Nest | Group | tuple["Document", ...]

LINE = Break()
SOFT = Break("")
HARD = Break(hard=True)


def lay_out(document: Document, width: int) -> str:
    """The text of a document, without blanks at line ends."""
    lines: list[str] = []
    line, indent, suffix = "", 0, ""
    pending: list[tuple[int, bool, Document]] = [(0, False, document)]
    while pending:
        level, flat, part = pending.pop()
        match part:
            case str():
                line += part
            case Break() if flat:
                line += part.flat
            case Break():
                lines.append((" " * indent + line + suffix).rstrip())
                line, indent, suffix = "", level, ""
            case Suffix():
                suffix += f"  {part.text}"
            case Nest():
                pending.append((level + part.indent, flat, part.content))
            case Group():
                room = width - indent - len(line)
                pending.append((level, flat or _fits(part.content, pending, room), part.content))
            case tuple():
                pending.extend((level, flat, item) for item in reversed(part))
            case _:
                assert_never(part)
    return "\n".join([*lines, (" " * indent + line + suffix).rstrip()])


def _fits(document: Document, behind: list[tuple[int, bool, Document]], room: int) -> bool:
    """Whether a document on one line, and what follows it up to the next line end, fits in `room` characters."""
    at = len(behind)
    pending: list[tuple[bool, Document]] = [(True, document)]
    while room >= 0:
        if not pending:
            if at == 0:
                return True
            at -= 1
            pending.append(behind[at][1:])
        flat, part = pending.pop()
        match part:
            case str():
                room -= len(part)
            case Break() if part.hard or not flat:
                return not flat
            case Break():
                room -= len(part.flat)
            case Suffix():
                pass
            case Nest() | Group():
                pending.append((flat, part.content))
            case tuple():
                pending.extend((flat, item) for item in reversed(part))
            case _:
                assert_never(part)
    return False
