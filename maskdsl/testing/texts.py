"""Texts of expressions with their precedence, joined with the parentheses that they need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

Draw = Callable[[st.SearchStrategy[T]], T]


class Level(IntEnum):
    """The precedence of an expression, loosest first; one level for each rule of the grammar."""

    CONDITIONAL = auto()
    OR = auto()
    AND = auto()
    NOT = auto()
    COMPARISON = auto()
    ARROW = auto()
    SUM = auto()
    PRODUCT = auto()
    SIGNED = auto()
    POWER = auto()
    ATOM = auto()


@dataclass(frozen=True)
class Piece:
    """The text of an expression. The absolute value of a number is at most `reach`."""

    text: str
    level: Level = Level.ATOM
    reach: float = 0

    def at(self, level: Level) -> str:
        """The text, in parentheses if its precedence is below `level`."""
        return self.text if self.level >= level else f"({self.text})"


def infix(sign: str, left: Piece, right: Piece, level: Level, reach: float = 0) -> Piece:
    """The text of a left-associative operator."""
    return Piece(f"{left.at(level)} {sign} {right.at(Level(level + 1))}", level, reach)


def call(name: str, *arguments: Piece | str, reach: float = 0) -> Piece:
    """The text of a call."""
    texts = [each if isinstance(each, str) else each.text for each in arguments]
    return Piece(f"{name}({', '.join(texts)})", Level.ATOM, reach)


def number(value: int | float) -> Piece:
    """The text of a number."""
    return Piece(str(value), Level.ATOM if value >= 0 else Level.SIGNED, abs(value))


def conditional(condition: Piece, then: Piece, otherwise: Piece) -> Piece:
    """The text of `then if condition else otherwise`."""
    text = f"{then.at(Level.OR)} if {condition.at(Level.OR)} else {otherwise.at(Level.CONDITIONAL)}"
    return Piece(text, Level.CONDITIONAL, max(then.reach, otherwise.reach))


def choose(draw: Draw[T], options: Sequence[T]) -> T:
    """One of the options; failures shrink toward the first."""
    return draw(st.sampled_from(options))
