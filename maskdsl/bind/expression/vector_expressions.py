"""Elaborates vectors: of a token, of a row of a table, of groups; their multiples, sums, choices and elements."""

from dataclasses import replace

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language import tables as errors
from maskdsl.base.errors.language.syntax import OldForm
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Abbreviation, Bad, Term, Value, constant, describe
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.sides import head_number, side_of
from maskdsl.bind.context.terms import operate, promoted
from maskdsl.bind.context.vector_values import VectorTerm, VectorValue, added, differ, sides_of
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.pools import KINDS, pooled
from maskdsl.bind.expression.table_inputs import read_row
from maskdsl.ir.declared.inputs import Dimension, DimensionKind
from maskdsl.ir.expressions import PAIR, Batch, Coordinate, Expression, Side
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.values.token_vectors import (
    Elementwise,
    OfToken,
    OfValue,
    Vector,
)
from maskdsl.syntax import tree
from maskdsl.syntax.format_expression import format_expression
from maskdsl.syntax.upgrade import as_gathered

_HEAD_DIM = Dimension(DimensionKind.DIM, None, "dim")


def vector(node: tree.Expression, frame: Frame, elaborate: Elaborate) -> VectorValue | Bad:
    """The vector that an expression is; BAD, with a report, if it is none."""
    match node:
        case tree.Name(id="v") if frame.statement is StatementKind.VECTOR:
            return _single(OfValue(), _HEAD_DIM)
        case tree.Name(id="q" | "k" as base, span=span) if frame.statement is not StatementKind.VECTOR:
            side = side_of(base, span, frame)
            return BAD if isinstance(side, Bad) else _single(OfToken(side), _HEAD_DIM)
        case tree.Name(id=name) if isinstance(value := frame.names.get(name), Abbreviation):
            return vector(value.statement.value, replace(frame, names=value.names), elaborate)
        case tree.Name(id=name) if _is_row(name, frame):
            row = read_row(node, [], node.span, frame)
            return BAD if isinstance(row, Bad) else _single(*row)
        case tree.Index(base=tree.Name(id=name)) if _is_table(name, frame):
            row = read_row(node.base, [elaborate(each, frame) for each in node.indices], node.span, frame)
            return BAD if isinstance(row, Bad) else _single(*row)
        case tree.Attribute(base=tree.Name(id="q" | "k" as base), name=name) if _is_table(name.id, frame):
            return _of_token(node, base, frame)
        case tree.Unary(operator="+" | "-" as sign, operand=operand):
            inner = vector(operand, frame, elaborate)
            return inner if sign == "+" else _scaled(inner, constant(-1.0, node.span), frame, node.span)
        case tree.Binary(operator="+" | "-" as sign, left=left, right=right):
            one, two = (vector(each, frame, elaborate) for each in (left, right))
            two = two if sign == "+" else _scaled(two, constant(-1.0, node.span), frame, node.span)
            return _added(one, two, node.span, frame)
        case tree.Binary(operator="*", left=left, right=right):
            first = is_vector(left, frame)
            factor, rest = (right, left) if first else (left, right)
            return _scaled(vector(rest, frame, elaborate), _factor(factor, frame, elaborate), frame, node.span)
        case tree.Binary(operator="/", left=left, right=right):
            divisor = _factor(right, frame, elaborate)
            inverse = operate(frame, Op.DIVIDE, node.span, constant(1.0, node.span), divisor)
            return _scaled(vector(left, frame, elaborate), inverse, frame, node.span)
        case tree.Conditional():
            return _conditional(node, frame, elaborate)
        case tree.Call() if _is_pool(node) and frame.statement in (StatementKind.SCORE, StatementKind.ROUTE):
            return _of_group(node, frame, elaborate)
        case tree.Call(function=tree.Name(id="max" | "min" | "abs")) if is_vector(node, frame):
            return _elementwise(node, frame, elaborate)
    old = as_gathered(node) if isinstance(node, tree.Call) else None
    if old is not None:
        return frame.add(OldForm(span=node.span, text=format_expression(old)))
    value = elaborate(node, frame)
    return BAD if isinstance(value, Bad) else frame.add(errors.NoVector(span=node.span, found=describe(value)))


