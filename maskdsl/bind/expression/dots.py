"""Elaborates `dot(a, b)`: a sum of products, each of them a read of a table or of a pair."""

from dataclasses import replace

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language import tables as errors
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, constant
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.context.score_levels import ALONE, vector_group
from maskdsl.bind.context.terms import operate
from maskdsl.bind.context.vector_values import VectorTerm, VectorValue, added, differ, gathered, sides_of, sides_of_term
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.vector_expressions import is_of_pair, unequal, vector
from maskdsl.ir.declared.inputs import Dimension
from maskdsl.ir.expressions import PAIR, Batch, Coordinate, Expression, Head, Read, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.values.group_scores import Grouping, Product
from maskdsl.ir.values.token_vectors import (
    PairProduct,
    TableRow,
    Vector,
    VectorProduct,
    Window,
)
from maskdsl.syntax import tree

_LONGEST_NAME = 60


def dot(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    """The product of two vectors: distributed over their terms in a score, of groups in the score of a route."""
    if frame.statement not in (StatementKind.SCORE, StatementKind.ROUTE):
        return frame.add(route_errors.OutsideRoute(span=call.span, function="dot", where="scores"))
    plain = [argument.value for argument in call.arguments if argument.name is None]
    if len(plain) != len(call.arguments) or len(plain) != len(PAIR):
        return frame.add(errors.DotArguments(span=call.span, found=len(call.arguments)))
    left, right = (vector(node, frame, elaborate) for node in plain)
    if isinstance(left, Bad) or isinstance(right, Bad):
        return BAD
    if differ(left.length, right.length):
        return unequal(left, right, "`dot`", call.span, frame)
    if frame.statement is StatementKind.ROUTE:
        return _of_groups(left, right, call, frame)
    products = [_product(one, two, call.span, frame) for one in gathered(left) for two in gathered(right)]
    result: Value = products[0]
    for each in products[1:]:
        result = operate(frame, Op.ADD, call.span, result, each)
    return result


def _of_groups(left: VectorValue, right: VectorValue, call: tree.Call, frame: Frame) -> Value:
    """The product of vectors of groups: a read of a table by the numbers of the groups."""
    vectors = []
    for value, argument in zip((left, right), call.arguments, strict=True):
        if any(each.condition is not None or len(sides_of_term(each)) > 1 for each in value.terms):
            return frame.add(errors.VectorOfPair(span=argument.span, function="dot"))
        vectors.append(added(list(value.terms)))
    if Side.QUERY in sides_of(vectors[1]):
        vectors.reverse()
    groupings: list[Grouping | None] = []
    for side in PAIR:
        groups = [vector_group(each, side, call.span, frame) for each in vectors]
        known = [each for each in groups if not isinstance(each, Bad)]
        if len(known) < len(groups):
            return BAD
        finer = [each for each in known if each != ALONE]
        if len(dict.fromkeys(finer)) > 1:
            shown = " and ".join(f"`{each.by}`" for each in finer)
            return frame.add(route_errors.MixedGroups(span=call.span, names=shown, side=side.plural))
        groupings.append(finer[0] if finer else None)
    if groupings == [None, None]:
        return frame.add(
            route_errors.ReadsNoKey(span=call.span, route="dot", what="neither a query nor a key", name="i")
        )
    made = Product("", vectors[0], vectors[1], *groupings)
    products = frame.declared.products
    equal = (name for name, each in products.items() if replace(each, name="") == made)
    name = next(equal, f"product {len(products)}")  # no name that an input could have
    products[name] = replace(made, name=name)
    return Term(Read(name, made.indices, Type.FLOAT, span=call.span), size=3, depth=2)


def _product(one: VectorTerm, two: VectorTerm, span: Span, frame: Frame) -> Value:
    """The product of two terms: the read of a table that a call computes, or of a pair, times their factors."""
    made = _shared(one.vector, two.vector) or _of_tables(one.vector, two.vector, frame)
    name = _name(made, span.text, frame)
    indices = made.indices if isinstance(made, VectorProduct) else _PAIR
    result: Value = Term(Read(name, indices, Type.FLOAT, span=span), size=1 + len(indices), depth=2)
    for each in (one.factor, two.factor):
        if each is not None:
            result = operate(frame, Op.MULTIPLY, span, each, result)
    for each in (one.condition, two.condition):
        if each is not None:
            result = operate(frame, Op.SELECT, span, each, result, constant(0.0, span))
    return result


_PAIR: tuple[Expression, ...] = (Batch(), Head(), Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i"))
"""What stands for the product of a pair until the score is whole."""


def _name(made: "VectorProduct | PairProduct", text: str, frame: Frame) -> str:
    """The name of an equal product, or a new one, which no input can have."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."
    known, number, name = frame.declared.dots, 1, text
    while name in known and _unnamed(known[name]) != _unnamed(made):
        number += 1
        name = f"{text} {number}"
    known[name] = replace(made, name=name) if isinstance(made, VectorProduct) else made
    return name


def _unnamed(made: "VectorProduct | PairProduct") -> object:
    return replace(made, name="") if isinstance(made, VectorProduct) else made


def _shared(one: Vector, two: Vector) -> VectorProduct | PairProduct | None:
    """The product of vectors that depend on one token each at most; None if one depends on both."""
    if is_of_pair(one) or is_of_pair(two):
        return None
    sides = sides_of(one), sides_of(two)
    both = sides[0] | sides[1]
    if len(both) < len(PAIR):
        return VectorProduct("", next(iter(both), None), one, two)
    query, key = (one, two) if Side.QUERY in sides[0] else (two, one)
    return PairProduct(query, key)


def _of_tables(one: Vector, two: Vector, frame: Frame) -> VectorProduct:
    """The product with a row whose indices depend on both tokens: with all rows that these choose from."""
    left, right = (windowed(each, frame) if is_of_pair(each) else each for each in (one, two))
    sides = frozenset[Side]().union(*(sides_of(each) for each in (one, two) if not is_of_pair(each)))
    return VectorProduct("", next(iter(sides), None), left, right)


def windowed(row: Vector, frame: Frame) -> TableRow:
    """The row with indices that depend on a token kept as axes of its product."""
    assert isinstance(row, TableRow), "functions of elements take vectors of one token"
    table = frame.declared.input(row.input)
    assert table is not None

    def kept(index: Expression | Window, dimension: Dimension) -> Expression | Window:
        if isinstance(index, Window) or dimension.size is None:
            return index
        read = reads(index)
        is_of_token = any(read.names(side) for side in PAIR)
        return Window(index, 0, dimension.size) if is_of_token else index

    pairs = zip(row.indices, table.dimensions[:-1], strict=True)
    return replace(row, indices=tuple(kept(*each) for each in pairs))
