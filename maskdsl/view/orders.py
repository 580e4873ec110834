"""What `maskdsl order` prints: orders of one mask side by side, best first."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from maskdsl.orders import BestOrder, Row
from maskdsl.view import units


def orders_table(found: BestOrder, rows: Sequence[Row]) -> Table:
    """Some of the rows. The chosen one stands out; what is no exact figure has a `~`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("order", overflow="fold")
    names = ["tiles", "block density", "full", "partial", "masked", found.device]
    several = len({row.block for row in found.rows}) > 1
    for name in names if several else names[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [" x ".join(map(str, row.block))] if several else []
        cells += [units.percent(row.density), units.count(row.full_tiles), units.count(row.partial_tiles)]
        cells += [units.percent(row.waste), units.duration(row.seconds)]
        about = "" if row.exact else "~"
        style = "bold" if row is found.rows[0] else ""
        table.add_row(Text(row.order), *(about + cell if cell[0].isdigit() else cell for cell in cells), style=style)
    return table
