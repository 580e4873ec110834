"""Symbolic interval arithmetic: bounds of an expression over a tile, as expressions that kernels are generated from.

The bounds of leaves give those of every expression. A boolean has two bounds: whether it is certain (true for all
pairs) and whether it is possible (true for some pair). Bounds are sound and may be loose;
`ir/facts/intervals.py` computes tighter ones on arrays. A float comparison with NaN is possible and not certain.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

from maskdsl.ir.expressions import (
    FALSE,
    TRUE,
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Leaf,
    Read,
    Score,
    apply,
)
from maskdsl.ir.facts.ranges import INT64, Range, expression_range
from maskdsl.ir.ops import ROUNDINGS, Op, Type
from maskdsl.ir.simplify import simplify


class Bounds(NamedTuple):
    """Of a number: its lower and upper bound. Of a boolean: a condition that implies it, and one that it implies."""

    low: Expression
    high: Expression

    @property
    def is_point(self) -> bool:
        """Whether both bounds are the same expression."""
        return self.low == self.high


ANYTHING = {
    Type.BOOL: Bounds(FALSE, TRUE),
    Type.FLOAT: Bounds(Constant(float("-inf")), Constant(float("inf"))),
}
_BoundLeaf = Callable[[Leaf], Bounds]
_BoundRead = Callable[[Read, tuple[Bounds, ...]], Bounds | None]


def _unknown(read: Read, indices: tuple[Bounds, ...]) -> None:
    """No bounds of elements are known."""


class Bounder:
    """Bounds of expressions, from those of leaves.

    `between` gives bounds of a table read from those of its indices, or None. `ranges` gives the static ranges of
    leaves, which bound what has no better bounds.
    """

    def __init__(self, leaf: _BoundLeaf, ranges: Callable[[Leaf], Range], between: _BoundRead = _unknown) -> None:
        self.leaf, self.ranges, self.between = leaf, ranges, between
        self.known: dict[Expression, Bounds] = {}
        self.simple: dict[Expression, Expression] = {}

    def bounds(self, expression: Expression) -> Bounds:
        """Simplified bounds of an expression; cached."""
        if expression not in self.known:
            low, high = self.fresh(expression)
            self.known[expression] = Bounds(simplify(low, self.simple), simplify(high, self.simple))
        return self.known[expression]

    def fresh(self, expression: Expression) -> Bounds:
        """Bounds of a node from those of its operands, not simplified."""
        match expression:
            case Constant():
                return Bounds(expression, expression)
            case Coordinate() | InSpace() | Head() | Batch() | Score():
                return self.leaf(expression)
            case Read(indices=indices):
                within = tuple(map(self.bounds, indices))
                return self.between(expression, within) or self.read(expression, within)
            case Apply(op, arguments):
                return self.apply(expression, op, tuple(map(self.bounds, arguments)))

    def anything(self, expression: Expression) -> Bounds:
        """Bounds that need no bounds of operands: the static range of an integer, else every value of the type."""
        if expression.type is not Type.INT:
            return ANYTHING[expression.type]
        low, high = expression_range(expression, self.ranges)
        return Bounds(Constant(low), Constant(high))

    def read(self, expression: Read, indices: tuple[Bounds, ...]) -> Bounds:
        """The element itself where the indices are the same for all pairs, else any value."""
        element = replace(expression, indices=tuple(index.low for index in indices))
        same = [_equal(index.low, index.high) for index in indices if not index.is_point]
        low, high = self.anything(expression)
        return Bounds(_select(same, element, low), _select(same, element, high))

    def apply(self, expression: Apply, op: Op, operands: tuple[Bounds, ...]) -> Bounds:
        """Bounds of an operator from those of its operands."""
        if expression.type is Type.BOOL:
            return self.boolean(op, operands, expression.arguments[-1].type) or ANYTHING[Type.BOOL]
        if op is Op.SELECT:
            return _selection(*operands)
        if all(each.is_point for each in operands):
            point = apply(op, *(each.low for each in operands))
            return Bounds(point, point)
        if expression.type is Type.FLOAT:
            return _real(op, operands) or ANYTHING[Type.FLOAT]
        if op in ROUNDINGS:
            return self.rounded(expression, operands[0])
        return _number(op, operands) or self.anything(expression)

    def rounded(self, expression: Apply, operand: Bounds) -> Bounds:
        """Bounds of an integer of a float: no wider than its static range, as arithmetic stays within 64 bits there."""
        low, high = (apply(expression.op, each) for each in operand)
        least, greatest = self.anything(expression)
        if expression_range(expression, self.ranges) == INT64:
            return Bounds(low, high)
        return Bounds(apply(Op.MAXIMUM, low, least), apply(Op.MINIMUM, high, greatest))

    def boolean(self, op: Op, operands: tuple[Bounds, ...], kind: Type) -> Bounds | None:
        """Bounds of an operator with a boolean result and operands of a type; None if there are no better than any."""
        match op, operands:
            case Op.NOT, (a,):
                return Bounds(_negation(a.high), _negation(a.low))
            case ((Op.AND | Op.OR), _):
                return Bounds(apply(op, *(each.low for each in operands)), apply(op, *(each.high for each in operands)))
            case Op.SELECT, (condition, then, otherwise):
                certain = apply(
                    Op.OR,
                    apply(Op.AND, condition.low, then.low),
                    apply(Op.AND, _negation(condition.high), otherwise.low),
                    apply(Op.AND, then.low, otherwise.low),
                )
                possible = apply(
                    Op.OR,
                    apply(Op.AND, condition.high, then.high),
                    apply(Op.AND, _negation(condition.low), otherwise.high),
                )
                return Bounds(certain, possible)
            case _ if kind is Type.BOOL:
                return None
            case Op.LESS, (a, b):
                return Bounds(apply(Op.LESS, a.high, b.low), _negation(apply(Op.LESS_EQUAL, b.high, a.low)))
            case Op.LESS_EQUAL, (a, b):
                return Bounds(apply(Op.LESS_EQUAL, a.high, b.low), _negation(apply(Op.LESS, b.high, a.low)))
            case Op.EQUAL, (a, b):
                return _equality(a, b)
            case Op.NOT_EQUAL, (a, b):
                same = _equality(a, b)
                return Bounds(_negation(same.high), _negation(same.low))
            case _:
                return None


def _equality(a: Bounds, b: Bounds) -> Bounds:
    certain = apply(Op.AND, apply(Op.LESS_EQUAL, a.high, b.low), apply(Op.LESS_EQUAL, b.high, a.low))
    return Bounds(certain, _negation(apply(Op.OR, apply(Op.LESS, a.high, b.low), apply(Op.LESS, b.high, a.low))))


def _selection(condition: Bounds, then: Bounds, otherwise: Bounds) -> Bounds:
    """Bounds of a selected number: those of one branch where the condition is the same for all pairs, else of both."""

    def pick(op: Op, a: Expression, b: Expression) -> Expression:
        either = a if a == b else apply(op, a, b)
        unless = apply(Op.SELECT, condition.high, either, b)
        return apply(Op.SELECT, condition.low, a, unless)

    return Bounds(pick(Op.MINIMUM, then.low, otherwise.low), pick(Op.MAXIMUM, then.high, otherwise.high))


def _number(op: Op, operands: tuple[Bounds, ...]) -> Bounds | None:
    """Bounds of an operator with an integer result; None if the static range is the best bound.

    `//` and `%` have the same rules on arrays in `ir/facts/intervals.py` and on Python integers in
    `ir/facts/ranges.py`: change all three together.
    """
    match op, operands:
        case ((Op.ADD | Op.SUBTRACT | Op.NEGATE | Op.MULTIPLY), _):
            return _linear(op, operands)
        case Op.ABSOLUTE, (a,):
            below = apply(Op.NEGATE, a.high)
            nearest = apply(Op.MAXIMUM, apply(Op.MAXIMUM, a.low, below), Constant(0))
            return Bounds(nearest, apply(Op.MAXIMUM, a.high, apply(Op.NEGATE, a.low)))
        case ((Op.MINIMUM | Op.MAXIMUM | Op.INTEGER_LOG2), _):
            return Bounds(apply(op, *(each.low for each in operands)), apply(op, *(each.high for each in operands)))
        case Op.FLOOR_DIVIDE, (a, Bounds(Constant(value=divisor) as by, _)) if operands[1].is_point:
            low, high = apply(op, a.low, by), apply(op, a.high, by)
            return Bounds(low, high) if divisor > 0 else Bounds(high, low)
        case Op.FLOOR_MODULO, (a, Bounds(Constant(value=divisor) as by, _)) if operands[1].is_point and divisor > 0:
            one_period = _equal(apply(Op.FLOOR_DIVIDE, a.low, by), apply(Op.FLOOR_DIVIDE, a.high, by))
            least = _select([one_period], apply(op, a.low, by), Constant(0))
            return Bounds(least, _select([one_period], apply(op, a.high, by), Constant(int(divisor) - 1)))
        case Op.POWER, (a, Bounds(Constant(value=exponent) as by, _)) if int(exponent) % 2:
            return Bounds(apply(op, a.low, by), apply(op, a.high, by))
        case Op.POWER, (a, Bounds(by, _)):
            distance = _number(Op.ABSOLUTE, (a,))
            assert distance is not None
            return Bounds(apply(op, distance.low, by), apply(op, distance.high, by))
        case _:
            return None


def _real(op: Op, operands: tuple[Bounds, ...]) -> Bounds | None:
    """Bounds of an operator with a float result; None if any value is possible.

    Only correctly rounded operations have bounds: rounding is monotone.
    """
    if op is Op.TO_FLOAT:
        return Bounds(apply(op, operands[0].low), apply(op, operands[0].high))
    return _linear(op, operands)


def _linear(op: Op, operands: tuple[Bounds, ...]) -> Bounds | None:
    match op, operands:
        case Op.ADD, (a, b):
            return Bounds(apply(op, a.low, b.low), apply(op, a.high, b.high))
        case Op.SUBTRACT, (a, b):
            return Bounds(apply(op, a.low, b.high), apply(op, a.high, b.low))
        case Op.NEGATE, (a,):
            return Bounds(apply(op, a.high), apply(op, a.low))
        case Op.MULTIPLY, (a, b):
            if isinstance(a.low, Constant) and a.is_point:
                a, b = b, a
            if not (isinstance(b.low, Constant) and b.is_point):
                return None
            low, high = apply(op, a.low, b.low), apply(op, a.high, b.low)
            return Bounds(low, high) if b.low.value >= 0 else Bounds(high, low)
        case _:
            return None


def _negation(a: Expression) -> Expression:
    """`not a`. A comparison of integers, which are never NaN, is reversed instead."""
    match a:
        case Apply(Op.LESS, (x, y)) if x.type is Type.INT:
            return apply(Op.LESS_EQUAL, y, x)
        case Apply(Op.LESS_EQUAL, (x, y)) if x.type is Type.INT:
            return apply(Op.LESS, y, x)
        case Apply(Op.OR, operands):
            return apply(Op.AND, *map(_negation, operands))
        case _:
            return apply(Op.NOT, a)


def _equal(a: Expression, b: Expression) -> Expression:
    return apply(Op.EQUAL, a, b)


def _select(conditions: list[Expression], then: Expression, otherwise: Expression) -> Expression:
    """`then` where all conditions hold, else `otherwise`."""
    if not conditions:
        return then
    condition = reduce(lambda a, b: apply(Op.AND, a, b), conditions)
    return apply(Op.SELECT, condition, then, otherwise)
