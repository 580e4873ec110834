"""`PatternText`: what a mask was bound from, so that it can be bound again: for other heads, or in another process."""

from pathlib import PurePath

from maskdsl.analysis.orders.binding import bind_mask
from maskdsl.base.records import dataclass
from maskdsl.base.source import Source
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.syntax.program import Program, program_of_files


@dataclass(frozen=True)
class PatternText:
    """A pattern at values of its parameters, by the texts of its files."""

    files: tuple[tuple[str, str], ...]
    """Names and texts of all files but the standard library; the last one is the root."""
    pattern: str
    values: tuple[tuple[str, object], ...]
    order: str | None = None
    branch: str = ""
    """The branch that the mask is; empty for a whole pattern."""
    summed: tuple[int, ...] = ()
    """The numbers of the branches whose sum is meant; empty for the whole mask."""
    lists: bool = False
    """Whether the form is meant whose routes give lists."""

    @property
    def program(self) -> Program:
        """The program of the files."""
        return program_of_files([Source(name, text) for name, text in self.files])

    def bound(self, heads: Heads) -> MaskIR:
        """The mask for these heads. Raises `AttnError` as `Pattern.bind` does."""
        mask = bind_mask(self.program, self.pattern, dict(self.values), heads, self.order)
        return next((each for each in mask.branches if each.branch == self.branch), mask)


def texts_of(program: Program) -> tuple[tuple[str, str], ...]:
    """The `files` of a program. Names are those of the files alone: their folders are nobody else's matter."""
    sources = [each.span.source for each in program.files[1:]]
    return tuple((PurePath(each.name).name, each.text) for each in sources)
