"""The lines of a pattern that allow or forbid pairs, with their parts: what the page names as the reason for a pair."""

from typing import Any

from maskdsl.base.source import Span
from maskdsl.bind.expression.elaborate import chain
from maskdsl.ir.expressions import Apply, Expression
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.syntax import tree
from maskdsl.view.page.page_program import Code

Part = dict[str, Any]

_OPERATORS = {"and": Op.AND, "or": Op.OR, "if": Op.SELECT}


def clauses(declaration: tree.PatternDeclaration, mask: MaskIR, code: Code) -> list[Part]:
    """Every `attend` and `require` line, in the order of the text: its kind, its place and its relation."""
    meanings = {"attend": iter(mask.attend), "require": iter(mask.require)}
    found: list[Part] = []
    for statement in declaration.statements:
        match statement:
            case tree.AttendStatement(relation=relation):
                kind = "attend"
            case tree.RequireStatement(relation=relation):
                kind = "require"
            case _:
                continue
        clause = _part(relation, next(meanings[kind]).relation, code)
        found.append({"kind": kind, **_position(statement.span), "relation": clause})
    return found


def _part(node: tree.Expression, meaning: Expression, code: Code) -> Part:
    """A relation and, where it is made of others by `and`, `or` or `if`, these: as far as text and meaning agree."""
    found = {**_position(node.span), "node": code.add(meaning)}
    operator, operands = _joined(node)
    match meaning:
        case Apply(op=op, arguments=parts) if op is _OPERATORS.get(operator) and len(parts) == len(operands):
            inner = [_part(*each, code) for each in zip(operands, parts, strict=True)]
            return {**found, "operator": operator, "parts": inner}
        case _:
            return found


def _joined(node: tree.Expression) -> tuple[str, list[tree.Expression]]:
    match node:
        case tree.Binary(operator="and" | "or" as operator):
            return operator, chain(node)
        case tree.Where(relation=relation, condition=condition):
            return "and", [relation, condition]
        case tree.Conditional(condition=condition, then=then, otherwise=otherwise):
            return "if", [condition, then, otherwise]
        case _:
            return "", []


def _position(span: Span) -> Part:
    """Line and column from 1, and the text."""
    line, column = span.source.position(span.start)
    return {"line": line, "column": column, "text": span.text}


def source(declaration: tree.PatternDeclaration) -> Part:
    """The lines of the declaration as its file has them."""
    text = declaration.span.source
    first, last = text.position(declaration.span.start)[0], text.position(max(declaration.span.end - 1, 0))[0]
    return {"file": text.name, "first": first, "lines": [text.line(number) for number in range(first, last + 1)]}
