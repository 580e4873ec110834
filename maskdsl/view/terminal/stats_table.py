"""Tables of figures and predictions: a line for each figure, a column for each order, head class or GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from maskdsl.analysis.counts.stats import Figures, Stats
from maskdsl.view import units
from maskdsl.view.head_figures import one_name

if TYPE_CHECKING:
    from maskdsl.analysis.cost.predict import Prediction

_OF_BRANCHES = "attended by branches"
"""The line of what branches attend together, which patterns without branches do not have."""
_LINES: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("pairs", lambda figures: units.count(figures.pairs)),
    ("attended", lambda figures: units.count(figures.seen)),
    (_OF_BRANCHES, lambda figures: units.count(figures.attended)),
    ("density", lambda figures: units.percent(figures.density)),
    ("least keys of a query", lambda figures: units.count(figures.least_keys)),
    ("median keys of a query", lambda figures: f"{figures.median_keys:,g}"),
    ("most keys of a query", lambda figures: units.count(figures.most_keys)),
    ("queries without keys", lambda figures: units.count(figures.empty_rows)),
    ("tiles", lambda figures: units.count(figures.tiles)),
    ("full tiles", lambda figures: units.count(figures.full_tiles)),
    ("partial tiles", lambda figures: units.count(figures.partial_tiles)),
    ("block density", lambda figures: units.percent(figures.block_density)),
    ("computed, then masked", lambda figures: units.percent(figures.waste)),
    ("speed-up at most", lambda figures: units.times(figures.speedup_bound)),
    ("without any waste", lambda figures: units.times(figures.ideal_speedup)),
    ("forward", lambda figures: units.about(figures.forward_flops, "FLOP")),
    ("backward", lambda figures: units.about(figures.backward_flops, "FLOP")),
    ("read and written", lambda figures: units.size(figures.bytes)),
)

_PREDICTED: tuple[tuple[str, Callable[[Prediction], str]], ...] = (
    ("forward", lambda prediction: units.duration(prediction.forward_seconds)),
    ("dense attention", lambda prediction: units.duration(prediction.dense_seconds)),
    ("speed-up", lambda prediction: units.times(prediction.forward_speedup)),
    ("limited by", lambda prediction: prediction.forward.cost.limit),
    ("tiles", lambda prediction: " x ".join(map(str, prediction.forward.tile_choice.block))),
    ("longest row of tiles", lambda prediction: units.count(prediction.forward.cost.longest_row)),
    ("waves of programs", lambda prediction: units.digits(prediction.forward.cost.waves)),
    ("multiprocessors busy", lambda prediction: units.percent(prediction.forward.cost.balance)),
    ("from and to memory", lambda prediction: units.size(prediction.forward.cost.bytes)),
    ("backward", lambda prediction: units.duration(prediction.backward_seconds)),
    ("speed-up of backward", lambda prediction: units.times(prediction.backward_speedup)),
)


def prediction_table(predictions: Sequence[Prediction]) -> Table:
    """Predictions for GPUs side by side, under their names."""
    rows = [(name, [show(each) for each in predictions]) for name, show in _PREDICTED]
    return _table_of([each.device.name for each in predictions], rows)


def stats_table(columns: Sequence[tuple[str, Figures]]) -> Table:
    """Figures side by side, under their names."""
    return _table_of([name for name, _ in columns], figure_lines([figures for _, figures in columns]))


def figure_lines(columns: Sequence[Figures]) -> list[tuple[str, list[str]]]:
    """Each line of figures side by side: its name, and a cell for each column."""
    alike = all(figures.dense == figures.pairs for figures in columns)
    lines = [each for each in _LINES if not (alike and each[0] == _OF_BRANCHES)]
    return [(name, [show(figures) for figures in columns]) for name, show in lines]


def _table_of(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(Text(name), justify="right")
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def head_columns(stats: Stats, heads: Sequence[int]) -> list[tuple[str, Figures]]:
    """Columns for the heads of the first batch entry, where heads with equal figures share one."""
    classes: dict[Figures, list[int]] = {}
    for head in heads:
        classes.setdefault(stats.first_entry[head], []).append(head)
    return [(one_name(members, len(stats.heads)), figures) for figures, members in classes.items()]