def is_vector(node: tree.Expression, frame: Frame) -> bool:
    """Whether an expression is meant as a vector, by its form."""
    match node:
        case tree.Name(id=name) if _is_row(name, frame):
            return True
        case tree.Name(id=name):
            value = frame.names.get(name)
            if frame.statement is StatementKind.VECTOR and name in ("q", "k", "v"):
                return name == "v"
            return name in ("q", "k") or (isinstance(value, Abbreviation) and is_vector(value.statement.value, frame))
        case tree.Index(base=tree.Name(id=name), indices=indices):
            table = frame.declared.input(name)
            return table is not None and len(indices) == len(table.dimensions) - 1
        case tree.Attribute(name=name):
            return _is_table(name.id, frame)
        case tree.Unary(operand=operand):
            return is_vector(operand, frame)
        case tree.Binary(operator="+" | "-" | "*" | "/", left=left, right=right):
            return is_vector(left, frame) or is_vector(right, frame)
        case tree.Conditional(then=left, otherwise=right):
            return is_vector(left, frame) or is_vector(right, frame)
        case tree.Call(function=tree.Name(id=function), arguments=arguments):
            if _is_pool(node):
                return True
            operands = (each.value for each in arguments if each.name is None)
            return function in _ELEMENTWISE and any(is_vector(each, frame) for each in operands)
        case _:
            return False


def _is_pool(node: tree.Expression) -> bool:
    """Whether an expression is a pool of vectors, as `mean(q by c)`: those by `k` and `k.c` gather scores."""
    if not isinstance(node, tree.Call) or node.function.id not in KINDS:
        return False
    by = node.arguments[0].by if node.arguments else None
    return isinstance(by, tree.Name) and by.id not in ("q", "k")


def _of_group(call: tree.Call, frame: Frame, elaborate: Elaborate) -> VectorValue | Bad:
    """The pooled vector of the group of a token."""
    node = call.arguments[0].value
    value = vector(node.relation if isinstance(node, tree.Where) else node, frame, elaborate)
    if isinstance(value, Bad):
        return BAD
    whole = added(list(value.terms))
    sides = sides_of(whole)
    if len(sides) != 1 or any(each.condition is not None for each in value.terms):
        forms = "a vector of one token, of the queries or of the keys,"
        return frame.add(route_errors.WrongPool(span=node.span, forms=forms))
    group = pooled(call, whole, next(iter(sides)), frame, elaborate)
    return BAD if isinstance(group, Bad) else _single(group, value.length)


def _conditional(node: tree.Conditional, frame: Frame, elaborate: Elaborate) -> VectorValue | Bad:
    """`a if c else b`, in which 0.0 stands for the zero vector."""
    condition = elaborate(node.condition, frame)
    if isinstance(condition, Term) and isinstance(condition.constant, bool):
        return vector(node.then if condition.constant else node.otherwise, frame, elaborate)
    terms: list[VectorTerm] = []
    lengths: list[VectorValue] = []
    for branch, truth in ((node.then, True), (node.otherwise, False)):
        holds = condition if truth else operate(frame, Op.NOT, node.condition.span, condition)
        if isinstance(branch, tree.Float | tree.Integer) and branch.value == 0:
            continue
        value = vector(branch, assuming(frame, condition, truth), elaborate)
        if isinstance(value, Bad) or not isinstance(holds, Term):
            return BAD
        lengths.append(value)
        for each in value.terms:
            both = holds if each.condition is None else operate(frame, Op.AND, node.span, holds, each.condition)
            if not isinstance(both, Term):
                return BAD
            terms.append(replace(each, condition=both))
    if not lengths:
        return frame.add(errors.NoVector(span=node.span, found="a number"))
    if differ(lengths[0].length, lengths[-1].length):
        return unequal(lengths[0], lengths[-1], "a condition", node.span, frame)
    return VectorValue(tuple(terms), lengths[0].length)


_ELEMENTWISE = {"max": (Op.MAXIMUM, 2), "min": (Op.MINIMUM, 2), "abs": (Op.ABSOLUTE, 1)}
"""The functions of elements, and how many operands they take."""


def _elementwise(call: tree.Call, frame: Frame, elaborate: Elaborate) -> VectorValue | Bad:
    """A function of the elements of vectors, which read the same token."""
    op, count = _ELEMENTWISE[call.function.id]
    if len(call.arguments) != count or any(each.name is not None for each in call.arguments):
        elaborate(call, frame)  # reports what is wrong with the arguments
        return BAD
    operands: list[Vector | Expression] = []
    lengths: list[VectorValue] = []
    for each in call.arguments:
        if not is_vector(each.value, frame):
            factor = _factor(each.value, frame, elaborate)
            checked = operate(frame, Op.MULTIPLY, each.span, factor, constant(1.0, each.span))  # a float, or an error
            if isinstance(checked, Bad) or not isinstance(factor, Term):
                return BAD
            operands.append(factor.expression)
            continue
        value = vector(each.value, frame, elaborate)
        if isinstance(value, Bad):
            return BAD
        lengths.append(value)
        if any(term.condition is not None for term in value.terms):
            return frame.add(errors.VectorOfPair(span=each.span, function=call.function.id))
        operands.append(added(list(value.terms)))
    if differ(lengths[0].length, lengths[-1].length):
        return unequal(lengths[0], lengths[-1], f"`{call.function.id}`", call.span, frame)
    made = Elementwise(op, tuple(operands))
    if is_of_pair(made):
        return frame.add(errors.VectorOfPair(span=call.span, function=call.function.id))
    return _single(made, lengths[0].length)


