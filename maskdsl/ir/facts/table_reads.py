"""The table reads of expressions, each with the conditions (guards) under which its value matters, as expressions.

A read matters unless the other operands decide: in `a and t[i]` where `a` holds, in `a or t[i]` where it does not,
whatever the order of the operands, and in `t[i] if c else x` where `c` holds.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import FALSE, Apply, Constant, Expression, Leaf, Read, apply, children
from maskdsl.ir.facts.ranges import ENTRY_NUMBERS, Range, expression_range, mask_leaf
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op

_UNINDEXED = frozenset({DimensionKind.BATCH, DimensionKind.DIM, DimensionKind.FREE})
"""Dimensions whose sizes the call decides. Only `batch` can index one of them, and is always inside."""


@dataclass(frozen=True)
class GuardedRead:
    """A read of a table; its value matters only where all guards hold."""

    node: Read
    guards: tuple[Expression, ...]


@dataclass(frozen=True, eq=False)
class TableReads:
    """The table reads of one mask's expressions."""

    mask: MaskIR

    @cached_property
    def ranges(self) -> Callable[[Leaf], Range]:
        """The static ranges of leaves over pairs of tokens."""
        return mask_leaf(self.mask)

    def of(self, expression: Expression, guards: tuple[Expression, ...] = ()) -> Iterator[GuardedRead]:
        """Yields the reads in an expression whose value matters where the guards hold."""
        if not reads(expression).inputs:
            return
        match expression:
            case Apply(op=Op.AND | Op.OR as op, arguments=operands):
                for operand in operands:
                    if reads(operand).inputs:
                        others = (self.may_be(other, op is Op.AND) for other in operands if other is not operand)
                        yield from self.of(operand, (*guards, *others))
            case Apply(op=Op.SELECT, arguments=(condition, then, otherwise)):
                yield from self.of(condition, guards)
                yield from self.of(then, (*guards, self.may_be(condition, True)))
                yield from self.of(otherwise, (*guards, self.may_be(condition, False)))
            case _:
                for operand in children(expression):
                    yield from self.of(operand, guards)
                if isinstance(expression, Read):
                    yield GuardedRead(expression, guards)

    def may_be(self, condition: Expression, truth: bool) -> Expression:
        """The condition that `condition` has this truth value, or depends on an element outside a table."""
        value = condition if truth else apply(Op.NOT, condition)
        outside = self.depends(condition)
        return value if outside == FALSE else apply(Op.OR, value, outside)

    def depends(self, expression: Expression) -> Expression:
        """The condition that the expression's value depends on an element outside a table."""
        if not reads(expression).inputs:
            return FALSE
        match expression:
            case Apply(op=Op.AND | Op.OR as op, arguments=operands):
                undecided = (self.may_be(each, op is Op.AND) for each in operands)
                return apply(Op.AND, _any_of(map(self.depends, operands)), *undecided)
            case Apply(op=Op.SELECT, arguments=(condition, then, otherwise)):
                branch = apply(Op.SELECT, condition, self.depends(then), self.depends(otherwise))
                return _any_of((self.depends(condition), branch))
            case _:
                return _any_of((*map(self.depends, children(expression)), *self.outside(expression)))

    def outside(self, expression: Expression) -> Iterator[Expression]:
        """The conditions that an index of this node leaves its table; none if the node is no read."""
        if isinstance(expression, Read):
            for axis, size in self.sizes(expression):
                index = expression.indices[axis]
                if not (expression.sparse and is_inside(expression_range(index, self.ranges), size)):
                    yield leaves(index, size)

    def sizes(self, read: Read) -> Iterator[tuple[int, int]]:
        """Yields (axis, length) of the axes of a table that integers index.

        Of the entries of a sparse input, whose number calls decide, there are as many as there may be at most: a number
        can only be outside by being -1, for no entry.
        """
        declared = self.mask.input(read.input)
        if declared is None:  # the table of a dot product, indexed by group numbers
            return
        for axis, dimension in enumerate(declared.dimensions):
            if dimension.kind is DimensionKind.ENTRIES:
                yield axis, ENTRY_NUMBERS.high + 1
            elif dimension.kind not in _UNINDEXED and dimension.size is not None:
                yield axis, dimension.size


def is_inside(index: Range, size: int) -> bool:
    """Whether an index in this range is inside a dimension of this length."""
    return index.low >= 0 and index.high < size


def leaves(index: Expression, size: int) -> Expression:
    """The condition `index < 0 or size <= index`."""
    below = apply(Op.LESS, index, Constant(0))
    return apply(Op.OR, below, apply(Op.LESS_EQUAL, Constant(size), index))


def _any_of(conditions: Iterable[Expression]) -> Expression:
    possible = [each for each in conditions if each != FALSE]
    match possible:
        case []:
            return FALSE
        case [one]:
            return one
        case _:
            return apply(Op.OR, *possible)
