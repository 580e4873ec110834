"""Elaborates expressions of the tree to typed terms, one case for each kind of node. Reported errors give BAD."""

from collections.abc import Sequence
from itertools import pairwise
from typing import assert_never

from maskdsl.base.errors.language.limits import RangeTooLong
from maskdsl.base.errors.language.names import NoPairHere, OutsideQuantifier, PythonRange, UnknownName
from maskdsl.base.errors.language.spaces import NotInSequence
from maskdsl.base.errors.language.syntax import StrayBy
from maskdsl.base.errors.language.tables import IndexOutOfBounds
from maskdsl.base.errors.language.types import NotConstant, Overflow, TypeMismatch
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import (
    BAD,
    AxisValue,
    Bad,
    Term,
    TupleValue,
    Value,
    constant,
    is_known,
    why_unknown,
)
from maskdsl.bind.context.frame import PAIRS, Frame, SideDeclared
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.position_warnings import warn_of_positions
from maskdsl.bind.context.reading import common_axes, read, unknown_space
from maskdsl.bind.context.sides import side_of
from maskdsl.bind.context.terms import operate
from maskdsl.bind.expression.by_head import chosen_by_head, numbers_by_head
from maskdsl.bind.expression.functions import FUNCTIONS, call_function
from maskdsl.bind.expression.macros import axes_value, expand
from maskdsl.bind.expression.names import resolve_name
from maskdsl.bind.expression.score_gathers import makes_table, table_of
from maskdsl.bind.expression.table_inputs import read_table
from maskdsl.bind.expression.unknown_functions import unknown_function
from maskdsl.ir.expressions import FALSE, TRUE, InSpace, Side
from maskdsl.ir.facts.ranges import INT64
from maskdsl.ir.ops import OPERATORS, Op, Type
from maskdsl.syntax import tree

_LONGEST_RANGE = 4096

_BINARY = {each.symbol: op for op, each in OPERATORS.items() if each.symbol and each.count == 2}
"""Operators by symbol; `>` and `>=` are `<` and `<=` with swapped operands."""
_SWAPPED = {">": "<", ">=": "<="}


def elaborate(node: tree.Expression, frame: Frame) -> Value:
    """The value of an expression in this frame; BAD, with a report, if it is wrong."""
    frame.report.enter(node.span, frame.calls)
    value = _meaning(node, frame)
    frame.report.leave()
    return value


def _meaning(node: tree.Expression, frame: Frame) -> Value:
    match node:
        case tree.Integer(value=value, span=span):
            if value not in INT64:
                shown = f"{value:,}"
                return frame.add(Overflow(span=span, low=shown, high=shown))
            return constant(value, span)
        case tree.Float(value=value, span=span) | tree.Boolean(value=value, span=span):
            return constant(value, span)
        case tree.String(span=span):
            expected = "a number, a boolean or a relation"
            return frame.add(TypeMismatch(span=span, what="this", found="a string", expected=expected))
        case tree.Name():
            return resolve_name(node, frame, elaborate)
        case tree.Attribute():
            return _attribute(node, frame)
        case tree.Tuple():
            return _tuple(node, frame)
        case tree.Unary():
            return _unary(node, frame)
        case tree.Binary(operator="and" | "or"):
            return _logic(node, frame)
        case tree.Binary():
            operands = elaborate(node.left, frame), elaborate(node.right, frame)
            if node.operator == "**":
                return _power(frame, node.span, *operands)
            if node.operator == "-":
                warn_of_positions(frame, node.span, *operands)
            return operate(frame, _BINARY[node.operator], node.span, *operands)
        case tree.Comparison():
            return _comparison(node, frame)
        case tree.Conditional():
            return _conditional(node, frame)
        case tree.Call():
            return _call(node, frame)
        case tree.Index():
            return _index(node, frame)
        case tree.Quantifier():
            return _quantifier(node, frame)
        case tree.Arrow():
            return _arrow(node, frame)
        case tree.Where():
            relation = elaborate(node.relation, frame)
            condition = elaborate(node.condition, assuming(frame, relation))
            return operate(frame, Op.AND, node.span, relation, condition)
        case tree.HalfOpenRange(span=span):
            return frame.add(OutsideQuantifier(span=span, what="a range `a .. b`"))
        case _:
            assert_never(node)


def _attribute(node: tree.Attribute, frame: Frame) -> Value:
    base, name = node.base.id, node.name.id
    if base not in ("q", "k"):
        hint = "coordinates are read from the query or the key: `q.y`, `k.y`"
        return frame.add(UnknownName(span=node.base.span, name=base, hint=hint))
    side = side_of(base, node.base.span, frame)
    if isinstance(side, Bad):
        return BAD
    value = frame.names.get(name)
    if isinstance(value, Bad):
        return BAD
    return read(frame, side, value.name if isinstance(value, AxisValue) else name, node.span)


