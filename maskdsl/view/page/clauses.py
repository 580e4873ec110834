"""The lines of a pattern about a pair: those that allow or forbid it, with operands, and those about its score."""

from collections.abc import Callable, Container
from functools import partial
from pathlib import PurePath
from typing import Any

from maskdsl.analysis.reasons.score_reasons import ByCondition, Pieces, ScoreMeaning, has_values, pieces_of, scored
from maskdsl.base.source import Span
from maskdsl.bind.bind_pattern import frame_at
from maskdsl.bind.expression.elaborate import chain
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Apply, Expression
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import pair_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program
from maskdsl.view.page.page_program import Code

ClauseData = dict[str, Any]

_OPERATORS = {"and": Op.AND, "or": Op.OR, "if": Op.SELECT}


def branches_data(
    program: Program, mask: MaskIR, code: Code, known: Container[str], one_head: bool
) -> list[dict[str, Any]]:
    """For each branch, or for the whole pattern, its lines, and what becomes of scores.

    `known` are the inputs that the page has. Without `one_head` it shows several heads at once.
    """

    def is_known(mask: MaskIR, node: Expression) -> bool:
        trace = pair_trace(mask, (node,))
        is_same = one_head or DimensionKind.HEADS not in trace.varies(mask)
        return is_same and not reads(node).score and all(name in known for name in trace.inputs)

    def data(branch: MaskIR) -> dict[str, Any]:
        said = scored(program, branch)
        scores = [_score_line(each, partial(is_known, branch), code) for each in said.statements]
        lines = _clauses(program, branch, code)
        return {"name": branch.branch, "clauses": lines, "scores": scores, "probability": said.probability}

    return [data(each) for each in mask.branches or (mask,)]


def _clauses(program: Program, mask: MaskIR, code: Code) -> list[ClauseData]:
    """Every `attend` and `require` line, in the order of the text: its kind, its line and column, and its relation.

    Behind them the spaces whose pools may have no tokens, which then forbid a pair.
    """
    declaration, _, _ = frame_at(program, mask.name, dict(mask.parameters), mask.whole or mask.heads, mask.branch)
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
    for pool in meanings["require"]:
        assert pool.span is not None
        at = _position(pool.span)
        lines.append({"kind": "require", "pool": True, **at, "relation": {**at, "node": code.add(pool.relation)}})
    return lines


def _score_line(line: ScoreMeaning, is_known: Callable[[Expression], bool], code: Code) -> dict[str, Any]:
    """A line about scores, and the pieces of its text that the page computes; None where there are none."""
    pieces = () if line.meaning is None else pieces_of(line.meaning, is_known)
    return {**_position(line.statement.span), "parts": _pieces_data(pieces, code) if has_values(pieces) else None}


def _pieces_data(pieces: Pieces, code: Code) -> Any:
    if isinstance(pieces, ByCondition):
        then, otherwise = (_pieces_data(each, code) for each in (pieces.then, pieces.otherwise))
        return {"if": code.add(pieces.condition), "then": then, "else": otherwise}
    return [each if isinstance(each, str) else code.add(each) for each in pieces]


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


def source_data(declaration: tree.PatternDeclaration) -> ClauseData:
    """The lines of a declaration as in its file, which is named without the folders of the machine it lies on."""
    text = declaration.span.source
    first, last = text.position(declaration.span.start)[0], text.position(max(declaration.span.end - 1, 0))[0]
    lines = [text.line(number) for number in range(first, last + 1)]
    return {"file": PurePath(text.name).name, "first": first, "lines": lines}
