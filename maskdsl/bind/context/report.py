"""What is found wrong while a pattern is bound, and the limits that keep hostile files harmless."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from maskdsl.base.diagnostics import AttnError, Caution, Diagnostic, Note, nearest_name
from maskdsl.base.errors.language.limits import TooDeep, TooLarge, TooManyErrors
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad

_MOST_STEPS = 50_000
"""How many nodes of the tree may be elaborated, each time that one is."""
MOST_STEPS_TOGETHER = 2 * _MOST_STEPS
"""How many for one answer: by all layers of a stack, or all patterns of a file that is checked."""
MOST_NODES = 100_000
"""How many nodes an expression of the IR may have."""
DEEPEST = 100
"""How deeply expressions may be nested, with all macros expanded."""
MOST_NOTES = 4
MOST_ERRORS = 100
"""So many are reported together; nobody reads more, and each costs its time."""
MOST_SUGGESTIONS = 20
"""How many unknown names are compared with those that are known."""


@dataclass
class Together:
    """What the patterns that are bound for one answer have done so far."""

    steps: int = 0

    @property
    def is_spent(self) -> bool:
        return self.steps > MOST_STEPS_TOGETHER


@dataclass
class WorkSpent:
    """What has been done so far, trials included."""

    steps: int = 0
    suggestions: int = 0
    together: Together = field(default_factory=Together)


@dataclass
class Report:
    """Collects diagnostics; the one thing here that changes."""

    found: dict[tuple[object, ...], Diagnostic] = field(default_factory=dict)
    cautions: dict[tuple[object, ...], Caution] = field(default_factory=dict)
    work: WorkSpent = field(default_factory=WorkSpent)
    depth: int = 0
    is_trial: bool = False

    def add(self, diagnostic: Diagnostic, calls: tuple[Note, ...] = ()) -> Bad:
        """Reports something once; `calls` are the macro calls around it, innermost last."""
        key = (type(diagnostic), diagnostic.span, diagnostic.fill(diagnostic.message))
        self.found.setdefault(key, diagnostic.with_notes(*reversed(calls[-MOST_NOTES:])))
        self._limit()
        return BAD

    def warn(self, caution: Caution) -> None:
        """Keeps a warning, once for each way to its place."""
        key = (type(caution), caution.span, caution.notes, caution.fill(caution.message))
        self.cautions.setdefault(key, caution)

    def take(self, trial: "Report") -> None:
        """Reports what a trial found."""
        self.found.update({**trial.found, **self.found})
        self._limit()

    def _limit(self) -> None:
        """Stops where more was found than anybody reads; a trial may yet come to nothing."""
        if len(self.found) > MOST_ERRORS and not self.is_trial:
            raise AttnError(*list(self.found.values())[:MOST_ERRORS], TooManyErrors(limit=MOST_ERRORS))

    def nearest(self, name: str, known: Iterable[str]) -> str | None:
        """The known name most like one that is unknown."""
        self.work.suggestions += 1
        return nearest_name(name, known) if self.work.suggestions <= MOST_SUGGESTIONS else None

    def enter(self, span: Span, calls: tuple[Note, ...]) -> None:
        """Counts a node of the tree that is elaborated, inside those that have not been left."""
        self.work.steps += 1
        self.work.together.steps += 1
        self.depth += 1
        if self.work.steps > _MOST_STEPS:
            self.stop(TooLarge(span=span, what="the pattern is", limit=_MOST_STEPS))
        if self.work.together.is_spent:
            self.stop(TooLarge(span=span, what="the patterns together are", limit=MOST_STEPS_TOGETHER))
        if self.depth > DEEPEST:
            self.stop(TooDeep(span=span, limit=DEEPEST), calls)

    def leave(self) -> None:
        self.depth -= 1

    def trial(self) -> "Report":
        """A report of its own for something that may not apply, with the same limits."""
        return Report(work=self.work, depth=self.depth, is_trial=True)

    def adopt(self, trial: "Report") -> None:
        """Takes over what was warned of in a trial, its errors aside."""
        self.cautions.update(trial.cautions)

    def stop(self, diagnostic: Diagnostic, calls: tuple[Note, ...] = ()) -> None:
        """Reports something after which going on makes no sense."""
        self.add(diagnostic, calls)
        self.check()

    def check(self) -> None:
        """Raises if anything was wrong."""
        if self.found:
            raise AttnError(*self.found.values())
