"""Collects errors and warnings while a pattern is bound, and enforces the limits that make hostile files harmless."""

from collections.abc import Iterable
from dataclasses import field

from maskdsl.base.diagnostics import AttnError, Caution, Diagnostic, Note, nearest_name
from maskdsl.base.errors.language.limits import TooDeep, TooLarge, TooManyErrors
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad

_MOST_STEPS = 50_000
"""The most elaborations of tree nodes in one pattern; a node counts each time."""
MOST_STEPS_TOGETHER = 2 * _MOST_STEPS
"""The most for one answer: all layers of a stack, or all patterns of a file that is checked."""
MOST_NODES = 100_000
"""The most nodes of an expression of the IR."""
DEEPEST = 100
"""The deepest nesting of expressions, with all macros expanded."""
MOST_NOTES = 4
MOST_ERRORS = 100
"""The most errors that are reported together; nobody reads more, and each takes time."""
MOST_SUGGESTIONS = 20
"""The most unknown names that are compared with the known ones."""


@dataclass
class Together:
    """The work done so far by all patterns that are bound for one answer."""

    steps: int = 0

    @property
    def is_spent(self) -> bool:
        return self.steps > MOST_STEPS_TOGETHER


@dataclass
class WorkSpent:
    """The work done so far for one pattern, trials included."""

    steps: int = 0
    suggestions: int = 0
    together: Together = field(default_factory=Together)


@dataclass
class Report:
    """Collects diagnostics. This is the only mutable state of binding."""

    errors: dict[tuple[object, ...], Diagnostic] = field(default_factory=dict)
    cautions: dict[tuple[object, ...], Caution] = field(default_factory=dict)
    work: WorkSpent = field(default_factory=WorkSpent)
    depth: int = 0
    is_trial: bool = False

    def add(self, diagnostic: Diagnostic, calls: tuple[Note, ...] = ()) -> Bad:
        """Reports an error, once. `calls` are the macro calls around it, innermost last."""
        key = (type(diagnostic), diagnostic.span, diagnostic.fill(diagnostic.message))
        self.errors.setdefault(key, diagnostic.with_notes(*reversed(calls[-MOST_NOTES:])))
        self._limit()
        return BAD

    def warn(self, caution: Caution) -> None:
        """Keeps a warning, once for each chain of calls that leads to it."""
        key = (type(caution), caution.span, caution.notes, caution.fill(caution.message))
        self.cautions.setdefault(key, caution)

    def take(self, trial: "Report") -> None:
        """Reports the errors of a trial."""
        self.errors.update({**trial.errors, **self.errors})
        self._limit()

    def _limit(self) -> None:
        """Raises `AttnError` when there are too many errors; not in a trial, whose errors may be dropped."""
        if len(self.errors) > MOST_ERRORS and not self.is_trial:
            raise AttnError(*list(self.errors.values())[:MOST_ERRORS], TooManyErrors(limit=MOST_ERRORS))

    def nearest(self, name: str, known: Iterable[str]) -> str | None:
        """The known name most similar to an unknown one; None after too many unknown names."""
        self.work.suggestions += 1
        return nearest_name(name, known) if self.work.suggestions <= MOST_SUGGESTIONS else None

    def enter(self, span: Span, calls: tuple[Note, ...]) -> None:
        """Counts an elaboration of a node, nested in those not left yet. Raises `AttnError` at a limit."""
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
        """A separate report for something that may not apply, with the same limits."""
        return Report(work=self.work, depth=self.depth, is_trial=True)

    def adopt(self, trial: "Report") -> None:
        """Takes over the warnings of a trial, without its errors."""
        self.cautions.update(trial.cautions)

    def stop(self, diagnostic: Diagnostic, calls: tuple[Note, ...] = ()) -> None:
        """Reports an error that makes it pointless to go on, and raises `AttnError`."""
        self.add(diagnostic, calls)
        self.check()

    def check(self) -> None:
        """Raises `AttnError` if there are errors."""
        if self.errors:
            raise AttnError(*self.errors.values())
