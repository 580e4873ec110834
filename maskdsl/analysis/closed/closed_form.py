"""Closed forms: the keys of a query (or queries of a key) as one interval whose limits are functions of its index.

If a relation is a conjunction of conditions that can be solved for the other token, as for causal patterns, windows and
blocks, a kernel computes the tiles of a row and needs no lists. Indices are positions in memory: on grids and in orders
what tokens say is written in digits of their position. Equations are solved first, and what they say of the other index
takes its place everywhere: of tokens in the same row, `abs(q.x - k.x) <= 3` is `abs(q - k) <= 3`.

Limits of tokens on a line hold for every length, others for the sizes of their grid and in their order. Each limit is
monotone in the index, so its extremes over a block are at the block's first or last token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from maskdsl.analysis.closed.conjuncts import NoClosedForm, conjuncts_of, equal_expression, is_line, sides_of
from maskdsl.analysis.closed.digits import DigitSum, TokenDigits, stretch_length
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import (
    TRUE,
    Apply,
    Constant,
    Coordinate,
    Expression,
    Head,
    Side,
    apply,
)
from maskdsl.ir.facts.ranges import expression_range, mask_leaf
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Limit:
    """An integer expression over the index of a token in memory, `Coordinate(side, "i")`, and the head."""

    value: Expression
    rises: bool
    """Whether it is nondecreasing in the index; otherwise it is nonincreasing."""


@dataclass(frozen=True)
class Limits:
    """The other tokens of a token's pairs: from the maximum of `low` to the minimum of `high`, both inclusive."""

    low: tuple[Limit, ...]
    high: tuple[Limit, ...]


def closed_limits(mask: MaskIR, side: Side) -> Limits | None:
    """The limits for tokens of `side`: keys for queries, queries for keys. None if the relation has no closed form."""
    if mask.relation == TRUE:
        return Limits((), ())
    try:
        conjuncts = conjuncts_of(mask)  # before sympy is imported
        solver = _Solver(mask, side)
        low, high = set[Any](), set[Any]()
        for is_high, value in solver.limits([*solver.conditions(conjuncts)]):
            (high if is_high else low).add(value)
        return Limits(*(tuple(map(solver.limit, sorted(values, key=str))) for values in (low, high)))
    except NoClosedForm:
        return None


@dataclass(frozen=True)
class _Condition:
    """That a value is at most 0, or that it is 0."""

    value: Any
    is_equation: bool


