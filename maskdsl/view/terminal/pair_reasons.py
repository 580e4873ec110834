"""The output of `maskdsl explain --pair`: both tokens, every line with the pair's values in it, and the verdict."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from maskdsl.base.text import printable
from maskdsl.ir.expressions import Apply, Expression
from maskdsl.ir.mask import Clause
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.meaning.reasons import Line, PairReasons, Reason
from maskdsl.ir.ops import Op

Token = Mapping[str, int | float | bool]
"""The coordinates of a token by name."""
_JOINED = {Op.AND: "all of", Op.OR: "any of", Op.NOT: "not"}


def position(clause: Clause) -> str:
    """The file and the number of a line: `longformer.attn:6`."""
    assert clause.span is not None
    return f"{printable(PurePath(clause.span.source.name).name)}:{clause.span.source.position(clause.span.start)[0]}"


def written(clause: Clause) -> str:
    """The text of a clause, on one line."""
    assert clause.span is not None
    return " ".join(clause.span.text.split())


def _verdict(reasons: PairReasons) -> str:
    """One sentence: `query 17 does not attend key 4093: no attend line allows it`."""
    pair = f"query {reasons.query} {{}} key {reasons.key}"
    lines = ", ".join(position(line.clause) for line in reasons.deciding)
    if reasons.attends:
        return f"{pair.format('attends')}: {lines} allow{'s' * (len(reasons.deciding) == 1)} it"
    if any(line.reason.holds for line in reasons.attend):
        return f"{pair.format('does not attend')}: {lines} forbid{'s' * (len(reasons.deciding) == 1)} it"
    return f"{pair.format('does not attend')}: no `attend` line allows it"


def _token(name: str, number: int, coordinates: Token) -> Text:
    """`query 17   y = 0, x = 17`."""
    values = ", ".join(f"{axis} = {value}" for axis, value in coordinates.items())
    return Text.assemble((f"{name} {number}", "bold"), (f"   {values}" if values else "", "dim"))


def shown(reasons: PairReasons, query: Token, key: Token) -> RenderableType:
    """The whole output about one pair."""
    tree = Tree("", hide_root=True, guide_style="dim")
    for line in (*reasons.attend, *reasons.require):
        _add_line(tree, line)
    return Group(
        _token("query", reasons.query, query),
        _token("key  ", reasons.key, key),
        "",
        tree,
        "",
        Text(_verdict(reasons), style="bold"),
    )


def _add_line(tree: Tree, line: Line) -> None:
    label = Text.assemble((f"{position(line.clause)}  ", "dim"), written(line.clause), "  ", _mark(line.reason.holds))
    branch = tree.add(label)
    if line.reason.operands:
        _add_operands(branch, line.reason)
    else:
        _add_reason(branch, line.reason)


def _add_reason(tree: Tree, reason: Reason) -> None:
    """A condition, with its operands below it, or with the steps of its evaluation."""
    if reason.operands:
        assert isinstance(reason.condition, Apply)
        _add_operands(
            tree.add(Text.assemble((_JOINED[reason.condition.op], "italic"), "  ", _mark(reason.holds))), reason
        )
        return
    texts = [print_expression(each) for each in (reason.condition, *reason.steps)]
    tree.add(Text.assemble(" \N{RIGHTWARDS ARROW} ".join(texts), "  ", _mark(reason.holds)))


def _add_operands(tree: Tree, reason: Reason) -> None:
    for operand in reason.operands:
        _add_reason(tree, operand)


def _mark(holds: bool) -> Text:
    return Text("yes", style="green") if holds else Text("no", style="red")


def as_dict(reasons: PairReasons, query: Token, key: Token) -> dict[str, Any]:
    """Plain data for JSON."""
    return {
        "query": {"position": reasons.query, **query},
        "key": {"position": reasons.key, **key},
        "head": reasons.head,
        "attends": reasons.attends,
        "verdict": _verdict(reasons),
        "attend": [_line_dict(line) for line in reasons.attend],
        "require": [_line_dict(line) for line in reasons.require],
    }


def _line_dict(line: Line) -> dict[str, Any]:
    return {"line": position(line.clause), "text": written(line.clause), **_reason_dict(line.reason)}


def _reason_dict(reason: Reason) -> dict[str, Any]:
    values: dict[str, Any] = {"condition": _text(reason.condition), "holds": reason.holds}
    if reason.operands:
        values["parts"] = [_reason_dict(operand) for operand in reason.operands]
    if reason.steps:
        values["steps"] = [_text(step) for step in reason.steps]
    return values


def _text(expression: Expression) -> str:
    return print_expression(expression)
