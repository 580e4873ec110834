"""The output of `maskdsl explain`: the lines of a pattern, formulas of its cost, and why tiles are partial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from maskdsl.analysis.counts.clause_tiles import ClauseTiles
from maskdsl.analysis.counts.stats import Figures, Stats
from maskdsl.analysis.reasons.pair_reasons import line_of, on_one_line
from maskdsl.analysis.reasons.route_reasons import Selecting
from maskdsl.analysis.reasons.score_reasons import Scored
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import Clause, MaskIR
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.simplify import simplify
from maskdsl.view import units
from maskdsl.view.terminal.selection_tables import causality_row
from maskdsl.view.terminal.show import first_sentence, head_count, title

if TYPE_CHECKING:
    from maskdsl.analysis.counts.growth import Growth

_LONGEST = 120
"""The most characters of a line's meaning that is shown; of longer ones the words of the macros say more."""


def _position(clause: Clause) -> str:
    """The file and the number of a line: `longformer.attn:6`."""
    assert clause.span is not None
    return line_of(clause.span)


def _written(clause: Clause) -> str:
    assert clause.span is not None
    return clause.label or on_one_line(clause.span)


@dataclass(frozen=True)
class Explained:
    """Everything that an explanation of a pattern says."""

    mask: MaskIR
    """The mask as written; the figures of routed patterns may be of all candidates instead."""
    order: str
    stats: Stats
    cuts: tuple[ClauseTiles, ...]
    growth: Growth | None
    decided_by_inputs: tuple[str, ...]
    words: Mapping[str, str]
    """The documentation of the macros that the lines call, by name."""
    scores: tuple[Scored, ...] = ()
    """What the pattern, or each branch, says of scores."""
    selecting: Selecting = Selecting((), ())

    @property
    def figures(self) -> Figures:
        return self.stats.total

    @property
    def meanings(self) -> tuple[str, ...]:
        """Every line with its parameters and macros expanded."""
        return tuple(print_expression(simplify(each.relation)) for each in (*self.mask.attend, *self.mask.require))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values: dict[str, Any] = {
            "pattern": self.mask.name,
            "parameters": dict(self.mask.parameters),
            "heads": self.mask.heads,
            "order": self.order,
            "lines": [
                {
                    "line": _position(each.clause),
                    "text": _written(each.clause),
                    "meaning": meaning,
                    "full": each.full,
                    "partial": each.partial,
                    "cuts": each.cuts,
                }
                for each, meaning in zip(self.cuts, self.meanings, strict=True)
            ],
            "macros": dict(self.words),
            "scores": [
                {
                    **({"branch": each.branch} if each.branch else {}),
                    "lines": [
                        {"line": line_of(one.statement.span), "text": on_one_line(one.statement.span)}
                        for one in each.statements
                    ],
                    "probability": each.probability,
                }
                for each in self.scores
                if each.probability
            ],
            "routes": [each.as_dict() for each in self.selecting.routes],
            "causality": [each.as_dict() for each in self.selecting.causality],
            "figures": self.figures.as_dict(),
            "growth": None,
        }
        if self.growth is not None:
            values["growth"] = dict(_formulas(self.growth)) | {
                "where": self.growth.where,
                "checked": self.growth.checked,
            }
        return values


def _formulas(growth: Growth) -> Sequence[tuple[str, str]]:
    """Names and formulas, in the notation of sympy."""
    pairs = "pairs" if growth.heads == 1 else f"pairs of {growth.heads} heads"
    formulas = [
        ("queries", growth.queries),
        (pairs, growth.pairs),
        ("keys of a query, on average", growth.keys_per_query),
        ("density", growth.density),
        ("grows as", f"O({_formula(growth.order)})"),
    ]
    if growth.keys != growth.queries:
        formulas.insert(1, ("keys", growth.keys))
    return [(name, _formula(value)) for name, value in formulas]


def _formula(value: Any) -> str:
    return str(value).replace("**", "^")


def explained(explanation: Explained) -> RenderableType:
    """The whole explanation: what attends, how it grows, and which tiles are partial."""
    mask = explanation.mask
    blocks: list[RenderableType] = [title(mask)]
    if mask.doc:
        blocks.append(Text(first_sentence(mask.doc), style="dim italic"))
    blocks += [_heading("What attends"), _lines_table(explanation)]
    if explanation.words:
        blocks.append(Padding(_words_table(explanation.words), (1, 0, 0, 0)))
    if explanation.selecting.routes:
        blocks += [_heading("What is selected"), _routes_table(explanation.selecting)]
    if any(each.probability for each in explanation.scores):
        blocks += [_heading("What becomes of scores"), _scores_table(explanation.scores)]
    blocks += [_heading("As the lengths grow"), _growth_text(explanation)]
    blocks += [
        _heading(f"Tiles of {explanation.stats.block[0]} x {explanation.stats.block[1]}, {explanation.order}"),
        *_tiles_text(explanation),
    ]
    return Group(*blocks)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))


