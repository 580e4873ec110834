"""Rows of tiles in closed form: the partners of a token as an interval whose limits follow from its own index.

Where a relation is a conjunction of inequalities that can be solved for the other token, as in causal patterns, windows
and blocks, a kernel finds the tiles of a row by arithmetic and needs no lists. What is found holds at every length:
the limits over a block of tokens are those at its first or last one, because each limit only rises or only falls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from maskdsl.ir.expressions import TRUE, Apply, Constant, Coordinate, Expression, Head, Side, apply, rebuild, size
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import dependencies
from maskdsl.ir.mask import Computed, MaskIR, Sequence
from maskdsl.ir.ops import Op, Type

if TYPE_CHECKING:
    import sympy

_MOST_NODES = 200
"""Larger relations are left to lists: what sympy takes for them has no bound."""


@dataclass(frozen=True)
class Limit:
    """An integer over the index of a token, `Coordinate(side, "i")`, and perhaps the head."""

    value: Expression
    rises: bool
    """With the index, or stays; otherwise it falls, or stays."""


@dataclass(frozen=True)
class Limits:
    """A token's partners are those from the greatest of `low` to the least of `high`, within their sequence."""

    low: tuple[Limit, ...]
    high: tuple[Limit, ...]


class _NoClosedForm(Exception):
    """The relation, or a part of it, has no such limits."""


def closed_limits(mask: MaskIR, side: Side) -> Limits | None:
    """The limits of the partners of tokens of one side; None where the relation has no closed form."""
    if mask.relation == TRUE:
        return Limits((), ())
    try:
        relation = _over_indices(mask)
        solver = _Solver(side)
        low, high = set[Any](), set[Any]()
        for inequality in solver.inequalities(relation):
            for is_high, value in solver.solved(inequality):
                (high if is_high else low).add(value)
        return Limits(*(tuple(map(solver.limit, sorted(values, key=str))) for values in (low, high)))
    except _NoClosedForm:
        return None


def _over_indices(mask: MaskIR) -> Expression:
    """The relation with every coordinate as an expression over indices. Raises `_NoClosedForm`."""
    if size(mask.relation) > _MOST_NODES:
        raise _NoClosedForm
    read = reads(mask.relation)
    found = {side: _over_index(each, side, read.of(side)) for side, each in mask.sequences.items()}

    def index(node: Expression) -> Expression | None:
        return found[node.side][node.name] if isinstance(node, Coordinate) else None

    relation = rebuild(mask.relation, index)
    if size(relation) > _MOST_NODES:
        raise _NoClosedForm
    return relation


def _over_index(sequence: Sequence, side: Side, read: Iterable[Coordinate]) -> dict[str, Expression]:
    """These coordinates and those that they need, over the index of their token. Raises `_NoClosedForm`."""
    found: dict[str, Expression] = {}
    for name in dependencies(sequence, [each.name for each in read]):
        found[name] = _of_index(sequence, side, name, found)
        if size(found[name]) > _MOST_NODES:
            raise _NoClosedForm
    return found


def _of_index(sequence: Sequence, side: Side, name: str, known: Mapping[str, Expression]) -> Expression:
    """A coordinate over its index, through those before it. No order, input or grid may have a say."""
    if len(sequence.spaces) > 1 or any(sequence.order):
        raise _NoClosedForm
    (space,) = sequence.spaces
    definition = sequence.definition(name)
    if definition is None:
        if name != "i" and len(space.axes) > 1:
            raise _NoClosedForm
        return Coordinate(side, "i")
    ((_, source),) = definition.sources
    if not isinstance(source, Computed) or definition.type is not Type.INT:
        raise _NoClosedForm
    return rebuild(source.value, lambda part: known[part.name] if isinstance(part, Coordinate) else None)