def _is_table(name: str, frame: Frame) -> bool:
    table = frame.declared.input(name)
    return name not in frame.names and table is not None and not table.is_coordinate


def _is_row(name: str, frame: Frame) -> bool:
    """Whether a name is that of an input with one dimension, which is a vector as a whole."""
    table = frame.declared.input(name)
    if not _is_table(name, frame) or table is None or len(table.dimensions) != 1:
        return False
    return table.type is Type.FLOAT and table.dimensions[0].kind in (DimensionKind.DIM, DimensionKind.FIXED)


def _of_token(node: tree.Attribute, base: str, frame: Frame) -> VectorValue | Bad:
    """`q.rows`: the vector that an input with one token dimension has for the token."""
    table = frame.declared.input(node.name.id)
    assert table is not None
    side = Side.QUERY if base == "q" else Side.KEY
    indices: list[Value] = []
    for each in table.dimensions[:-1]:
        match each.kind:
            case DimensionKind.BATCH:
                indices.append(Term(Batch()))
            case DimensionKind.HEADS:
                indices.append(head_number(frame.declared.heads, node.span))
            case DimensionKind.TOKENS:
                indices.append(_position(side, each, node.span, frame))
            case _:
                indices = []
                break
    if [each.kind for each in table.dimensions].count(DimensionKind.TOKENS) != 1 or not indices:
        what = f"the table `{table.name}`, which is read by indices"
        return frame.add(errors.NoVector(span=node.span, found=what))
    row = read_row(node.name, indices, node.span, frame)
    return BAD if isinstance(row, Bad) else _single(*row)


def _position(side: Side, dimension: Dimension, span: Span, frame: Frame) -> Value:
    """The index of a token along a dimension: its position in the sequence, or in the space of that name."""
    sequence = frame.sequence(side)
    position = Term(Coordinate(side, "i", span=span))
    pairs = zip(sequence.spaces, sequence.offsets, strict=True)
    offset = next((offset for space, offset in pairs if space.name == dimension.text), 0)
    return position if not offset else operate(frame, Op.SUBTRACT, span, position, constant(offset, span))


def _single(vector: Vector, length: Dimension) -> VectorValue:
    return VectorValue((VectorTerm(None, vector),), length)


def _factor(node: tree.Expression, frame: Frame, elaborate: Elaborate) -> Value:
    value = elaborate(node, frame)
    return promoted(frame, value) if isinstance(value, Term) and value.type is Type.INT else value


def _scaled(value: VectorValue | Bad, factor: Value, frame: Frame, span: Span) -> VectorValue | Bad:
    """A multiple of a vector."""
    if isinstance(value, Bad) or isinstance(factor, Bad):
        return BAD
    terms = []
    for each in value.terms:
        product = factor if each.factor is None else operate(frame, Op.MULTIPLY, span, each.factor, factor)
        checked = operate(frame, Op.MULTIPLY, span, product, constant(1.0, span))  # a float, or an error
        if isinstance(checked, Bad) or not isinstance(product, Term):
            return BAD
        terms.append(replace(each, factor=product))
    return replace(value, terms=tuple(terms))


def _added(one: VectorValue | Bad, two: VectorValue | Bad, span: Span, frame: Frame) -> VectorValue | Bad:
    if isinstance(one, Bad) or isinstance(two, Bad):
        return BAD
    if differ(one.length, two.length):
        return unequal(one, two, "a sum", span, frame)
    length = one.length if one.length.kind is DimensionKind.FIXED else two.length
    return VectorValue((*one.terms, *two.terms), length)


def is_of_pair(vector: Vector) -> bool:
    return len(sides_of(vector)) == len(PAIR)


def unequal(one: VectorValue, two: VectorValue, what: str, span: Span, frame: Frame) -> Bad:
    return frame.add(errors.UnequalVectors(span=span, one=one.length.text, two=two.length.text, what=what))