def _lines_table(explanation: Explained) -> Table:
    """Every line as written, and with its parameters and macros expanded."""
    table = _plain_table()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for each, meaning in zip(explanation.cuts, explanation.meanings, strict=True):
        text = _written(each.clause)
        says_more = len(meaning) <= _LONGEST and not text.endswith(f" {meaning}")
        table.add_row(_position(each.clause), Text.assemble(text, (f"\n{meaning}" if says_more else "", "dim")))
    return table


def _routes_table(said: Selecting) -> Table:
    """Every route as written and with its scores written out, and whether later tokens have a say."""
    table = _plain_table()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for each in said.routes:
        table.add_row(each.line, Text.assemble(each.text, *((f"\n{line}", "dim") for line in each.meaning)))
    for one in said.causality:
        table.add_row(*causality_row(one))
    return table


def _scores_table(scores: Sequence[Scored]) -> Table:
    """Every line about scores, and what makes probabilities of them; branches that say the same are one."""
    groups: dict[tuple[tuple[str, ...], str], list[Scored]] = {}
    for each in scores:
        texts = tuple(on_one_line(one.statement.span) for one in each.statements)
        groups.setdefault((texts, each.probability), []).append(each)
    table = _plain_table()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for (texts, probability), alike in groups.items():
        if alike[0].branch:
            table.add_row("", f"branch{'es' * (len(alike) > 1)} {', '.join(each.branch for each in alike)}")
        for one, text in zip(alike[0].statements, texts, strict=True):
            meanings = {each.statements[texts.index(text)].meaning for each in alike}
            (meaning,) = meanings if len(meanings) == 1 else (None,)
            said = "" if meaning is None else print_expression(meaning)
            says_more = len(said) <= _LONGEST and said != text.partition(" ")[2]
            table.add_row(line_of(one.statement.span), Text.assemble(text, (f"\n{said}" if says_more else "", "dim")))
        table.add_row("probability", probability)
    return table


def _words_table(words: Mapping[str, str]) -> Table:
    table = _plain_table()
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in words.items():
        table.add_row(name, first_sentence(text))
    return table


def _growth_text(explanation: Explained) -> RenderableType:
    if explanation.decided_by_inputs:
        names = ", ".join(f"`{name}`" for name in explanation.decided_by_inputs)
        return Text(f"There is no formula: the values of {names} decide which pairs attend.")
    if explanation.growth is None:
        return Text("No formula in the parameters gives the exact counts.")
    table = _plain_table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _formulas(explanation.growth):
        table.add_row(name, text)
    where = f", {explanation.growth.where}" if explanation.growth.where else ""
    note = f"exact here and at {explanation.growth.checked - 1} other settings that were counted{where}; not proven"
    return Group(table, Text(note, style="dim"))


def _tiles_text(explanation: Explained) -> list[RenderableType]:
    """The number of tiles, the lines that make them partial, and what that costs."""
    figures = explanation.figures
    heads = "" if explanation.mask.heads == 1 else f" in {head_count(explanation.mask.heads)}"
    counts = f"{units.count(figures.full_tiles)} full and {units.count(figures.partial_tiles)} partial"
    texts = [f"{counts} of {units.count(figures.tiles)} tiles{heads}"]
    if figures.partial_tiles:
        texts.append(f"{units.percent(figures.waste)} of the pairs computed are masked")
    blocks: list[RenderableType] = [Text("; ".join(texts))]
    if figures.partial_tiles:
        blocks.append(_cuts_table(explanation))
        least = figures.seen / (explanation.stats.block[0] * explanation.stats.block[1])
        blocks.append(
            Text(
                f"Packed without any waste, the pairs would fill {_tiles(-int(-least // 1))}; "
                "`maskdsl order` looks for an order that comes closer.",
                style="dim",
            )
        )
    return blocks


def _tiles(count: int) -> str:
    return f"{units.count(count)} tile{'s' * (count > 1)}"


def _cuts_table(explanation: Explained) -> Table:
    """For every line, the partial tiles that its border runs through."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("a border of")
    table.add_column("is in partial tiles", justify="right")
    table.add_column("alone: full", justify="right")
    table.add_column("partial", justify="right")
    for each in explanation.cuts:
        share = units.percent(each.cuts / explanation.figures.partial_tiles)
        cut = f"{units.count(each.cuts)} ({share})"
        table.add_row(_position(each.clause), cut, units.count(each.full), units.count(each.partial))
    return table
