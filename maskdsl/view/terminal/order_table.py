"""The output of `maskdsl order`: a table of the orders of one mask, best first."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from maskdsl.analysis.orders.best import BestOrder, Row
from maskdsl.view import units


def orders_table(best: BestOrder, rows: Sequence[Row]) -> Table:
    """A table of some rows: the share of tiles that are not empty, the number of partial tiles, the share of computed
    pairs that are masked, and the predicted time. The best order is bold; a `~` marks estimates.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("order", overflow="fold")
    names, lines = order_lines(best, rows)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row, (order, cells) in zip(rows, lines, strict=True):
        table.add_row(Text(order), *cells, style="bold" if row is best.rows[0] else "")
    return table


def order_lines(best: BestOrder, rows: Sequence[Row]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The names of the columns, and each line: the order, and its cells."""
    names = ["tiles", "density", "partial", "masked", best.device]
    several = len({row.block for row in best.rows}) > 1
    lines = []
    for row in rows:
        about = "" if row.exact else "~"
        figures = [units.percent(row.density), units.count(row.partial_tiles), units.percent(row.waste)]
        cells = [about + each for each in (*figures, units.duration(row.seconds))]
        lines.append((row.order, (["x".join(map(str, row.block))] if several else []) + cells))
    return (names if several else names[1:]), lines
