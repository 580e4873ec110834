"""The title of a stack, which layers are alike, and tables with a line for each different layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from maskdsl.analysis.counts.stack_stats import StackStats
from maskdsl.analysis.counts.stats import Figures
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.stack import StackIR
from maskdsl.view import units
from maskdsl.view.terminal.show import called, head_count, written

if TYPE_CHECKING:
    from maskdsl.analysis.cost.predict import Prediction, StackPrediction

_HEADINGS = ("layers", "density", "masked", "at most", "forward", "read, written")

_NAMES = 20
"""The fewest columns for the names and parameters of layers."""


def stack_title(stack: StackIR) -> Text:
    """The title of a stack: `gemma3(n=8192)`, layers, length and heads."""
    text = called(stack.name, stack.parameters)
    layers = f"{units.count(len(stack.index))} layer{'s' * (len(stack.index) > 1)}"
    text.append(f"  {layers} of {units.count(stack.length)} tokens, {head_count(stack.heads)}", style="not bold dim")
    return text


def layers_text(stack: StackIR, number: int) -> str:
    """The layers, counted from 1, that have the mask of this number."""
    layers = [layer for layer, each in enumerate(stack.index, 1) if each == number]
    return f"layer{'s' * (len(layers) > 1)} {units.numbers(layers)}"


def layers_table(stack: StackIR, measured: StackStats) -> Table:
    """The figures of each different layer, and of all layers together."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold", min_width=_NAMES)
    for name in _HEADINGS:
        table.add_column(name, justify="right", no_wrap=True)
    for number, (mask, stats) in enumerate(zip(stack.different, measured.different, strict=True)):
        table.add_row(_named(mask), str(stack.count(number)), *_cells(stats.total))
    table.add_section()
    table.add_row("all layers", str(len(stack.index)), *_cells(measured.total))
    return table


def predicted_layers_table(stack: StackIR, predictions: Sequence[StackPrediction]) -> Table:
    """The forward time of each different layer, and of all layers together, on each GPU."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold", min_width=_NAMES)
    for each in predictions:
        table.add_column(each.device.name, justify="right")
    for number, mask in enumerate(stack.different):
        table.add_row(_named(mask), *(_predicted(each.different[number]) for each in predictions))
    table.add_section()
    table.add_row("all layers", *map(_predicted, predictions))
    return table


def _predicted(prediction: Prediction | StackPrediction) -> str:
    return f"{units.duration(prediction.forward_seconds)}\n{units.times(prediction.forward_speedup)}"


def _named(mask: MaskIR) -> Text:
    """The name of a pattern and, below it, its parameters."""
    values = ", ".join(f"{name}={written(value)}" for name, value in mask.parameters)
    return Text.assemble((f"{mask.name}\n", "bold"), (values, "dim"))


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        units.percent(figures.density),
        units.percent(figures.waste),
        units.times(figures.speedup_bound),
        units.about(figures.forward_flops, "FLOP"),
        units.size(figures.bytes),
    )
