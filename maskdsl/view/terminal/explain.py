"""What `maskdsl explain` prints of a pattern: its lines in words, formulas of its cost, and why tiles are partial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from maskdsl.analysis.counts.clause_tiles import ClauseTiles
from maskdsl.analysis.counts.stats import Figures, Stats
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.mask_printer import print_expression
from maskdsl.view import units
from maskdsl.view.terminal.pair_reasons import position, written
from maskdsl.view.terminal.show import first_sentence, head_count, title

if TYPE_CHECKING:
    from maskdsl.analysis.counts.growth import Growth

_LONGEST = 200
"""Characters of a line's meaning; more are for `emit --stage ir`."""


@dataclass(frozen=True)
class Explained:
    """All that is known of a pattern."""

    mask: MaskIR
    """As written: where routes select, not the bounds that were drawn."""
    order: str
    stats: Stats
    cuts: tuple[ClauseTiles, ...]
    growth: Growth | None
    decided_by_inputs: tuple[str, ...]
    words: Mapping[str, str]
    """What the macros that the lines call mean, by their names."""

    @property
    def figures(self) -> Figures:
        return self.stats.total

    @property
    def meanings(self) -> tuple[str, ...]:
        """Every line with its parameters and macros worked out."""
        return tuple(print_expression(each.relation) for each in (*self.mask.attend, *self.mask.require))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as JSON has it."""
        found: dict[str, Any] = {
            "pattern": self.mask.name,
            "parameters": dict(self.mask.parameters),
            "heads": self.mask.heads,
            "order": self.order,
            "lines": [
                {
                    "line": position(each.clause),
                    "text": written(each.clause),
                    "meaning": meaning,
                    "full": each.full,
                    "partial": each.partial,
                    "cuts": each.cuts,
                }
                for each, meaning in zip(self.cuts, self.meanings, strict=True)
            ],
            "macros": dict(self.words),
            "figures": self.figures.as_dict(),
            "growth": None,
        }
        if self.growth is not None:
            found["growth"] = dict(_formulas(self.growth)) | {
                "where": self.growth.where,
                "checked": self.growth.checked,
            }
        return found


def _formulas(growth: Growth) -> Sequence[tuple[str, str]]:
    """Name and formula, as sympy writes it."""
    pairs = "pairs" if growth.heads == 1 else f"pairs of {growth.heads} heads"
    found = [
        ("queries", growth.queries),
        (pairs, growth.pairs),
        ("keys of a query, on average", growth.keys_per_query),
        ("density", growth.density),
        ("grows as", f"O({_formula(growth.order)})"),
    ]
    if growth.keys != growth.queries:
        found.insert(1, ("keys", growth.keys))
    return [(name, _formula(value)) for name, value in found]


def _formula(value: Any) -> str:
    return str(value).replace("**", "^")


def explained(found: Explained) -> RenderableType:
    """Everything, from what attends to what it wastes."""
    mask = found.mask
    parts: list[RenderableType] = [title(mask)]
    if mask.doc:
        parts.append(Text(first_sentence(mask.doc), style="dim italic"))
    parts += [_heading("What attends"), _lines_table(found)]
    if found.words:
        parts.append(Padding(_words_table(found.words), (1, 0, 0, 0)))
    parts += [_heading("As the lengths grow"), _growth_text(found)]
    parts += [_heading(f"Tiles of {found.stats.block[0]} x {found.stats.block[1]}, {found.order}"), *_tiles_text(found)]
    return Group(*parts)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))


def _lines_table(found: Explained) -> Table:
    """Every line as written, and with its parameters and macros worked out."""
    table = _plain_table()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for each, meaning in zip(found.cuts, found.meanings, strict=True):
        meaning = meaning if len(meaning) <= _LONGEST else meaning[:_LONGEST] + " ..."
        table.add_row(position(each.clause), Text.assemble(written(each.clause), "\n", (meaning, "dim")))
    return table


def _words_table(words: Mapping[str, str]) -> Table:
    table = _plain_table()
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in words.items():
        table.add_row(name, first_sentence(text))
    return table


def _growth_text(found: Explained) -> RenderableType:
    if found.decided_by_inputs:
        names = ", ".join(f"`{name}`" for name in found.decided_by_inputs)
        return Text(f"There is no formula: the values of {names} decide which pairs attend.")
    if found.growth is None:
        return Text("No formula in the parameters was found that gives the exact counts.")
    table = _plain_table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _formulas(found.growth):
        table.add_row(name, text)
    where = f", {found.growth.where}" if found.growth.where else ""
    note = f"exact at this setting and {found.growth.checked - 1} others that were counted{where}; not proven elsewhere"
    return Group(table, Text(note, style="dim"))


def _tiles_text(found: Explained) -> list[RenderableType]:
    """How many tiles there are, which lines make them partial, and what that costs."""
    figures = found.figures
    heads = "" if found.mask.heads == 1 else f" in {head_count(found.mask.heads)}"
    counts = f"{units.count(figures.full_tiles)} full and {units.count(figures.partial_tiles)} partial"
    texts = [f"{counts} of {units.count(figures.tiles)} tiles{heads}"]
    if figures.partial_tiles:
        texts.append(f"{units.percent(figures.waste)} of the pairs computed are masked")
    parts: list[RenderableType] = [Text("; ".join(texts))]
    if figures.partial_tiles:
        parts.append(_cuts_table(found))
        least = figures.attended / (found.stats.block[0] * found.stats.block[1])
        parts.append(
            Text(
                f"Packed without any waste, the pairs would fill {units.count(-int(-least // 1))} tiles; "
                "`maskdsl order` looks for an order that comes closer.",
                style="dim",
            )
        )
    return parts


def _cuts_table(found: Explained) -> Table:
    """For every line the partial tiles that its border runs through."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("a border of")
    table.add_column("is in partial tiles", justify="right")
    table.add_column("alone: full", justify="right")
    table.add_column("partial", justify="right")
    for each in found.cuts:
        share = units.percent(each.cuts / found.figures.partial_tiles)
        cut = f"{units.count(each.cuts)} ({share})"
        table.add_row(position(each.clause), cut, units.count(each.full), units.count(each.partial))
    return table
