"""What is found wrong while a pattern is bound, and the limits that keep hostile files harmless."""

from dataclasses import dataclass, field

from maskdsl.bind.values import BAD, Bad
from maskdsl.diagnostics import AttnError, Caution, Diagnostic, Note
from maskdsl.errors import binding as errors
from maskdsl.source import Span

MOST_STEPS = 100_000
"""How many nodes of the tree may be elaborated, each time that one is."""
MOST_NODES = 100_000
"""How many nodes an expression of the IR may have."""
DEEPEST = 100
"""How deeply expressions may be nested, with all macros expanded."""
MOST_NOTES = 4


@dataclass
class Report:
    """Collects diagnostics; the one thing here that changes."""

    found: dict[tuple[object, ...], Diagnostic] = field(default_factory=dict)
    cautions: dict[tuple[object, ...], Caution] = field(default_factory=dict)
    steps: int = 0
    depth: int = 0

    def add(self, diagnostic: Diagnostic, calls: tuple[Note, ...] = ()) -> Bad:
        """Reports something once; `calls` are the macro calls around it, innermost last."""
        key = (type(diagnostic), diagnostic.span, diagnostic.fill(diagnostic.message))
        self.found.setdefault(key, diagnostic.with_notes(*reversed(calls[-MOST_NOTES:])))
        return BAD

    def warn(self, caution: Caution) -> None:
        """Keeps a warning, once for each way to its place."""
        key = (type(caution), caution.span, caution.notes, caution.fill(caution.message))
        self.cautions.setdefault(key, caution)

    def enter(self, span: Span, calls: tuple[Note, ...]) -> None:
        """Counts a node of the tree that is elaborated, inside those that have not been left."""
        self.steps += 1
        self.depth += 1
        if self.steps > MOST_STEPS:
            self.stop(errors.TooLarge(span=span, limit=MOST_STEPS))
        if self.depth > DEEPEST:
            self.stop(errors.TooDeep(span=span, limit=DEEPEST), calls)

    def leave(self) -> None:
        self.depth -= 1

    def trial(self) -> "Report":
        """A report of its own for something that may not apply, with the same limits."""
        return Report(steps=self.steps, depth=self.depth)

    def adopt(self, trial: "Report") -> None:
        """Takes over what was counted and warned of in a trial, its errors aside."""
        self.steps = trial.steps
        self.cautions.update(trial.cautions)

    def stop(self, diagnostic: Diagnostic, calls: tuple[Note, ...] = ()) -> None:
        """Reports something after which going on makes no sense."""
        self.add(diagnostic, calls)
        self.check()

    def check(self) -> None:
        """Raises if anything was wrong."""
        if self.found:
            raise AttnError(*self.found.values())
