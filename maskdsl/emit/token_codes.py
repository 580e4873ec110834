"""Masks to masks of kernels: codes of tokens in place of what takes long to compute of one token of a pair.

A code is a coordinate, an integer that kernels read from a table, once a token. Where several equalities must hold, one
code holds all their values. Where several comparisons must, each has a field of bits: the codes of the query and of the
key add up to an integer in which one bit of each field tells whether its comparison fails. Tiles are those of the mask
itself.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import field, replace
from functools import cached_property, reduce
from itertools import accumulate, count
from math import prod
from operator import mul
from typing import NamedTuple

from maskdsl.base.records import dataclass
from maskdsl.emit.token_costs import LOAD_COST, cost, operations_cost
from maskdsl.ir.declared.sequences import Computed, CoordinateDefinition, Sequence, Space
from maskdsl.ir.expressions import (
    PAIR,
    Apply,
    Constant,
    Coordinate,
    Expression,
    InSpace,
    Leaf,
    Side,
    apply,
    children,
    in_space,
    of_side,
    rebuild,
    substitute,
    walk,
)
from maskdsl.ir.facts.ranges import Range, expression_range, mask_leaf
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify

_BITS = 31
"""Of a code, which is never negative."""


def coded(mask: MaskIR, taken: Container[str]) -> MaskIR:
    """The same pairs and scores, of codes: coordinates behind all others, with names that are none of `taken`."""
    codes = _Codes(mask, taken)
    scores = tuple(map(codes.loaded, mask.scores))
    weight, scale = (None if each is None else codes.loaded(each) for each in (mask.weight, mask.scale))
    relation = codes.relation(mask.relation)
    queries, keys = (
        replace(sequence, coordinates=(*sequence.coordinates, *codes.definitions[mask.kind(side)].values()))
        for side, sequence in mask.sequences.items()
    )
    return replace(mask, relation=relation, scores=scores, weight=weight, scale=scale, queries=queries, keys=keys)


@dataclass(frozen=True)
class _TokenSum:
    """A constant, and integers of one token each that are added to it or subtracted."""

    constant: int = 0
    terms: tuple[tuple[Side, int, Expression], ...] = ()
    """(side, 1 or -1, integer)."""

    def __add__(self, other: "_TokenSum") -> "_TokenSum":
        return _TokenSum(self.constant + other.constant, (*self.terms, *other.terms))

    def __neg__(self) -> "_TokenSum":
        return _TokenSum(-self.constant, tuple((side, -sign, term) for side, sign, term in self.terms))

    @property
    def is_of_pair(self) -> bool:
        return {side for side, _, _ in self.terms} == {*PAIR}

    @property
    def subtracts_keys(self) -> bool:
        return all(sign < 0 for side, sign, _ in self.terms if side is Side.KEY)

    def of(self, side: Side) -> Expression:
        """What one side adds to the sum; the constant is the query's."""
        total: Expression = Constant(0)
        for each, sign, term in sorted(self.terms, key=lambda each: -each[1]):
            if each is side:
                total = simplify(apply(Op.ADD if sign > 0 else Op.SUBTRACT, total, term))
        if side is Side.QUERY and self.constant:
            total = simplify(apply(Op.ADD if self.constant > 0 else Op.SUBTRACT, total, Constant(abs(self.constant))))
        return total

    @property
    def sides(self) -> tuple[Expression, Expression]:
        """The integers of the query and of the key that are equal if the sum is 0."""
        positive, negative = (self, -self) if self.subtracts_keys else (-self, self)
        return positive.of(Side.QUERY), negative.of(Side.KEY)


class _Digit(NamedTuple):
    """A digit of the codes of both tokens, of numbers that are not negative: either is below the base.

    So is their sum, where sums are compared.
    """

    query: Expression
    key: Expression
    base: int


class _Digits(NamedTuple):
    """The digits of a condition."""

    condition: Expression
    digits: tuple[_Digit, ...]
    values: tuple[tuple[Expression, Expression], ...]
    """What is compared for each: an integer of the query, one of the key."""

    @property
    def base(self) -> int:
        return prod(each.base for each in self.digits)