def _tuple(node: tree.Tuple, frame: Frame) -> Value:
    items: list[int] = []
    for item in node.items:
        value = elaborate(item, frame)
        if isinstance(value, Bad):
            continue
        known = value.constant if isinstance(value, Term) and value.type is Type.INT else None
        if known is None:
            frame.add(NotConstant(span=item.span, what="the entry of a tuple", reason=why_unknown(value)))
        else:
            items.append(int(known))
    return TupleValue(tuple(items)) if len(items) == len(node.items) else BAD


def _unary(node: tree.Unary, frame: Frame) -> Value:
    operand = elaborate(node.operand, frame)
    match node.operator:
        case "not":
            return operate(frame, Op.NOT, node.span, operand)
        case "-":
            return operate(frame, Op.NEGATE, node.span, operand)
        case _:
            checked = operate(frame, Op.NEGATE, node.span, operand)
            return BAD if isinstance(checked, Bad) else operand


def _logic(node: tree.Binary, frame: Frame) -> Value:
    """`and` and `or`, from left to right. Each operand assumes that those before it did not decide the result."""
    op = Op.AND if node.operator == "and" else Op.OR
    decided = op is Op.OR
    terms: list[Value] = []
    known = frame
    for operand in chain(node):
        value = elaborate(operand, known)
        terms.append(value)
        if isinstance(value, Term) and value.constant is decided:
            break
        known = assuming(known, value, not decided)
    return operate(frame, op, node.span, *terms)


def chain(node: tree.Binary) -> list[tree.Expression]:
    """The operands of a chain of one operator."""
    operands: list[tree.Expression] = []
    left: tree.Expression = node
    while isinstance(left, tree.Binary) and left.operator == node.operator:
        operands.append(left.right)
        left = left.left
    return [left, *reversed(operands)]


def _comparison(node: tree.Comparison, frame: Frame) -> Value:
    values = [elaborate(operand, frame) for operand in node.operands]
    relations: list[Value] = []
    for operator, (left, right) in zip(node.operators, pairwise(values), strict=True):
        first, second = (right, left) if operator in _SWAPPED else (left, right)
        warn_of_positions(frame, node.span, left, right)
        relations.append(operate(frame, _BINARY[_SWAPPED.get(operator, operator)], node.span, first, second))
    return relations[0] if len(relations) == 1 else operate(frame, Op.AND, node.span, *relations)


def _conditional(node: tree.Conditional, frame: Frame) -> Value:
    condition = elaborate(node.condition, frame)
    if isinstance(condition, Term) and isinstance(condition.constant, bool):
        return elaborate(node.then if condition.constant else node.otherwise, frame)
    then = elaborate(node.then, assuming(frame, condition))
    otherwise = elaborate(node.otherwise, assuming(frame, condition, False))
    return operate(frame, Op.SELECT, node.span, condition, then, otherwise)


def _call(node: tree.Call, frame: Frame) -> Value:
    name = node.function.id
    if makes_table(node, frame):
        return table_of(node, frame, elaborate)
    stray = next((each.by for each in node.arguments if each.by is not None), None)
    if stray is not None:
        return frame.add(StrayBy(span=stray.span))
    if name in FUNCTIONS:
        return call_function(node, frame, elaborate)
    macros = frame.declared.program.macros(node.span.source)
    macro = macros.get(name)
    if macro is None:
        return frame.add(unknown_function(node, frame, macros, FUNCTIONS))
    return expand(node, macro, frame, elaborate)


def _index(node: tree.Index, frame: Frame) -> Value:
    """An entry of a tuple, whose index must be known, or of an input."""
    value = frame.names.get(node.base.id)
    if isinstance(value, Bad):
        return BAD
    indices = [elaborate(index, frame) for index in node.indices]
    if not isinstance(value, TupleValue):
        return read_table(node, indices, frame)
    (index, *others) = indices
    if isinstance(index, Bad):
        return BAD
    if others or not isinstance(index, Term) or not is_known(index):
        reason = "a tuple takes one index" if others else why_unknown(index)
        return frame.add(NotConstant(span=node.span, what="the index of a tuple", reason=reason))
    return _entry(node, value.items, index, frame)


def _entry(node: tree.Index, items: tuple[int, ...], index: Term, frame: Frame) -> Value:
    """The entry of a tuple at an index that is known, for each head."""
    numbers = numbers_by_head(frame, index)
    outside = [head for head, number in enumerate(numbers) if number not in range(len(items))]
    if outside:
        entries, heads = len(items), frame.declared.heads
        where, advice = "always outside", ""
        if index.constant is None:
            others = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
            where = f"outside for head {heads.first + outside[0]}{others}"
            advice = f"there are {heads.whole} heads and {entries} entries" if entries < heads.whole else ""
        low, high, at = min(numbers), max(numbers), node.indices[0].span
        return frame.add(IndexOutOfBounds(span=at, low=low, high=high, last=entries - 1, where=where, advice=advice))
    return chosen_by_head(frame, node.span, numbers, lambda number: constant(items[number], node.span))


