"""Where expressions read tables, for which pairs it matters, and where it leaves a table: conditions in the IR.

A read matters unless the rest decides: of `a and t[i]` it does where `a` holds, of `a or t[i]` where it doesn't, in
whatever order they stand, and of `t[i] if c else x` where `c` holds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from maskdsl.ir.expressions import FALSE, Apply, Constant, Expression, Read, apply, children
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import DimensionKind, MaskIR
from maskdsl.ir.ops import Op

_UNINDEXED = frozenset({DimensionKind.BATCH, DimensionKind.DIM, DimensionKind.FREE})
"""Dimensions whose lengths are those of the call; `batch` alone is an index of one, and inside."""


@dataclass(frozen=True, slots=True)
class GuardedRead:
    """One read of a table, and what holds where it matters, all of it."""

    node: Read
    guards: tuple[Expression, ...]


@dataclass(frozen=True, eq=False)
class TableReads:
    """Of one mask's expressions."""

    mask: MaskIR

    def of(self, expression: Expression, guards: tuple[Expression, ...] = ()) -> Iterator[GuardedRead]:
        """All reads in an expression that is asked for where the guards hold."""
        if not reads(expression).inputs:
            return
        match expression:
            case Apply(op=Op.AND | Op.OR as op, arguments=parts):
                for part in parts:
                    if reads(part).inputs:
                        others = (self.may_be(other, op is Op.AND) for other in parts if other is not part)
                        yield from self.of(part, (*guards, *others))
            case Apply(op=Op.SELECT, arguments=(condition, then, otherwise)):
                yield from self.of(condition, guards)
                yield from self.of(then, (*guards, self.may_be(condition, True)))
                yield from self.of(otherwise, (*guards, self.may_be(condition, False)))
            case _:
                for part in children(expression):
                    yield from self.of(part, guards)
                if isinstance(expression, Read):
                    yield GuardedRead(expression, guards)

    def may_be(self, condition: Expression, truth: bool) -> Expression:
        """That a condition has this truth, or depends on what is not there."""
        value = condition if truth else apply(Op.NOT, condition)
        wrong = self.depends(condition)
        return value if wrong == FALSE else apply(Op.OR, value, wrong)

    def depends(self, expression: Expression) -> Expression:
        """Whether its value depends on an element outside a table."""
        if not reads(expression).inputs:
            return FALSE
        match expression:
            case Apply(op=Op.AND | Op.OR as op, arguments=parts):
                open_parts = (self.may_be(part, op is Op.AND) for part in parts)
                return apply(Op.AND, _any_of(map(self.depends, parts)), *open_parts)
            case Apply(op=Op.SELECT, arguments=(condition, then, otherwise)):
                chosen = apply(Op.SELECT, condition, self.depends(then), self.depends(otherwise))
                return _any_of((self.depends(condition), chosen))
            case _:
                return _any_of((*map(self.depends, children(expression)), *self.outside(expression)))

    def outside(self, expression: Expression) -> Iterator[Expression]:
        """That an index of this very read leaves the table; nothing for other nodes."""
        if isinstance(expression, Read):
            yield from (leaves(expression.indices[axis], size) for axis, size in self.sizes(expression))

    def sizes(self, read: Read) -> Iterator[tuple[int, int]]:
        """The axes of a table that are read by index, and their lengths."""
        declared = self.mask.input(read.input)
        if declared is None:  # a product of vectors, by the numbers of groups
            return
        for axis, dimension in enumerate(declared.dimensions):
            if dimension.kind not in _UNINDEXED and dimension.size is not None:
                yield axis, dimension.size


def leaves(index: Expression, size: int) -> Expression:
    below = apply(Op.LESS, index, Constant(0))
    return apply(Op.OR, below, apply(Op.LESS_EQUAL, Constant(size), index))


def _any_of(conditions: Iterable[Expression]) -> Expression:
    parts = [each for each in conditions if each != FALSE]
    match parts:
        case []:
            return FALSE
        case [one]:
            return one
        case _:
            return apply(Op.OR, *parts)
