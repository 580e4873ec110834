"""Source texts and spans of them. Imports `text` only."""

from bisect import bisect_right
from functools import cached_property
from itertools import pairwise

from maskdsl.base.records import dataclass
from maskdsl.base.text import LINE_END


@dataclass(frozen=True, eq=False)
class Source:
    """A text, and its name in errors: the path of a file as the user gave it, or `<text>`."""

    name: str
    text: str

    @cached_property
    def line_starts(self) -> tuple[int, ...]:
        """The offset of the first character of every line."""
        return (0, *(match.end() for match in LINE_END.finditer(self.text)))

    def position(self, offset: int) -> tuple[int, int]:
        """The line and column of a character, both from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of line `number` (from 1) without its line end."""
        return self.lines[number - 1].rstrip("\r\n")

    @cached_property
    def lines(self) -> list[str]:
        """All lines, their line ends included."""
        return [self.text[start:end] for start, end in pairwise((*self.line_starts, len(self.text)))]


@dataclass(frozen=True)
class Span:
    """The characters `start` to `end` (exclusive) of a source. Line and column are computed when it is printed."""

    source: Source
    start: int
    end: int

    def to(self, other: "Span") -> "Span":
        """The span from the start of this one to the end of `other`, in the same source."""
        return Span(self.source, self.start, other.end)

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]
