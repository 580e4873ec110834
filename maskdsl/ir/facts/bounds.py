"""Bounds of expressions over blocks of tokens, as expressions: interval arithmetic that a kernel can be generated from.

From the bounds of leaves follow those of everything. A boolean is bounded by whether it is certain, for all pairs, and
whether it is possible, for one at least. Bounds may be wide, never wrong: `analysis/tiles/intervals.py` computes
tighter ones, on arrays. A comparison of floats is possible where a NaN takes part, and is not certain.
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
from maskdsl.ir.facts.ranges import Range, expression_range
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify


class Bounds(NamedTuple):
    """Of a number: the least and the greatest. Of a boolean: what implies it, and what it implies."""

    low: Expression
    high: Expression

    @property
    def is_point(self) -> bool:
        return self.low == self.high


ANYTHING = {
    Type.BOOL: Bounds(FALSE, TRUE),
    Type.FLOAT: Bounds(Constant(float("-inf")), Constant(float("inf"))),
}
_BoundLeaf = Callable[[Leaf], Bounds]
_BoundRead = Callable[[Read, tuple[Bounds, ...]], Bounds | None]


def _unknown(read: Read, indices: tuple[Bounds, ...]) -> None:
    """Nothing is known of an element before it is read."""


class Bounder:
    """Bounds from those of leaves, and of reads between bounds of indices as far as `between` has any.

    `ranges` are the leaves' static ranges, for what has no better bounds.
    """

    def __init__(self, leaf: _BoundLeaf, ranges: Callable[[Leaf], Range], between: _BoundRead = _unknown) -> None:
        self.leaf, self.ranges, self.between = leaf, ranges, between
        self.known: dict[Expression, Bounds] = {}
        self.simple: dict[Expression, Expression] = {}

    def bounds(self, expression: Expression) -> Bounds:
        if expression not in self.known:
            low, high = self.fresh(expression)
            self.known[expression] = Bounds(simplify(low, self.simple), simplify(high, self.simple))
        return self.known[expression]

    def fresh(self, expression: Expression) -> Bounds:
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
        if expression.type is not Type.INT:
            return ANYTHING[expression.type]
        low, high = expression_range(expression, self.ranges)
        return Bounds(Constant(low), Constant(high))

    def read(self, expression: Read, indices: tuple[Bounds, ...]) -> Bounds:
        """The element itself where the index is the same for all pairs."""
        element = replace(expression, indices=tuple(index.low for index in indices))
        same = [_equal(index.low, index.high) for index in indices if not index.is_point]
        low, high = self.anything(expression)
        return Bounds(_chosen(same, element, low), _chosen(same, element, high))

    def apply(self, expression: Apply, op: Op, parts: tuple[Bounds, ...]) -> Bounds:
        if expression.type is Type.BOOL:
            return self.boolean(op, parts, expression.arguments[-1].type) or ANYTHING[Type.BOOL]
        if op is Op.SELECT:
            return _selection(*parts)
        if all(part.is_point for part in parts):
            point = apply(op, *(part.low for part in parts))
            return Bounds(point, point)
        if expression.type is Type.FLOAT:
            return _real(op, parts) or ANYTHING[Type.FLOAT]
        return _number(op, parts) or self.anything(expression)

    def boolean(self, op: Op, parts: tuple[Bounds, ...], kind: Type) -> Bounds | None:
        match op, parts:
            case Op.NOT, (a,):
                return Bounds(_negation(a.high), _negation(a.low))
            case ((Op.AND | Op.OR), _):
                return Bounds(apply(op, *(each.low for each in parts)), apply(op, *(each.high for each in parts)))
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
    """One of two numbers: known only where the condition is the same for all pairs."""

    def pick(op: Op, a: Expression, b: Expression) -> Expression:
        either = a if a == b else apply(op, a, b)
        unless = apply(Op.SELECT, condition.high, either, b)
        return apply(Op.SELECT, condition.low, a, unless)

    return Bounds(pick(Op.MINIMUM, then.low, otherwise.low), pick(Op.MAXIMUM, then.high, otherwise.high))


def _number(op: Op, parts: tuple[Bounds, ...]) -> Bounds | None:
    """Integers; None where only static ranges help."""
    match op, parts:
        case ((Op.ADD | Op.SUBTRACT | Op.NEGATE | Op.MULTIPLY), _):
            return _linear(op, parts)
        case Op.ABSOLUTE, (a,):
            below = apply(Op.NEGATE, a.high)
            nearest = apply(Op.MAXIMUM, apply(Op.MAXIMUM, a.low, below), Constant(0))
            return Bounds(nearest, apply(Op.MAXIMUM, a.high, apply(Op.NEGATE, a.low)))
        case ((Op.MINIMUM | Op.MAXIMUM | Op.INTEGER_LOG2), _):
            return Bounds(apply(op, *(each.low for each in parts)), apply(op, *(each.high for each in parts)))
        case Op.FLOOR_DIVIDE, (a, Bounds(Constant(value=divisor) as by, _)) if parts[1].is_point:
            low, high = apply(op, a.low, by), apply(op, a.high, by)
            return Bounds(low, high) if divisor > 0 else Bounds(high, low)
        case Op.FLOOR_MODULO, (a, Bounds(Constant(value=divisor) as by, _)) if parts[1].is_point and divisor > 0:
            together = _equal(apply(Op.FLOOR_DIVIDE, a.low, by), apply(Op.FLOOR_DIVIDE, a.high, by))
            least = _chosen([together], apply(op, a.low, by), Constant(0))
            return Bounds(least, _chosen([together], apply(op, a.high, by), Constant(int(divisor) - 1)))
        case Op.POWER, (a, Bounds(Constant(value=exponent) as by, _)) if int(exponent) % 2:
            return Bounds(apply(op, a.low, by), apply(op, a.high, by))
        case Op.POWER, (a, Bounds(by, _)):
            distance = _number(Op.ABSOLUTE, (a,))
            assert distance is not None
            return Bounds(apply(op, distance.low, by), apply(op, distance.high, by))
        case _:
            return None


def _real(op: Op, parts: tuple[Bounds, ...]) -> Bounds | None:
    """Floats, by operations that are correctly rounded: rounding keeps order."""
    if op is Op.TO_FLOAT:
        return Bounds(apply(op, parts[0].low), apply(op, parts[0].high))
    return _linear(op, parts)


def _linear(op: Op, parts: tuple[Bounds, ...]) -> Bounds | None:
    match op, parts:
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
    """`not a`; of integers, which hold no NaN, the comparison the other way round."""
    match a:
        case Apply(Op.LESS, (x, y)) if x.type is Type.INT:
            return apply(Op.LESS_EQUAL, y, x)
        case Apply(Op.LESS_EQUAL, (x, y)) if x.type is Type.INT:
            return apply(Op.LESS, y, x)
        case Apply(Op.OR, parts):
            return apply(Op.AND, *map(_negation, parts))
        case _:
            return apply(Op.NOT, a)


def _equal(a: Expression, b: Expression) -> Expression:
    return apply(Op.EQUAL, a, b)


def _chosen(conditions: list[Expression], then: Expression, otherwise: Expression) -> Expression:
    """`then` where all conditions hold."""
    if not conditions:
        return then
    both = reduce(lambda a, b: apply(Op.AND, a, b), conditions)
    return apply(Op.SELECT, both, then, otherwise)
