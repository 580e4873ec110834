"""Refuses a `where` beside an `or`, `if`, `not` or arrow without brackets, because both readings are plausible (E251).

`build` checks each node that it makes of a text. The span of a node includes the brackets around its operands, but
not those around itself. The formatter writes the brackets that are required here.
"""

import re
from itertools import pairwise

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.language.syntax import BracketsInWhere
from maskdsl.base.source import Span
from maskdsl.syntax import tree

_COMMENT = re.compile(r"#[^\n]*")
_LONGEST = 60
"""The most characters that an error shows of each operand."""


def _open_where(node: tree.Expression) -> tree.Where | None:
    """The `where` that an expression ends in, so that what follows may belong to it."""
    match node:
        case tree.Where():
            return node
        case tree.Binary(operator="or", right=right) if right.span.end == node.span.end:
            return _open_where(right)
        case _:
            return None


def _open_arrow(node: tree.Expression) -> tree.Arrow | None:
    """The first arrow of a condition that is not in brackets."""
    match node:
        case tree.Arrow():
            return node
        case tree.Binary(operator="and", left=left, right=right):
            operands = [left] * (left.span.start == node.span.start) + [right] * (right.span.end == node.span.end)
        case tree.Unary(operator="not", operand=operand):
            operands = [operand] * (operand.span.end == node.span.end)
        case tree.Comparison(operands=(first, *others, last)):
            operands = [first] * (first.span.start == node.span.start)
            operands += [each for before, each in pairwise((first, *others)) if not _is_bracketed(before, each)]
            operands += [last] * (last.span.end == node.span.end)
        case _:
            operands = []
    return next((arrow for operand in operands if (arrow := _open_arrow(operand)) is not None), None)


def _is_bracketed(before: tree.Expression, node: tree.Expression) -> bool:
    """Whether a bracket opens between two operands."""
    return "(" in _COMMENT.sub("", node.span.source.text[before.span.end : node.span.start])


def last_not(node: tree.Expression) -> tree.Unary | None:
    """The `not` that is the last operand of a relation, so that a following `where` may belong to its operand."""
    match node:
        case tree.Unary(operator="not", operand=operand):
            return (last_not(operand) if operand.span.end == node.span.end else None) or node
        case tree.Binary(operator="and", right=right) if right.span.end == node.span.end:
            return last_not(right)
        case _:
            return None


def check_or(node: tree.Binary) -> None:
    """Refuses `A -> B where x or y`."""
    where = _open_where(node.left) if node.left.span.start == node.span.start else None
    if node.operator == "or" and where is not None:
        _refuse("or", node.span, where)


def check_conditional(node: tree.Conditional) -> None:
    """Refuses `A -> B where x if c else y`."""
    where = _open_where(node.then) if node.then.span.start == node.span.start else None
    if where is not None:
        _refuse("if", node.span, where)


def check_where(node: tree.Where) -> None:
    """Refuses `A -> B where x where y`, `not A -> B where x`, and arrows after a `where`."""
    inner, condition = node.relation, node.condition
    if isinstance(inner, tree.Where) and inner.span.start == node.span.start:
        relation, first = _texts(inner)
        _, second = _texts(node)
        readings = f"{relation} where {first} and {second}", f"({relation} where {first}) where {second}"
        raise AttnError(_error("where", condition.span, *readings))
    negation = last_not(inner) if inner.span.start == node.span.start else None
    if negation is not None:
        _refuse_not(node, negation)
    arrow = _open_arrow(condition) if condition.span.end == node.span.end else None
    if arrow is not None:
        relation, _ = _texts(node)
        before, after = (
            _text(condition.span.source.text[start:end])
            for start, end in ((condition.span.start, arrow.span.start), (arrow.span.end, condition.span.end))
        )
        inside = " ".join(filter(None, (before, f"({_text(arrow.span.text)})", after)))
        readings = f"{relation} where {inside}", f"{relation} and {_text(condition.span.text)}"
        raise AttnError(_error("->", arrow.span, *readings))


def _refuse(word: str, whole: Span, where: tree.Where) -> None:
    """Raises the error for a word after a `where`, from the `where` to the end of the whole expression."""
    relation, condition = _texts(where)
    before, rest = (
        _text(whole.source.text[start:end])
        for start, end in ((whole.start, where.span.start), (where.span.end, whole.end))
    )
    before += " " * bool(before)
    inside = f"{before}{relation} where ({condition} {rest})"
    outside = f"({before}{relation} where {condition}) {rest}"
    raise AttnError(_error(word, Span(whole.source, where.span.start, whole.end), inside, outside))


def _refuse_not(node: tree.Where, negation: tree.Unary) -> None:
    source, after_not = node.span.source, negation.span.start + len("not")
    relation, condition = _texts(node)
    before, operand = (
        _text(source.text[start:end])
        for start, end in ((node.span.start, after_not), (after_not, node.condition.span.start))
    )
    operand = operand.rpartition("where")[0].strip()
    readings = f"{before} ({operand} where {condition})", f"({relation}) where {condition}"
    raise AttnError(_error("not", Span(source, negation.span.start, node.span.end), *readings, side="before"))


def _error(word: str, span: Span, inside: str, outside: str, side: str = "after") -> BracketsInWhere:
    return BracketsInWhere(span=span, word=word, side=side, inside=inside, outside=outside)


def _texts(node: tree.Where) -> tuple[str, str]:
    """The texts before and after the word `where`, with their brackets."""
    source, relation, condition = node.span.source.text, node.relation.span, node.condition.span
    before, _, after = _text(source[relation.end : condition.start]).partition("where")
    first = _text(source[node.span.start : relation.end]) + before.strip()
    return first, after.strip() + _text(source[condition.start : node.span.end])


def _text(written: str) -> str:
    """The text on one line, without comments; if it is long, without its middle."""
    line = " ".join(_COMMENT.sub("", written).split())
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"