def _power(frame: Frame, span: Span, base: Value, exponent: Value) -> Value:
    """A power. Of an exponent that depends on the head alone there is one for each head."""
    if not isinstance(exponent, Term) or exponent.constant is not None or not is_known(exponent):
        return operate(frame, Op.POWER, span, base, exponent)
    at = exponent.expression.span or span
    numbers = numbers_by_head(frame, exponent)
    return chosen_by_head(
        frame, span, numbers, lambda number: operate(frame, Op.POWER, span, base, constant(number, at))
    )


def _quantifier(node: tree.Quantifier, frame: Frame) -> Value:
    """Elaborates the body once for every integer or axis of the domain."""
    domain = _domain(node.domain, frame, node.kind)
    if domain is None:
        return BAD
    decided = {"any": True, "all": False, "sum": None}[node.kind]
    terms: list[Value] = []
    known = frame
    for each in domain:
        value = elaborate(node.body, known.naming(**{node.variable.id: each}))
        terms.append(value)
        if decided is not None:
            if isinstance(value, Term) and value.constant is decided:
                break
            known = assuming(known, value, not decided)
        if isinstance(value, Bad):  # one report of it is enough
            return BAD
    match node.kind:
        case "sum":
            return _sum(terms, node.span, frame)
        case kind if not terms:
            return Term(FALSE if kind == "any" else TRUE)
        case kind:
            return operate(frame, Op.OR if kind == "any" else Op.AND, node.span, *terms)


def _sum(terms: Sequence[Value], span: Span, frame: Frame) -> Value:
    """The sum of the terms as a balanced tree, so that long sums are not deep."""
    if not terms:
        return constant(0, span)
    if len(terms) == 1:
        return operate(frame, Op.ADD, span, constant(0, span), terms[0]) if _is_boolean(terms[0]) else terms[0]
    middle = len(terms) // 2
    halves = _sum(terms[:middle], span, frame), _sum(terms[middle:], span, frame)
    return operate(frame, Op.ADD, span, *halves)


def _is_boolean(value: Value) -> bool:
    return isinstance(value, Term) and value.type is Type.BOOL


def _domain(node: tree.Expression, frame: Frame, function: str) -> list[Value] | None:
    if isinstance(node, tree.HalfOpenRange):
        return integers(node, frame)
    if isinstance(node, tree.Call) and node.function.id == "range":
        end = node.arguments[-1].value.span.text if node.arguments else "n"
        frame.add(PythonRange(span=node.span, end=end))
        return None
    axes = axes_value(frame, node)
    if isinstance(axes, Bad):
        return None
    names = common_axes(frame, node.span, function) if axes.names is None else axes.names
    return None if isinstance(names, Bad) else [AxisValue(name) for name in names]


def integers(node: tree.HalfOpenRange, frame: Frame) -> list[Value] | None:
    """The integers of a range; None, with a report, if it is wrong."""
    bounds: list[int] = []
    for end in (node.low, node.high):
        value = elaborate(end, frame)
        if isinstance(value, Term) and value.type is Type.INT and value.constant is not None:
            bounds.append(int(value.constant))
        elif not isinstance(value, Bad):
            frame.add(NotConstant(span=end.span, what="the bound of a range", reason=why_unknown(value)))
    if len(bounds) < 2:
        return None
    low, high = bounds
    if high - low > _LONGEST_RANGE:
        frame.add(RangeTooLong(span=node.span, count=high - low, limit=_LONGEST_RANGE))
        return None
    return [constant(value, node.span) for value in range(low, high)]


def _arrow(node: tree.Arrow, frame: Frame) -> Value:
    if frame.statement not in PAIRS:
        return frame.add(NoPairHere(span=node.span, hint="`->` relates a query and a key"))
    ends = _end(node.query, Side.QUERY, frame), _end(node.key, Side.KEY, frame)
    return operate(frame, Op.AND, node.span, *ends)


def _end(name: tree.Name, side: Side, frame: Frame) -> Value:
    tokens: SideDeclared = frame.side(side)
    known = [space.name for space in tokens.sequence.spaces]
    if name.id == "all":
        return Term(TRUE)
    if name.id in frame.declared.bad_names:
        return BAD
    if name.id in known:
        return Term(TRUE if known == [name.id] else InSpace(side, name.id, span=name.span))
    shown = ", ".join(f"`{each}`" for each in known)
    if any(space.name == name.id for space in (*frame.declared.spaces(), *frame.declared.sources())):
        return frame.add(NotInSequence(span=name.span, name=name.id, sequence=side.plural, known=f"they are {shown}"))
    return unknown_space(frame, name.id, name.span, known, "all")
