"""`order`: in which order of tokens a pattern needs the least time."""

import json
from collections.abc import Sequence

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.orders import best_order
from maskdsl.analysis.orders.search import SAVING
from maskdsl.cli.commands.show_and_stats import finite
from maskdsl.cli.consoles import note, output
from maskdsl.cli.request.masks import read_block, read_request
from maskdsl.cli.request.routed_masks import look
from maskdsl.cli.waiting import working
from maskdsl.view import units
from maskdsl.view.terminal.order_table import orders_table
from maskdsl.view.terminal.show import title


def order(
    file: str,
    words: Sequence[str],
    heads: int,
    blocks: Sequence[str],
    gpu: str,
    head_dim: int,
    given: Sequence[str],
    top: int,
    as_json: bool,
) -> None:
    """Prints the best order, as the language writes it, and how the others compare."""
    sizes = [read_block(block) for block in blocks]
    device = find_device(gpu)
    mask = read_request(file, words).bind(heads)
    looked = look([mask], given, None)
    with working("comparing orders"):
        found = best_order(looked.masks[0].ir, looked.inputs, sizes, device, head_dim)
    if as_json:
        head = {"pattern": mask.name, "parameters": dict(mask.ir.parameters), "heads": heads}
        print(json.dumps(finite({**head, **found.as_dict()}), indent=2))
        return
    shown = [*found.rows[:top], *(row for row in found.rows[top:] if row is found.declared)]
    console = output()
    console.print(title(mask.ir))
    console.print(orders_table(found, shown))
    tiles = f"with tiles of {found.block[0]} x {found.block[1]}"
    if found.order == "declared":
        console.print(f"the declared order is the best, {tiles}")
    else:
        console.print(f"order {found.order}", soft_wrap=True)
        console.print(f"{units.times(found.speedup)} as fast as the declared order, {tiles}", style="dim")
    graph = found.as_graph
    if graph is not None and graph.seconds < SAVING * found.rows[0].seconds:
        less = units.times(found.rows[0].seconds / graph.seconds)
        note(
            f"{less} as fast: `input position: int[tokens]`, `order by position`; best_order().positions are its values"
        )
    if len(shown) < len(found.rows):
        note(f"{len(found.rows) - len(shown)} more were compared; --top {len(found.rows)} shows all")