@dataclass(frozen=True)
class _Codes:
    """The codes of a mask, as they are made."""

    mask: MaskIR
    taken: Container[str]
    definitions: Mapping[Side, dict[Expression, CoordinateDefinition]] = field(init=False)
    """By kind of token and by value, an expression of one token."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "definitions", {kind: {} for kind in self.mask.kinds})

    @cached_property
    def leaf(self) -> Callable[[Leaf], Range]:
        return mask_leaf(self.mask)

    def range(self, expression: Expression) -> Range:
        return expression_range(expression, self.leaf)

    # Of one token

    def side(self, expression: Expression) -> Side | None:
        """The side of whose token alone it is computed, of integers and booleans; None of constants and all others."""
        read = reads(expression)
        sides = {each.side for each in read.leaves if isinstance(each, Coordinate | InSpace)}
        if len(sides) != 1 or any(not isinstance(each, Coordinate | InSpace) for each in read.leaves):
            return None
        (side,) = sides
        is_exact = all(each.type is not Type.FLOAT for each in walk(expression))
        return side if is_exact and trace(self.mask.sequences[side], [expression]).is_fixed else None

    def is_long(self, side: Side, *expressions: Expression) -> bool:
        """Whether they take longer to compute than to load, together."""
        return cost(self.mask.sequences[side], *expressions) > LOAD_COST

    def code(self, side: Side, value: Expression) -> Coordinate:
        """The code of a value."""
        kind, sequence = self.mask.kind(side), self.mask.sequences[side]
        of_token, known = of_side(value, Side.TOKEN), self.definitions[kind]
        if of_token not in known:
            made = {each.name for of_kind in self.definitions.values() for each in of_kind.values()}
            names = map("code_{}".format, count(1))
            name = next(each for each in names if each not in made and each not in self.taken)
            sources = tuple((space.name, Computed(_of_space(sequence, space, of_token))) for space in sequence.spaces)
            known[of_token] = CoordinateDefinition(name, value.type, sources)
        return Coordinate(side, known[of_token].name, value.type)

    def loaded(self, expression: Expression) -> Expression:
        """The expression with codes for all of one token that takes longer to compute than to load."""
        codes: dict[Expression, Expression] = {}
        stack = [expression]
        while stack:
            node = stack.pop()
            side = self.side(node) if isinstance(node, Apply) else None
            if side is None:
                stack += children(node)
            elif operations_cost(node) > LOAD_COST:
                codes[node] = self.code(side, node)
        return substitute(expression, codes)

    # Of pairs

    def relation(self, node: Expression) -> Expression:
        """A condition of pairs, of codes."""
        match node:
            case Apply(op=Op.OR | Op.NOT as op, arguments=operands):
                return apply(op, *map(self.relation, operands))
            case Apply(op=Op.AND, arguments=operands):
                return self.conjunction(operands)
            case Apply(op=Op.SELECT, arguments=(condition, *values)):
                return apply(Op.SELECT, self.loaded(condition), *map(self.relation, values))
            case _:
                return self.conjunction((node,))

    def conjunction(self, conditions: Iterable[Expression]) -> Expression:
        """The conditions together."""
        equalities: list[_Digits] = []
        orders: list[_Digits] = []
        others: list[Expression] = []
        for each in conditions:
            equality, bounds = self.equality(each), self.bounds(each)
            if equality is not None:
                equalities.append(_Digits(each, (self.value_digit(equality),), (equality.sides,)))
            elif bounds:
                digits = tuple(map(self.order_digit, bounds))
                orders.append(_Digits(each, digits, tuple(sum.sides for sum in bounds)))
            elif isinstance(each, Apply) and each.op in (Op.OR, Op.NOT, Op.SELECT):
                others.append(self.relation(each))
            else:
                others.append(self.loaded(each))
        together = [*self.joined(equalities, _are_equal, 2), *self.joined(orders, _are_ordered, 3), *others]
        return together[0] if len(together) == 1 else apply(Op.AND, *together)

    def joined(
        self,
        conditions: list[_Digits],
        holds: Callable[[Expression, Expression, list[_Digit]], Expression],
        least: int,
    ) -> Iterator[Expression]:
        """The conditions: `holds` of the codes of those that fit in one, and take long to compute; the others alone.

        With fewer digits than `least`, comparing codes takes as long as comparing what is in them.
        """
        for group in _groups(conditions):
            digits = [digit for each in group for digit in each.digits]
            values = zip(*(pair for each in group for pair in each.values), strict=True)
            is_long = any(self.is_long(side, *each) for side, each in zip(PAIR, values, strict=True))
            if is_long and len(digits) >= least:
                query, key = map(self.code, PAIR, _numbers(digits))
                yield holds(query, key, digits)
            else:
                yield from (self.loaded(each.condition) for each in group)

    def sum(self, node: Expression) -> _TokenSum | None:
        """An integer as a sum; None if a term is of both tokens."""
        match node:
            case Constant(value=int(value)):
                return _TokenSum(value)
            case Apply(op=Op.NEGATE, arguments=(operand,)):
                total = self.sum(operand)
                return None if total is None else -total
            case Apply(op=Op.ADD | Op.SUBTRACT as op, arguments=(a, b)) if self.side(node) is None:
                left, right = self.sum(a), self.sum(b)
                return None if left is None or right is None else left + (right if op is Op.ADD else -right)
            case _:
                side = self.side(node) if node.type is Type.INT else None
                return None if side is None else _TokenSum(0, ((side, 1, node),))

    def difference(self, a: Expression, b: Expression) -> _TokenSum | None:
        """a - b, if it is of a pair."""
        total = self.sum(apply(Op.SUBTRACT, a, b)) if a.type is Type.INT else None
        return total if total is not None and total.is_of_pair else None

    def equality(self, node: Expression) -> _TokenSum | None:
        """The sum that is 0 where the condition holds; None for other conditions.

        A difference is a multiple of a number where both have the same remainder.
        """
        match node:
            case Apply(
                op=Op.EQUAL,
                arguments=(Apply(op=Op.FLOOR_MODULO, arguments=(a, Constant(value=int(step)))), Constant(value=0)),
            ) if step > 0:
                if isinstance(a, Apply) and a.op is Op.ABSOLUTE:
                    (a,) = a.arguments
                total = self.difference(a, Constant(0))
                if total is None:
                    return None
                remainders = [simplify(apply(Op.FLOOR_MODULO, each, Constant(step))) for each in total.sides]
                return _TokenSum(0, ((Side.QUERY, 1, remainders[0]), (Side.KEY, -1, remainders[1])))
            case Apply(op=Op.EQUAL, arguments=(a, b)) if a.type is Type.BOOL:
                return self.difference(_as_integer(a), _as_integer(b))
            case Apply(op=Op.EQUAL, arguments=(a, b)):
                return self.difference(a, b)
            case _:
                return None

    def bounds(self, node: Expression) -> list[_TokenSum]:
        """The sums that are all at most 0 where the condition holds; none for other conditions."""
        match node:
            case Apply(op=Op.LESS | Op.LESS_EQUAL as op, arguments=(Apply(op=Op.ABSOLUTE, arguments=(a,)), b)):
                sums = [self.difference(each, b) for each in (a, apply(Op.NEGATE, a))]
            case Apply(op=Op.LESS | Op.LESS_EQUAL as op, arguments=(a, b)):
                sums = [self.difference(a, b)]
            case _:
                return []
        known = [each + _TokenSum(int(op is Op.LESS)) for each in sums if each is not None]
        return known if len(known) == len(sums) else []

    def value_digit(self, total: _TokenSum) -> _Digit:
        """The digit of an equality: both values, from the lowest on."""
        query, key = total.sides
        low, high = reduce(Range.joined, map(self.range, total.sides))
        return _Digit(_shifted(query, -low), _shifted(key, -low), high - low + 1)

    def order_digit(self, total: _TokenSum) -> _Digit:
        """The digit of a comparison: the sum of both, less 1, is in the upper half if it is not below 0.

        A query that attends all keys, or none, may as well have the nearest number that does.
        """
        query, key = total.of(Side.QUERY), total.of(Side.KEY)
        low, high = self.range(key)
        within = apply(Op.MAXIMUM, apply(Op.MINIMUM, query, Constant(1 - low)), Constant(-high))
        is_within = -high <= self.range(query).low and self.range(query).high <= 1 - low
        half = 1 << (high - low).bit_length()
        return _Digit(_shifted(query if is_within else within, low - 1 + half), _shifted(key, -low), 2 * half)


def _groups(conditions: list[_Digits]) -> list[list[_Digits]]:
    """The conditions in groups whose digits fit in a code: each in the first that has room for it."""
    groups: list[list[_Digits]] = []
    for condition in conditions:
        rooms = (each for each in groups if prod(other.base for other in each) * condition.base <= 2**_BITS)
        room = next(rooms, None)
        if room is None:
            groups.append([condition])
        else:
            room.append(condition)
    return groups


def _are_equal(query: Expression, key: Expression, digits: list[_Digit]) -> Expression:
    """Whether all digits are."""
    return apply(Op.EQUAL, query, key)


def _are_ordered(query: Expression, key: Expression, digits: list[_Digit]) -> Expression:
    """Whether no sum of two digits is in the upper half."""
    bits = sum(weight * each.base // 2 for weight, each in _weighed(digits))
    return apply(Op.NOT, apply(Op.SHARE_BIT, apply(Op.ADD, query, key), Constant(bits)))


def _weighed(digits: list[_Digit]) -> Iterator[tuple[int, _Digit]]:
    """The digits, each behind what it counts for in codes."""
    weights = accumulate((each.base for each in digits[:-1]), mul, initial=1)
    return zip(weights, digits, strict=True)


def _numbers(digits: list[_Digit]) -> tuple[Expression, Expression]:
    """The codes of the query and of the key."""
    codes: list[Expression] = [Constant(0), Constant(0)]
    for weight, digit in _weighed(digits):
        for number, value in enumerate((digit.query, digit.key)):
            weighed = apply(Op.MULTIPLY, value, Constant(weight))
            codes[number] = simplify(apply(Op.ADD, codes[number], weighed))
    return codes[0], codes[1]


def _shifted(value: Expression, offset: int) -> Expression:
    """The value, plus a constant."""
    return simplify(apply(Op.ADD if offset >= 0 else Op.SUBTRACT, value, Constant(abs(offset))))


def _as_integer(condition: Expression) -> Expression:
    """1 where it holds, else 0."""
    return apply(Op.SELECT, condition, Constant(1), Constant(0))


def _of_space(sequence: Sequence, space: Space, value: Expression) -> Expression:
    """An expression of one token, for those of a space: coordinates that they lack are 0."""

    def known(node: Expression) -> Expression | None:
        lacks = isinstance(node, Coordinate) and not sequence.has(space, node.name)
        if not lacks:
            return None
        return Constant(False) if node.type is Type.BOOL else Constant(0)

    return simplify(in_space(rebuild(value, known), space.name))