class _Solver:
    """Solves conditions over two token indices, `this` and `other`, for `other`."""

    def __init__(self, mask: MaskIR, side: Side) -> None:
        import sympy  # start-up time: it takes longer than most patterns

        self.sympy = sympy
        self.side = side
        self.leaf = mask_leaf(mask)
        self.this, self.other, self.head = sympy.symbols("this other head", integer=True)
        self.mask = mask
        self.digits = {
            each: TokenDigits(mask, sequence) for each, sequence in mask.sequences.items() if not is_line(sequence)
        }
        """For each side whose tokens are not on a line."""

    # Conjuncts to conditions

    def conditions(self, conjuncts: tuple[Expression, ...]) -> Iterator[_Condition]:
        """Yields what holds exactly where all conjuncts do. Raises `NoClosedForm`."""
        stretch = self.stretch([each for each in map(equal_expression, conjuncts) if each is not None])
        if stretch is not None:
            conjuncts = tuple(each for each in conjuncts if equal_expression(each) is None)
            if stretch < self.mask.queries.length:
                yield _Condition(self.sympy.floor(self.other / stretch) - self.sympy.floor(self.this / stretch), True)
        for conjunct in conjuncts:
            if self.always(conjunct):
                continue
            match conjunct:
                case Apply(Op.LESS_EQUAL, (a, b)) if a.type is Type.INT:
                    yield _Condition(self.integer(a) - self.integer(b), False)
                case Apply(Op.LESS, (a, b)) if a.type is Type.INT:
                    yield _Condition(self.integer(a) - self.integer(b) + 1, False)
                case Apply(Op.EQUAL, (a, b)) if a.type is not Type.FLOAT:
                    yield _Condition(self.integer(a) - self.integer(b), True)
                case _:
                    raise NoClosedForm

    def stretch(self, same: list[Expression]) -> int | None:
        """The length of the stretches of memory whose tokens are equal in all of these; None if there are none.

        Stretches may be along a curve, and in any order: what is equal has no need of digits.
        """
        if not same or self.mask.queries != self.mask.keys or self.side not in self.digits:
            return None
        values = [self.digits[self.side].values(each) for each in same]
        known = [each for each in values if each is not None]
        return stretch_length(np.stack(known, axis=1)) if len(known) == len(values) else None

    def always(self, conjunct: Expression) -> bool:
        """Whether it is known to hold for all tokens on grids and in orders. Raises `NoClosedForm` for some tokens."""
        sides = sides_of(conjunct)
        if not sides or not self.digits.keys() >= set(sides):
            return False
        match conjunct, sides:
            case _, (side,):
                values = self.digits[side].values(conjunct)
                if values is None or not values.all():
                    raise NoClosedForm
                return True
            case Apply(Op.LESS | Op.LESS_EQUAL as op, (a, b)), _ if a.type is Type.INT:
                return expression_range(apply(Op.SUBTRACT, b, a), self.leaf).low >= (op is Op.LESS)
            case _:
                return False

    def integer(self, expression: Expression) -> sympy.Expr:
        """An integer or a truth value (0 or 1) of a token in sympy. Raises `NoClosedForm`."""
        match expression:
            case Constant(value=value):
                return self.sympy.Integer(int(value))
            case Head():
                return self.head
            case _ if (known := self.of_token(expression)) is not None:
                return known
            case Apply(op, arguments) if expression.type is Type.INT and op is not Op.SELECT:
                return self.operator(op, *map(self.integer, arguments))
            case _:
                raise NoClosedForm

    def of_token(self, expression: Expression) -> sympy.Expr | None:
        """What a token says of itself, by its index; None if it is said of both tokens, or not in digits."""
        sides = sides_of(expression)
        if len(sides) != 1:
            return None
        index = self.this if sides[0] is self.side else self.other
        if sides[0] not in self.digits:
            return index if isinstance(expression, Coordinate) else None
        digits = self.digits[sides[0]].of(expression)
        return None if digits is None else self.sum_of_digits(digits, index)

    def sum_of_digits(self, digits: DigitSum, index: sympy.Symbol) -> sympy.Expr:
        terms = (factor * self.sympy.floor(index / step) for factor, step in digits.terms)
        return sum(terms, self.sympy.Integer(digits.start))

    def operator(self, op: Op, *operands: sympy.Expr) -> sympy.Expr:
        """An operator on integers in sympy. Raises `NoClosedForm`."""
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
                return self.quotient(a, b)
            case Op.FLOOR_MODULO, (a, b) if b.is_Integer and b > 0:
                return a - b * self.quotient(a, b)
            case _:
                raise NoClosedForm

    def quotient(self, value: sympy.Expr, divisor: int) -> sympy.Expr:
        """`value // divisor`. Of another quotient it is one quotient: `x // 8 // 4` is `x // 32`."""
        floor, rest = self.sympy.floor, self.sympy.expand(value)
        inner = [term for term in self.sympy.Add.make_args(rest) if isinstance(term, floor)]
        if len(inner) == 1 and (rest - inner[0]).is_Integer:
            rest += inner[0].args[0] - inner[0]
        return floor(self.sympy.expand(rest / divisor))

    # Conditions to limits

    def limits(self, conditions: list[_Condition]) -> Iterator[tuple[bool, sympy.Expr]]:
        """Yields limits (is upper, value) on the other index that are together equivalent to all conditions."""
        inequalities = [each.value for each in conditions if not each.is_equation]
        equations = [each.value for each in conditions if each.is_equation]
        known = self.known_quotients(equations)
        for step, value in known.items():
            if not any(self.follows(step, value, finer, known[finer]) for finer in known):
                yield False, self.sympy.expand(step * value)
                yield True, self.sympy.expand(step * value + step - 1)
        for value in (*inequalities, *equations, *(-each for each in equations)):
            yield from self.solved(self.reduced(value, known))

    def known_quotients(self, equations: list[sympy.Expr]) -> dict[int, sympy.Expr]:
        """The values over this index that `other // step` has, by step. Removes the equations that say so."""
        known: dict[int, sympy.Expr] = {}
        while True:
            solutions = ((each, self.solution(self.reduced(each, known))) for each in equations)
            equation, solution = next((each for each in solutions if each[1] is not None), (None, None))
            if solution is None:
                return known
            equations.remove(equation)
            known[solution[0]] = solution[1]

    def solution(self, equation: sympy.Expr) -> tuple[int, sympy.Expr] | None:
        """(step, value) where the equation `equation == 0` says that `other // step` is a value."""
        rest, varying = equation.as_independent(self.other, as_Add=True)
        factor, term = varying.as_independent(self.other, as_Add=False)
        step = self.step(term)
        return None if step is None or factor not in (1, -1) else (step, self.sympy.expand(-rest * factor))

    def step(self, term: sympy.Expr) -> int | None:
        """The step of `other // step`, 1 of `other` itself; None of other terms."""
        if term == self.other:
            return 1
        ratio = term.args[0] / self.other if isinstance(term, self.sympy.floor) else self.sympy.Integer(0)
        return int(ratio.q) if ratio.is_Rational and ratio.p == 1 else None

    def reduced(self, value: sympy.Expr, known: Mapping[int, sympy.Expr]) -> sympy.Expr:
        """The value with what is known of the other index: of one quotient, all coarser ones."""
        values = {}
        for term in (self.other, *value.atoms(self.sympy.floor)):
            step = self.step(term)
            finer = [each for each in known if step is not None and step % each == 0]
            if step is not None and finer:
                values[term] = self.quotient(known[max(finer)], step // max(finer))
        return self.sympy.expand(value.xreplace(values))

    def follows(self, step: int, value: sympy.Expr, finer: int, known: sympy.Expr) -> bool:
        """Whether `other // step` is the value where `other // finer` is known."""
        return finer < step and step % finer == 0 and self.quotient(known, step // finer) == value

    def solved(self, value: sympy.Expr) -> Iterator[tuple[bool, sympy.Expr]]:
        """Yields limits (is upper, value) on the other index that are together equivalent to `value <= 0`."""
        value = self.sympy.expand(value)
        if value.is_Integer and value <= 0:
            return
        rest, varying = value.as_independent(self.other, as_Add=True)
        factor, term = varying.as_independent(self.other, as_Add=False)
        if not factor.is_Integer or not term.has(self.other):
            raise NoClosedForm
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
                raise NoClosedForm

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
                raise NoClosedForm

    def fraction(self, floor: sympy.Expr) -> tuple[sympy.Expr, sympy.Integer]:
        """Numerator and integer denominator of the argument of a floor."""
        over, under = self.sympy.fraction(self.sympy.together(floor.args[0]))
        return self.sympy.expand(over), under

    # Limits

    def limit(self, value: sympy.Expr) -> Limit:
        """A limit in the IR. Raises `NoClosedForm` if it is not monotone in the index."""
        value = self.distributed(value)
        falls = self.direction(value) < 0
        return Limit(self.expression(value), not falls)

    def distributed(self, value: sympy.Expr) -> sympy.Expr:
        """`a + min(b, c)` as `min(a + b, a + c)` where this index is in `a`, and so of maxima."""
        for term in self.sympy.Add.make_args(value):
            if isinstance(term, self.sympy.Min | self.sympy.Max) and (value - term).has(self.this):
                return term.func(*(self.distributed(self.sympy.expand(value - term + each)) for each in term.args))
        return value

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
                    raise NoClosedForm
                return self.direction(term) * (1 if factor > 0 else -1)
            case self.sympy.Add() | self.sympy.floor() | self.sympy.Min() | self.sympy.Max():
                directions = {self.direction(argument) for argument in value.args} - {0}
                if len(directions) > 1:
                    raise NoClosedForm
                return directions.pop() if directions else 0
            case _:
                raise NoClosedForm

    def expression(self, value: sympy.Expr) -> Expression:
        """A sympy expression in the IR. Raises `NoClosedForm`."""
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
                raise NoClosedForm

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
