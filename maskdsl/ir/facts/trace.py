"""Transitive dependencies of expressions: the coordinates that they read, directly or through others, and inputs."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import assert_never

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Along, Computed, Given, PoolGroups, Sequence, Shuffled, Space
from maskdsl.ir.expressions import Coordinate, Expression, Side
from maskdsl.ir.facts.reads import Reads, reads
from maskdsl.ir.mask import MaskIR


@dataclass(frozen=True)
class Trace:
    """The transitive dependencies of some expressions."""

    expressions: tuple[Expression, ...]
    """The expressions, and those of all computed coordinates that they read, directly or through others."""
    names: frozenset[str]
    """The coordinates that they read, directly or through others."""
    given: frozenset[str]
    """The inputs that are the source of one of these coordinates."""

    @cached_property
    def reads(self) -> Reads:
        """What all of the expressions read."""
        return reads(*self.expressions)

    @cached_property
    def inputs(self) -> frozenset[str]:
        """All inputs that the expressions depend on."""
        return self.given.union(self.reads.inputs)

    @property
    def is_fixed(self) -> bool:
        """Whether they depend on no input, head or batch entry."""
        return not (self.inputs or self.reads.head or self.reads.batch)

    def varies(self, mask: MaskIR) -> frozenset[DimensionKind]:
        """Which of BATCH and HEADS the values depend on."""
        kinds = {kind for declared in mask.inputs if declared.name in self.given for kind in declared.kinds}
        indices = {DimensionKind.BATCH: self.reads.batch, DimensionKind.HEADS: self.reads.head}
        return frozenset(kind for kind, is_read in indices.items() if is_read or kind in kinds)


def trace(sequence: Sequence, expressions: Iterable[Expression]) -> Trace:
    """The trace of expressions over a token of the sequence."""
    pending = list(expressions)
    names: set[str] = set()
    given: set[str] = set()
    for expression in pending:
        for name in (each.name for each in reads(expression).coordinates if each.name not in names):
            names.add(name)
            definition = sequence.definition(name)
            for _, source in definition.sources if definition else ():
                match source:
                    case Computed(value=value):
                        pending.append(value)
                    case Given(input=each):
                        given.add(each)
                    case Shuffled() | Along():
                        pass
                    case _:
                        assert_never(source)
    return Trace(tuple(pending), frozenset(names), frozenset(given))


def dependencies(sequence: Sequence, names: Iterable[str]) -> tuple[str, ...]:
    """These coordinates and all that they are computed from, each after the ones that it reads."""
    needed = trace(sequence, [Coordinate(Side.TOKEN, name) for name in names]).names
    declared = [each.name for each in sequence.coordinates if each.name in needed]
    return (*sorted(needed.difference(declared)), *declared)


def token_trace(mask: MaskIR, expressions: Iterable[Expression], ordered: bool = False) -> Trace:
    """The trace of the coordinates that expressions over pairs read; `ordered`: also of the sort keys."""
    read = reads(*expressions)
    sides = [
        trace(sequence, [*read.of(side), *(sequence.sort_keys if ordered else ())])
        for side, sequence in mask.sequences.items()
    ]
    return Trace(
        tuple(expression for each in sides for expression in each.expressions),
        frozenset().union(*(each.names for each in sides)),
        frozenset().union(*(each.given for each in sides)),
    )


def pair_trace(mask: MaskIR, expressions: Iterable[Expression], ordered: bool = False) -> Trace:
    """The trace of expressions over pairs; `ordered`: also of the sort keys."""
    over_pairs = tuple(expressions)
    tokens = token_trace(mask, over_pairs, ordered)
    return replace(tokens, expressions=(*over_pairs, *tokens.expressions))


def pooling_trace(groupings: Iterable[tuple[Space, PoolGroups]]) -> Trace:
    """The trace of the coordinates by which these spaces are pooled."""
    traces = [trace(groups.tokens, [Coordinate(Side.TOKEN, groups.by)]) for _, groups in groupings]
    return Trace(
        tuple(expression for each in traces for expression in each.expressions),
        frozenset().union(*(each.names for each in traces)),
        frozenset().union(*(each.given for each in traces)),
    )


def tile_trace(mask: MaskIR) -> Trace:
    """The trace of all that decides tiles: the relation and the sort keys."""
    return pair_trace(mask, [mask.relation], ordered=True)
