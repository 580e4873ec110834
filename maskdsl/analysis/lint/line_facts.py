"""Warnings about the lines of a mask: that attend nothing, or what others do, or seem causal; of queries without keys.

Each is a fact, found by the search for a pair that contradicts it, whatever the inputs. What the search cannot settle
within its budget is not warned of.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import product

from maskdsl.analysis.indices.axis_expressions import AxisExpressions
from maskdsl.analysis.indices.pair_search import PairSearch
from maskdsl.analysis.indices.witness import TooFine
from maskdsl.analysis.lint.pair_samples import MOST_SAMPLED, PairSamples, corners, query_values
from maskdsl.base.diagnostics import Caution
from maskdsl.base.errors.language.warnings import (
    AttendsNothing,
    CoveredLine,
    IdleRequire,
    LineWithoutPairs,
    NothingCausal,
    QueriesWithoutKeys,
    TooSmall,
)
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import FALSE, TRUE, Coordinate, Expression, Side, apply, substitute
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import Clause, MaskIR, Normalize
from maskdsl.ir.ops import Op

_BUDGET = 1 << 10
"""The most boxes of one search: about a millisecond."""
_MOST_PAIRS_OF_SPACES = 64
_MOST_HEADS = 64
_LONGEST = 60
"""The most characters of another line that a warning shows."""


_KINDS: tuple[type[Caution], ...] = (LineWithoutPairs, CoveredLine, IdleRequire, NothingCausal, QueriesWithoutKeys)
"""Warnings of single lines, and of queries without keys."""


def mask_warnings(mask: MaskIR) -> Iterator[Caution]:
    """The warning of a mask that attends nothing, whatever its inputs; of a branch that does not."""
    if mask.branches:
        yield from _of_branches(mask.branches, mask_warnings)
    elif mask.queries.length * mask.keys.length and _PairFacts(mask).never(mask.relation):
        yield AttendsNothing(span=mask.span, name=mask.branch or mask.name)


def line_warnings(mask: MaskIR, kinds: Collection[type[Caution]] = _KINDS) -> Iterator[Caution]:
    """The warnings of these kinds of a mask that attends something; of queries without keys in any branch."""
    facts = _PairFacts(mask)
    if facts.is_crowded or facts.never(mask.relation):
        return
    if mask.branches:
        of_lines = {*kinds} - {QueriesWithoutKeys}
        yield from _of_branches(mask.branches, partial(line_warnings, kinds=of_lines))
    else:
        yield from _line_warnings(facts, kinds)
    position = facts.query_without_keys() if QueriesWithoutKeys in kinds else None
    if position is not None:
        yield QueriesWithoutKeys(span=mask.span, name=mask.name, position=position)


def _of_branches(branches: Sequence[MaskIR], search: Callable[[MaskIR], Iterable[Caution]]) -> Iterator[Caution]:
    """The warnings of lines that hold in all branches that have the line: one of them may be idle in some."""
    warned = [{(each.code, each.span): each for each in search(branch)} for branch in branches]
    for key, caution in {key: each for one in reversed(warned) for key, each in one.items()}.items():
        pairs = zip(branches, warned, strict=True)
        if all(key in one for branch, one in pairs if caution.span in _spans(branch)):
            yield caution


def _spans(mask: MaskIR) -> set[Span | None]:
    return {mask.span, *(each.span for each in (*mask.attend, *mask.require))}


def _line_warnings(facts: "_PairFacts", kinds: Collection[type[Caution]]) -> Iterator[Caution]:
    mask = facts.mask
    lines = [(each, facts.never(each.relation)) for each in mask.attend]
    told = [each.span for each in mask.cautions if isinstance(each, TooSmall)]
    for line, is_empty in lines:
        if is_empty and not any(_is_within(span, line.span) for span in told):
            yield LineWithoutPairs(span=line.span)
    if CoveredLine in kinds:
        yield from facts.covered([line for line, is_empty in lines if not is_empty])
    if IdleRequire in kinds:
        yield from facts.idle()
    if NothingCausal in kinds and mask.normalize is Normalize.BY_KEY:
        yield from facts.causal()


@dataclass(frozen=True)
class _PairFacts:
    """Facts about all pairs of a mask."""

    mask: MaskIR

    @cached_property
    def heads(self) -> int:
        """Heads that may differ: 1 where no line reads the head."""
        clauses = (*self.mask.attend, *self.mask.require)
        return self.mask.heads if reads(*(each.relation for each in clauses)).head else 1

    @property
    def is_crowded(self) -> bool:
        """Whether there are too many spaces or heads for quick answers."""
        spaces = len(self.mask.queries.spaces) * len(self.mask.keys.spaces)
        return spaces > _MOST_PAIRS_OF_SPACES or self.heads > _MOST_HEADS

    @cached_property
    def samples(self) -> tuple[PairSamples, ...]:
        """Of each pair of a space of the queries and one of the keys."""
        queries, keys = self.mask.queries, self.mask.keys
        return tuple(
            PairSamples(
                AxisExpressions(self.mask, {Side.QUERY: (queries, query), Side.KEY: (keys, key)}, {}), self.heads
            )
            for query, key in product(queries.spaces, keys.spaces)
        )

    def never(self, *conditions: Expression) -> bool:
        """Whether it is certain that no pair fulfils all conditions."""
        together = apply(Op.AND, TRUE, *conditions)
        if self.is_crowded or any(each.hold(together).any() for each in self.samples):
            return False
        return not any(_possible(each.cells, *map(each.cells.of, conditions)) for each in self.samples)

    def covered(self, attend: list[Clause]) -> Iterator[Caution]:
        """The warnings of `attend` lines all of whose pairs attend by other lines; of two that are equal, the later."""
        required = [each.relation for each in self.mask.require]
        left = list(attend)
        warnings: list[Caution] = []
        for each in reversed(attend):
            others = [other for other in left if other is not each]
            if others and self.never(each.relation, *required, _none_of(others)):
                left = others
                alone = (other for other in others if self.never(each.relation, *required, _none_of([other])))
                warnings.append(CoveredLine(span=each.span, others=_written(next(alone, None))))
        yield from reversed(warnings)

    def idle(self) -> Iterator[Caution]:
        """The warnings of `require` lines that hold for all pairs that attend without them."""
        attended = apply(Op.OR, FALSE, *(each.relation for each in self.mask.attend))
        for each in self.mask.require:
            others = [other.relation for other in self.mask.require if other is not each]
            if self.never(attended, *others, apply(Op.NOT, each.relation)):
                yield IdleRequire(span=each.span)

    def causal(self) -> Iterator[Caution]:
        """The warning of the first line that keeps every query from later keys, though not from earlier ones."""
        query, key = Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i")
        later, earlier = apply(Op.LESS, query, key), apply(Op.LESS, key, query)
        relation = self.mask.relation
        if not self.mask.self_attention or not self.never(relation, later) or self.never(relation, earlier):
            return
        lines = (each for each in (*self.mask.require, *self.mask.attend) if self.never(each.relation, later))
        yield NothingCausal(span=next((each.span for each in lines), self.mask.span))

    def query_without_keys(self) -> int | None:
        """The position of a query in a corner of its space that attends no key in some head; None if all attend."""
        relation = self.mask.relation
        for space in self.mask.queries.spaces:
            samples = [each for each in self.samples if each.spaces[0] is space]
            attending = set().union(*(each.attending(relation) for each in samples))
            for query in product(range(min(self.heads, MOST_SAMPLED)), corners(space)):
                known = query_values(space, *query)
                if query not in attending and not any(
                    _possible(each.cells, substitute(each.cells.of(relation), {**known})) for each in samples
                ):
                    values = {axis: int(value.value) for axis, value in known.items()}
                    return samples[0].cells.position_of(Side.QUERY, values)
        return None


def _possible(cells: AxisExpressions, *conditions: Expression) -> bool:
    """Whether conditions over axis indices hold together for some pair, or may, as far as the search goes."""
    try:
        return PairSearch(cells, conditions, _BUDGET).find(TRUE, widest=True) is not None
    except TooFine:
        return True


def _none_of(clauses: list[Clause]) -> Expression:
    return apply(Op.NOT, apply(Op.OR, FALSE, *(each.relation for each in clauses)))


def _written(clause: Clause | None) -> str:
    """The text of a line and that it attends, or that several lines do."""
    if clause is None or clause.span is None:
        return "other `attend` lines together attend"
    text = " ".join(clause.span.text.split())
    return f"`{text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'}` attends"


def _is_within(span: Span | None, line: Span | None) -> bool:
    return span is not None and line is not None and line.start <= span.start < line.end
