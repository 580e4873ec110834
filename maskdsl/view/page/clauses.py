"""The lines of a pattern that allow or forbid pairs, with their operands: the page's reasons for a pair."""

from pathlib import PurePath
from typing import Any

from maskdsl.base.source import Span
from maskdsl.bind.expression.elaborate import chain
from maskdsl.ir.expressions import Apply, Expression
from maskdsl.ir.mask import Clause, MaskIR
from maskdsl.ir.ops import Op
from maskdsl.syntax import tree
from maskdsl.view.page.page_program import Code

ClauseData = dict[str, Any]

_OPERATORS = {"and": Op.AND, "or": Op.OR, "if": Op.SELECT}


def clauses(declaration: tree.PatternDeclaration, mask: MaskIR, code: Code) -> list[ClauseData]:
    """Every `attend` and `require` line, in the order of the text: its kind, its line and column, and its relation."""
    if mask.branches:
        return [_branch(each, code) for each in mask.attend]
    meanings = {"attend": iter(mask.attend), "require": iter(mask.require)}
    lines: list[ClauseData] = []
    for statement in declaration.statements:
        match statement:
            case tree.AttendStatement(relation=relation):
                kind = "attend"
            case tree.RequireStatement(relation=relation):
                kind = "require"
            case _:
                continue
        clause = _clause(relation, next(meanings[kind]).relation, code)
        lines.append({"kind": kind, **_position(statement.span), "relation": clause})
    return lines


def _branch(clause: Clause, code: Code) -> ClauseData:
    """A branch as one line, which attends what the branch does."""
    assert clause.span is not None
    at = {**_position(clause.span), "text": clause.label}
    return {"kind": "attend", **at, "relation": {**at, "node": code.add(clause.relation)}}


def _clause(node: tree.Expression, meaning: Expression, code: Code) -> ClauseData:
    """A relation and the operands of its `and`, `or` or `if`, as far as text and meaning agree."""
    data = {**_position(node.span), "node": code.add(meaning)}
    operator, operands = _joined(node)
    match meaning:
        case Apply(op=op, arguments=meanings) if op is _OPERATORS.get(operator) and len(meanings) == len(operands):
            inner = [_clause(*each, code) for each in zip(operands, meanings, strict=True)]
            return {**data, "operator": operator, "operands": inner}
        case _:
            return data


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


def _position(span: Span) -> ClauseData:
    """The line and column of a span, from 1, and its text."""
    line, column = span.source.position(span.start)
    return {"line": line, "column": column, "text": span.text}


def source(declaration: tree.PatternDeclaration) -> ClauseData:
    """The lines of a declaration as in its file, which is named without the folders of the machine it lies on."""
    text = declaration.span.source
    first, last = text.position(declaration.span.start)[0], text.position(max(declaration.span.end - 1, 0))[0]
    lines = [text.line(number) for number in range(first, last + 1)]
    return {"file": PurePath(text.name).name, "first": first, "lines": lines}
