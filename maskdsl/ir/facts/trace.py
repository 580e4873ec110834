"""What decides the values that tokens have: the coordinates behind expressions, and the inputs behind these."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import assert_never

from maskdsl.ir.expressions import Coordinate, Expression, Side
from maskdsl.ir.facts.reads import Reads, reads
from maskdsl.ir.mask import Along, Computed, DimensionKind, Given, MaskIR, Sequence, Shuffled


@dataclass(frozen=True)
class Trace:
    """Everything that decides the values of some expressions."""

    expressions: tuple[Expression, ...]
    """They, and those of the coordinates that they read, directly or through others."""
    names: frozenset[str]
    """The coordinates read."""
    given: frozenset[str]
    """The inputs that are themselves coordinates read."""

    @cached_property
    def reads(self) -> Reads:
        return reads(*self.expressions)

    @cached_property
    def inputs(self) -> frozenset[str]:
        """All inputs that have a say."""
        return self.given.union(self.reads.inputs)

    @property
    def is_fixed(self) -> bool:
        """Neither an input nor the head nor the batch entry has a say."""
        return not (self.inputs or self.reads.head or self.reads.batch)

    def varies(self, mask: MaskIR) -> frozenset[DimensionKind]:
        """Whether the values depend on the BATCH entry, the HEADS, both or neither."""
        kinds = {kind for declared in mask.inputs if declared.name in self.given for kind in declared.kinds}
        indices = {DimensionKind.BATCH: self.reads.batch, DimensionKind.HEADS: self.reads.head}
        return frozenset(kind for kind, is_read in indices.items() if is_read or kind in kinds)


def trace(sequence: Sequence, expressions: Iterable[Expression]) -> Trace:
    """Of expressions over a token of the sequence."""
    found = list(expressions)
    names: set[str] = set()
    given: set[str] = set()
    for expression in found:
        for name in (each.name for each in reads(expression).coordinates if each.name not in names):
            names.add(name)
            definition = sequence.definition(name)
            for _, source in definition.sources if definition else ():
                match source:
                    case Computed(value=value):
                        found.append(value)
                    case Given(input=each):
                        given.add(each)
                    case Shuffled() | Along():
                        pass
                    case _:
                        assert_never(source)
    return Trace(tuple(found), frozenset(names), frozenset(given))


def behind(sequence: Sequence, names: Iterable[str]) -> tuple[str, ...]:
    """These coordinates and all that they are computed from, each behind those that it is made of."""
    found = trace(sequence, [Coordinate(Side.TOKEN, name) for name in names]).names
    declared = [each.name for each in sequence.coordinates if each.name in found]
    return (*sorted(found.difference(declared)), *declared)


def token_trace(mask: MaskIR, expressions: Iterable[Expression], ordered: bool = False) -> Trace:
    """Of the coordinates of both sides that expressions over pairs read; `ordered`, also of what tokens come by."""
    read = reads(*expressions)
    parts = [
        trace(sequence, [*read.of(side), *(sequence.sort_keys if ordered else ())])
        for side, sequence in mask.sequences.items()
    ]
    return Trace(
        tuple(expression for each in parts for expression in each.expressions),
        frozenset().union(*(each.names for each in parts)),
        frozenset().union(*(each.given for each in parts)),
    )


def pair_trace(mask: MaskIR, expressions: Iterable[Expression], ordered: bool = False) -> Trace:
    """Of expressions over pairs; `ordered`, also of what tokens are sorted by."""
    own = tuple(expressions)
    tokens = token_trace(mask, own, ordered)
    return replace(tokens, expressions=(*own, *tokens.expressions))


def tile_trace(mask: MaskIR) -> Trace:
    """Of all that decides tiles: the relation, and what tokens are sorted by."""
    return pair_trace(mask, [mask.relation], ordered=True)
