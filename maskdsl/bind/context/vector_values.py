"""Vectors while a score or a value is bound: sums of multiples, which products are distributed over."""

from collections.abc import Iterator

from maskdsl.base.records import dataclass
from maskdsl.bind.context.bound_values import Term
from maskdsl.ir.declared.inputs import Dimension, DimensionKind
from maskdsl.ir.expressions import PAIR, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.values.token_vectors import (
    Multiple,
    OfGroup,
    OfToken,
    OfValue,
    Sum,
    TableRow,
    Vector,
    vector_expressions,
    vector_leaves,
)


@dataclass(frozen=True)
class VectorTerm:
    """A vector times a factor."""

    factor: Term | None
    """None for 1."""
    vector: Vector
    condition: Term | None = None
    """Where it counts, a condition over the pair; None: everywhere."""


@dataclass(frozen=True)
class VectorValue:
    """A sum of vectors of one length."""

    terms: tuple[VectorTerm, ...]
    length: Dimension
    """An integer, or the head dimension, whose size the call decides."""


def sides_of(vector: Vector) -> frozenset[Side]:
    """The tokens that a vector depends on."""
    read = reads(*_expressions(vector))
    sides = {side for side in PAIR if read.names(side)}
    for leaf in vector_leaves(vector):
        if isinstance(leaf, OfToken | OfGroup):
            sides.add(leaf.side)
        if isinstance(leaf, OfValue):
            sides.add(Side.KEY)
    return frozenset(sides)


def _expressions(vector: Vector) -> Iterator[Expression]:
    yield from vector_expressions(vector)
    for leaf in vector_leaves(vector):
        if isinstance(leaf, TableRow):
            yield from (each.index for each in leaf.windows)


def differ(one: Dimension, two: Dimension) -> bool:
    """Whether two lengths are known to be different; a call compares an integer with the head dimension."""
    return one.kind is two.kind is DimensionKind.FIXED and one.size != two.size


def gathered(value: VectorValue) -> list[VectorTerm]:
    """The terms of a sum, with those of one token as one vector, to which what depends on no token is added."""
    by_sides: dict[frozenset[Side], list[VectorTerm]] = {}
    for each in value.terms:
        sides = frozenset(PAIR) if each.condition is not None else sides_of_term(each)
        by_sides.setdefault(sides, []).append(each)
    several = by_sides.pop(frozenset(PAIR), [])
    free = by_sides.pop(frozenset(), [])
    first, *others = [*by_sides.values()] or [[]]
    groups = [each for each in ([*first, *free], *others) if each]
    return [*(each[0] if len(each) == 1 else VectorTerm(None, added(each)) for each in groups), *several]


def sides_of_term(term: VectorTerm) -> frozenset[Side]:
    """The tokens that a term depends on, its condition aside."""
    read = reads(*(() if term.factor is None else (term.factor.expression,)))
    return sides_of(term.vector) | {side for side in PAIR if read.names(side)}


def added(terms: list[VectorTerm]) -> Vector:
    """The sum of terms as one vector."""
    vectors = [each.vector if each.factor is None else Multiple(each.factor.expression, each.vector) for each in terms]
    return vectors[0] if len(vectors) == 1 else Sum(tuple(vectors))