class _Solver:
    """Solves inequalities `value <= 0` over the indices `own` and `other` for the latter."""

    def __init__(self, side: Side) -> None:
        import sympy  # start-up time: it takes longer than most patterns

        self.sympy = sympy
        self.side = side
        self.own, self.other, self.head = sympy.symbols("own other head", integer=True)

    # Relations to inequalities

    def inequalities(self, relation: Expression) -> Iterator[sympy.Expr]:
        """Expressions that are not positive wherever the relation holds, and only there."""
        match relation:
            case Constant(value=True):
                return
            case Apply(Op.AND, parts):
                for part in parts:
                    yield from self.inequalities(part)
            case Apply(Op.LESS_EQUAL, (a, b)) if a.type is Type.INT:
                yield self.integer(a) - self.integer(b)
            case Apply(Op.LESS, (a, b)) if a.type is Type.INT:
                yield self.integer(a) - self.integer(b) + 1
            case Apply(Op.EQUAL, (a, b)) if a.type is Type.INT:
                difference = self.integer(a) - self.integer(b)
                yield difference
                yield -difference
            case _:
                raise _NoClosedForm

    def integer(self, expression: Expression) -> sympy.Expr:
        match expression:
            case Constant(value=value):
                return self.sympy.Integer(value)
            case Coordinate(side=side):
                return self.own if side is self.side else self.other
            case Head():
                return self.head
            case Apply(op, arguments) if expression.type is Type.INT and op is not Op.SELECT:
                return self.operator(op, *map(self.integer, arguments))
            case _:
                raise _NoClosedForm

    def operator(self, op: Op, *parts: sympy.Expr) -> sympy.Expr:
        match op, parts:
            case Op.ADD, (a, b):
                return a + b
            case Op.SUBTRACT, (a, b):
                return a - b
            case Op.MULTIPLY, (a, b):
                return a * b
            case Op.NEGATE, (a,):
                return -a
            case Op.ABSOLUTE, (a,):
                return self.sympy.Abs(a)
            case Op.MINIMUM, (a, b):
                return self.sympy.Min(a, b)
            case Op.MAXIMUM, (a, b):
                return self.sympy.Max(a, b)
            case Op.FLOOR_DIVIDE, (a, b) if b.is_Integer and b > 0:
                return self.sympy.floor(a / b)
            case _:
                raise _NoClosedForm

    # Inequalities to limits

    def solved(self, value: sympy.Expr) -> Iterator[tuple[bool, sympy.Expr]]:
        """Limits (whether from above, its value) on the other index that together say `value <= 0`."""
        value = self.sympy.expand(value)
        rest, varying = value.as_independent(self.other, as_Add=True)
        factor, term = varying.as_independent(self.other, as_Add=False)
        if not factor.is_Integer or term == 1:
            raise _NoClosedForm
        if factor > 0:
            yield from self.at_most(term, self.sympy.floor(-rest / factor))
        else:
            yield from self.at_least(term, self.sympy.floor((rest - factor - 1) / -factor))

    def at_most(self, term: sympy.Expr, limit: sympy.Expr) -> Iterator[tuple[bool, sympy.Expr]]:
        match term:
            case self.other:
                yield True, limit
            case self.sympy.floor():
                over, under = self.fraction(term)
                yield from self.solved(over - under * limit - under + 1)
            case self.sympy.Max():
                for part in term.args:
                    yield from self.solved(part - limit)
            case self.sympy.Abs():
                yield from self.solved(term.args[0] - limit)
                yield from self.solved(-term.args[0] - limit)
            case _:
                raise _NoClosedForm

    def at_least(self, term: sympy.Expr, limit: sympy.Expr) -> Iterator[tuple[bool, sympy.Expr]]:
        match term:
            case self.other:
                yield False, limit
            case self.sympy.floor():
                over, under = self.fraction(term)
                yield from self.solved(under * limit - over)
            case self.sympy.Min():
                for part in term.args:
                    yield from self.solved(limit - part)
            case _:
                raise _NoClosedForm

    def fraction(self, floor: sympy.Expr) -> tuple[sympy.Expr, sympy.Integer]:
        """Numerator and denominator, an integer, of what is rounded down."""
        over, under = self.sympy.fraction(self.sympy.together(floor.args[0]))
        return self.sympy.expand(over), under

    # Limits

    def limit(self, value: sympy.Expr) -> Limit:
        falls = self.direction(value) < 0
        return Limit(self.expression(value), not falls)

    def direction(self, value: sympy.Expr) -> int:
        """1 where the value never falls with the own index, -1 where it never rises, 0 where it stays."""
        match value:
            case self.own:
                return 1
            case _ if not value.has(self.own):
                return 0
            case self.sympy.Mul():
                factor, term = value.as_independent(self.own, as_Add=False)
                if not factor.is_Rational:
                    raise _NoClosedForm
                return self.direction(term) * (1 if factor > 0 else -1)
            case self.sympy.Add() | self.sympy.floor() | self.sympy.Min() | self.sympy.Max():
                found = {self.direction(part) for part in value.args} - {0}
                if len(found) > 1:
                    raise _NoClosedForm
                return found.pop() if found else 0
            case _:
                raise _NoClosedForm

    def expression(self, value: sympy.Expr) -> Expression:
        match value:
            case self.sympy.Integer():
                return Constant(int(value))
            case self.own:
                return Coordinate(self.side, "i")
            case self.head:
                return Head()
            case self.sympy.Add():
                return self.total(value)
            case self.sympy.Mul():
                return self.joined(Op.MULTIPLY, reversed(value.args))
            case self.sympy.floor():
                over, under = self.fraction(value)
                return apply(Op.FLOOR_DIVIDE, self.expression(over), Constant(int(under)))
            case self.sympy.Min():
                return self.joined(Op.MINIMUM, value.args)
            case self.sympy.Max():
                return self.joined(Op.MAXIMUM, value.args)
            case _:
                raise _NoClosedForm

    def total(self, value: sympy.Expr) -> Expression:
        """A sum as a person writes it: what varies first, what is negative taken away."""
        terms = sorted(value.args, key=lambda term: (term.is_number, term.could_extract_minus_sign(), str(term)))
        found = self.expression(terms[0])
        for term in terms[1:]:
            negative = term.could_extract_minus_sign()
            found = apply(Op.SUBTRACT if negative else Op.ADD, found, self.expression(-term if negative else term))
        return found

    def joined(self, op: Op, parts: Any) -> Expression:
        return reduce(lambda a, b: apply(op, a, b), map(self.expression, parts))
