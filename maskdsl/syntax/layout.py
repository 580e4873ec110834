"""Lays out documents with optional line breaks in a width (Wadler's pretty printer). Imports nothing of the project.

A group is laid out on one line if it fits; otherwise all of its own breaks become line ends. A hard break never fits.
A suffix, such as a comment after code, is written at the end of its line and takes no width.
"""

from typing import assert_never

from maskdsl.base.records import dataclass


@dataclass(frozen=True)
class Break:
    flat: str = " "
    hard: bool = False


@dataclass(frozen=True)
class Suffix:
    text: str


@dataclass(frozen=True)
class Nest:
    indent: int
    content: "Document"


@dataclass(frozen=True)
class Group:
    content: "Document"


Document = str | Break | Suffix | Nest | Group | tuple["Document", ...]

LINE = Break()
SOFT = Break("")
HARD = Break(hard=True)


def lay_out(document: Document, width: int) -> str:
    """The text of a document in lines of at most `width` characters where it can be broken; no blanks at line ends."""
    lines: list[str] = []
    line, indent, suffix = "", 0, ""
    pending: list[tuple[int, bool, Document]] = [(0, False, document)]
    while pending:
        level, flat, item = pending.pop()
        match item:
            case str():
                line += item
            case Break() if flat:
                line += item.flat
            case Break():
                lines.append((" " * indent + line + suffix).rstrip())
                line, indent, suffix = "", level, ""
            case Suffix():
                suffix += f"  {item.text}"
            case Nest():
                pending.append((level + item.indent, flat, item.content))
            case Group():
                room = width - indent - len(line)
                pending.append((level, flat or _fits(item.content, pending, room), item.content))
            case tuple():
                pending.extend((level, flat, each) for each in reversed(item))
            case _:
                assert_never(item)
    return "\n".join([*lines, (" " * indent + line + suffix).rstrip()])


def _fits(document: Document, after: list[tuple[int, bool, Document]], room: int) -> bool:
    """Whether a document on one line, and what follows it up to the next line end, fits in `room` characters."""
    at = len(after)
    pending: list[tuple[bool, Document]] = [(True, document)]
    while room >= 0:
        if not pending:
            if at == 0:
                return True
            at -= 1
            pending.append(after[at][1:])
        flat, item = pending.pop()
        match item:
            case str():
                room -= len(item)
            case Break() if item.hard or not flat:
                return not flat
            case Break():
                room -= len(item.flat)
            case Suffix():
                pass
            case Nest() | Group():
                pending.append((flat, item.content))
            case tuple():
                pending.extend((flat, each) for each in reversed(item))
            case _:
                assert_never(item)
    return False
