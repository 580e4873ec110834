"""Closed forms: the keys of a query (or queries of a key) as one interval whose limits are functions of its index.

If a relation is a conjunction of inequalities that can be solved for the other token, as for causal patterns, windows
and blocks, a kernel computes the tiles of a row and needs no lists. The limits hold for every length. Each limit is
monotone in the index, so its extremes over a block are at the block's first or last token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Computed, Sequence
from maskdsl.ir.expressions import TRUE, Apply, Constant, Coordinate, Expression, Head, Side, apply, rebuild, size
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import dependencies
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

if TYPE_CHECKING:
    import sympy

_MOST_NODES = 200
"""Larger relations use lists: sympy's time for them has no bound."""


@dataclass(frozen=True)
class Limit:
    """An integer expression over the index of a token, `Coordinate(side, "i")`, and the head."""

    value: Expression
    rises: bool
    """Whether it is nondecreasing in the index; otherwise it is nonincreasing."""


@dataclass(frozen=True)
class Limits:
    """The other tokens of a token's pairs: from the maximum of `low` to the minimum of `high`, both inclusive."""

    low: tuple[Limit, ...]
    high: tuple[Limit, ...]


class _NoClosedForm(Exception):
    """The relation has no closed form."""


def closed_limits(mask: MaskIR, side: Side) -> Limits | None:
    """The limits for tokens of `side`: keys for queries, queries for keys. None if the relation has no closed form."""
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
    """The relation with every coordinate written as an expression over the index. Raises `_NoClosedForm`."""
    if size(mask.relation) > _MOST_NODES:
        raise _NoClosedForm
    read = reads(mask.relation)
    forms = {side: _over_index(each, side, read.of(side)) for side, each in mask.sequences.items()}

    def index(node: Expression) -> Expression | None:
        return forms[node.side][node.name] if isinstance(node, Coordinate) else None

    relation = rebuild(mask.relation, index)
    if size(relation) > _MOST_NODES:
        raise _NoClosedForm
    return relation


def _over_index(sequence: Sequence, side: Side, read: Iterable[Coordinate]) -> dict[str, Expression]:
    """These coordinates and their dependencies, as expressions over the index. Raises `_NoClosedForm`."""
    forms: dict[str, Expression] = {}
    for name in dependencies(sequence, [each.name for each in read]):
        forms[name] = _of_index(sequence, side, name, forms)
        if size(forms[name]) > _MOST_NODES:
            raise _NoClosedForm
    return forms


def _of_index(sequence: Sequence, side: Side, name: str, known: Mapping[str, Expression]) -> Expression:
    """A coordinate over the index, given the forms of those it reads. Raises `_NoClosedForm` for orders and grids."""
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
    return rebuild(source.value, lambda node: known[node.name] if isinstance(node, Coordinate) else None)


class _Solver:
    """Solves inequalities `value <= 0` over two token indices, `this` and `other`, for `other`."""

    def __init__(self, side: Side) -> None:
        import sympy  # start-up time: it takes longer than most patterns

        self.sympy = sympy
        self.side = side
        self.this, self.other, self.head = sympy.symbols("this other head", integer=True)

    # Relations to inequalities

    def inequalities(self, relation: Expression) -> Iterator[sympy.Expr]:
        """Yields expressions that are all <= 0 exactly where the relation holds."""
        match relation:
            case Constant(value=True):
                return
            case Apply(Op.AND, operands):
                for operand in operands:
                    yield from self.inequalities(operand)
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
        """An integer expression in sympy. Raises `_NoClosedForm`."""
        match expression:
            case Constant(value=value):
                return self.sympy.Integer(value)
            case Coordinate(side=side):
                return self.this if side is self.side else self.other
            case Head():
                return self.head
            case Apply(op, arguments) if expression.type is Type.INT and op is not Op.SELECT:
                return self.operator(op, *map(self.integer, arguments))
            case _:
                raise _NoClosedForm

    def operator(self, op: Op, *operands: sympy.Expr) -> sympy.Expr:
        """An operator on integers in sympy. Raises `_NoClosedForm`."""
        match op, operands:
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
        """Yields limits (is upper, value) on the other index that are together equivalent to `value <= 0`."""
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
        """Yields the limits of `term <= limit`."""
        match term:
            case self.other:
                yield True, limit
            case self.sympy.floor():
                over, under = self.fraction(term)
                yield from self.solved(over - under * limit - under + 1)
            case self.sympy.Max():
                for argument in term.args:
                    yield from self.solved(argument - limit)
            case self.sympy.Abs():
                yield from self.solved(term.args[0] - limit)
                yield from self.solved(-term.args[0] - limit)
            case _:
                raise _NoClosedForm

    def at_least(self, term: sympy.Expr, limit: sympy.Expr) -> Iterator[tuple[bool, sympy.Expr]]:
        """Yields the limits of `limit <= term`."""
        match term:
            case self.other:
                yield False, limit
            case self.sympy.floor():
                over, under = self.fraction(term)
                yield from self.solved(under * limit - over)
            case self.sympy.Min():
                for argument in term.args:
                    yield from self.solved(limit - argument)
            case _:
                raise _NoClosedForm

    def fraction(self, floor: sympy.Expr) -> tuple[sympy.Expr, sympy.Integer]:
        """Numerator and integer denominator of the argument of a floor."""
        over, under = self.sympy.fraction(self.sympy.together(floor.args[0]))
        return self.sympy.expand(over), under

    # Limits

    def limit(self, value: sympy.Expr) -> Limit:
        """A limit in the IR. Raises `_NoClosedForm` if it is not monotone in the index."""
        falls = self.direction(value) < 0
        return Limit(self.expression(value), not falls)

    def direction(self, value: sympy.Expr) -> int:
        """1 if the value is nondecreasing in this token's index, -1 if it is nonincreasing, 0 if it is constant."""
        match value:
            case self.this:
                return 1
            case _ if not value.has(self.this):
                return 0
            case self.sympy.Mul():
                factor, term = value.as_independent(self.this, as_Add=False)
                if not factor.is_Rational:
                    raise _NoClosedForm
                return self.direction(term) * (1 if factor > 0 else -1)
            case self.sympy.Add() | self.sympy.floor() | self.sympy.Min() | self.sympy.Max():
                directions = {self.direction(argument) for argument in value.args} - {0}
                if len(directions) > 1:
                    raise _NoClosedForm
                return directions.pop() if directions else 0
            case _:
                raise _NoClosedForm

    def expression(self, value: sympy.Expr) -> Expression:
        """A sympy expression in the IR. Raises `_NoClosedForm`."""
        match value:
            case self.sympy.Integer():
                return Constant(int(value))
            case self.this:
                return Coordinate(self.side, "i")
            case self.head:
                return Head()
            case self.sympy.Add():
                return self.sum_of(value)
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

    def sum_of(self, value: sympy.Expr) -> Expression:
        """A sum as a person writes it: constants last, negative terms subtracted."""
        terms = sorted(value.args, key=lambda term: (term.is_number, term.could_extract_minus_sign(), str(term)))
        result = self.expression(terms[0])
        for term in terms[1:]:
            negative = term.could_extract_minus_sign()
            result = apply(Op.SUBTRACT if negative else Op.ADD, result, self.expression(-term if negative else term))
        return result

    def joined(self, op: Op, operands: Any) -> Expression:
        """A binary operator over several operands, applied pairwise."""
        return reduce(lambda a, b: apply(op, a, b), map(self.expression, operands))
