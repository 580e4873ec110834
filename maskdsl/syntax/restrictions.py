"""What a `where` may have beside it without brackets, since both readings of an `or`, an `if` or a `not` are plausible.

`build` checks each node that it makes of a text. Its span has the brackets around its parts in it, and those around
itself not. The formatter sets the brackets that are asked for here.
"""

import re

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.language.syntax import BracketsInWhere
from maskdsl.base.source import Span
from maskdsl.syntax import tree

_COMMENT = re.compile(r"#[^\n]*")
_LONGEST = 60
"""Characters of a part of a reading."""


def _open_where(node: tree.Expression) -> tree.Where | None:
    """The `where` that an expression ends in, so that what is written behind it may belong to it."""
    match node:
        case tree.Where():
            return node
        case tree.Binary(operator="or", right=right) if right.span.end == node.span.end:
            return _open_where(right)
        case _:
            return None


def _open_arrow(node: tree.Expression) -> tree.Arrow | None:
    """The first arrow of a condition that stands in no brackets."""
    match node:
        case tree.Arrow():
            return node
        case tree.Binary(operator="and", left=left, right=right):
            parts = [left] * (left.span.start == node.span.start) + [right] * (right.span.end == node.span.end)
        case tree.Unary(operator="not", operand=operand):
            parts = [operand] * (operand.span.end == node.span.end)
        case tree.Comparison(operands=(first, *_, last)):
            parts = [first] * (first.span.start == node.span.start) + [last] * (last.span.end == node.span.end)
        case _:
            parts = []
    return next((found for part in parts if (found := _open_arrow(part)) is not None), None)


def last_not(node: tree.Expression) -> tree.Unary | None:
    """The `not` that is the last operand of a relation, so that a `where` behind it may belong to what it negates."""
    match node:
        case tree.Unary(operator="not", operand=operand):
            return (last_not(operand) if operand.span.end == node.span.end else None) or node
        case tree.Binary(operator="and", right=right) if right.span.end == node.span.end:
            return last_not(right)
        case _:
            return None


def check_or(node: tree.Binary) -> None:
    """`A -> B where x or y`."""
    found = _open_where(node.left) if node.left.span.start == node.span.start else None
    if node.operator == "or" and found is not None:
        _refuse("or", node.span, found)


def check_conditional(node: tree.Conditional) -> None:
    """`A -> B where x if c else y`."""
    found = _open_where(node.then) if node.then.span.start == node.span.start else None
    if found is not None:
        _refuse("if", node.span, found)


def check_where(node: tree.Where) -> None:
    """`A -> B where x where y`, `not A -> B where x`, and arrows behind a `where`."""
    inner, condition = node.relation, node.condition
    if isinstance(inner, tree.Where) and inner.span.start == node.span.start:
        relation, first = _parts(inner)
        _, second = _parts(node)
        readings = f"{relation} where {first} and {second}", f"({relation} where {first}) where {second}"
        raise AttnError(_error("where", condition.span, *readings))
    negation = last_not(inner) if inner.span.start == node.span.start else None
    if negation is not None:
        _refuse_not(node, negation)
    arrow = _open_arrow(condition) if condition.span.end == node.span.end else None
    if arrow is not None:
        relation, _ = _parts(node)
        before, behind = (
            _text(condition.span.source.text[start:end])
            for start, end in ((condition.span.start, arrow.span.start), (arrow.span.end, condition.span.end))
        )
        inside = " ".join(filter(None, (before, f"({_text(arrow.span.text)})", behind)))
        readings = f"{relation} where {inside}", f"{relation} and {_text(condition.span.text)}"
        raise AttnError(_error("->", arrow.span, *readings))


def _refuse(word: str, whole: Span, found: tree.Where) -> None:
    """Of a word that stands behind a `where`, up to the end of the whole."""
    relation, condition = _parts(found)
    before, rest = (
        _text(whole.source.text[start:end])
        for start, end in ((whole.start, found.span.start), (found.span.end, whole.end))
    )
    before += " " * bool(before)
    inside = f"{before}{relation} where ({condition} {rest})"
    outside = f"({before}{relation} where {condition}) {rest}"
    raise AttnError(_error(word, Span(whole.source, found.span.start, whole.end), inside, outside))


def _refuse_not(node: tree.Where, negation: tree.Unary) -> None:
    source, behind_not = node.span.source, negation.span.start + len("not")
    relation, condition = _parts(node)
    before, operand = (
        _text(source.text[start:end])
        for start, end in ((node.span.start, behind_not), (behind_not, node.condition.span.start))
    )
    operand = operand.rpartition("where")[0].strip()
    readings = f"{before} ({operand} where {condition})", f"({relation}) where {condition}"
    raise AttnError(_error("not", Span(source, negation.span.start, node.span.end), *readings, side="before"))


def _error(word: str, span: Span, inside: str, outside: str, side: str = "behind") -> BracketsInWhere:
    return BracketsInWhere(span=span, word=word, side=side, inside=inside, outside=outside)


def _parts(node: tree.Where) -> tuple[str, str]:
    """The texts before and behind the word, with their brackets."""
    source, relation, condition = node.span.source.text, node.relation.span, node.condition.span
    before, _, behind = _text(source[relation.end : condition.start]).partition("where")
    first = _text(source[node.span.start : relation.end]) + before.strip()
    return first, behind.strip() + _text(source[condition.start : node.span.end])


def _text(written: str) -> str:
    """On one line, without comments, the middle left out where it is long."""
    line = " ".join(_COMMENT.sub("", written).split())
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"
