"""`order` and `shard`: the order of tokens in which a pattern takes the least time, and its plan for many processes."""

import json
from collections.abc import Sequence
from typing import Any

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.cost.predict import predict_mask
from maskdsl.analysis.orders.best import best_order
from maskdsl.analysis.orders.search import SAVING
from maskdsl.api.sharded_layers import ShardArguments, shard_mask, shard_stack
from maskdsl.cli.commands.show_and_stats import finite, warn_of_slowness
from maskdsl.cli.consoles import note, output
from maskdsl.cli.request.masks import Request, read_block, read_request, read_subject
from maskdsl.cli.request.routed_masks import resolve_masks, resolve_stack
from maskdsl.cli.waiting import working
from maskdsl.ir.heads import Heads
from maskdsl.view import units
from maskdsl.view.terminal.order_table import orders_table
from maskdsl.view.terminal.shard_table import schemes_table
from maskdsl.view.terminal.show import title
from maskdsl.view.terminal.stack_table import stack_title


def order(
    file: str,
    words: Sequence[str],
    heads: Heads,
    blocks: Sequence[str],
    gpu: str,
    head_dim: int,
    given: Sequence[str],
    top: int,
    as_json: bool,
) -> None:
    """Prints the best order as an `order` statement, and the others beside it."""
    sizes = [read_block(block) for block in blocks]
    device = find_device(gpu)
    mask = read_request(file, words).bind(heads)
    resolved = resolve_masks([mask], given, None)
    with working("comparing orders"):
        search = best_order(resolved.masks[0].ir, resolved.inputs, sizes, device, head_dim)
    dense = predict_mask(resolved.masks[0].ir, device, resolved.inputs, head_dim=head_dim).forward.dense
    warn_of_slowness(mask, {device.name: dense.seconds / search.rows[0].seconds} if search.rows[0].seconds else {})
    if as_json:
        head = {"pattern": mask.name, "parameters": dict(mask.ir.parameters), "heads": heads.count}
        print(json.dumps(finite({**head, **search.as_dict()}), indent=2))
        return
    shown = [*search.rows[:top], *(row for row in search.rows[top:] if row is search.declared)]
    console = output()
    console.print(title(mask.ir))
    console.print(orders_table(search, shown))
    tiles = f"with tiles of {search.block[0]} x {search.block[1]}"
    if search.order == "declared":
        console.print(f"the declared order is the best, {tiles}")
    else:
        console.print(f"order {search.order}", soft_wrap=True)
        console.print(f"{units.times(search.speedup)} as fast as the declared order, {tiles}", style="dim")
    graph = search.as_graph
    if graph is not None and graph.seconds < SAVING * search.rows[0].seconds:
        less = units.times(search.rows[0].seconds / graph.seconds)
        note(
            f"{less} as fast: `input position: int[tokens]`, `order by position`; best_order().positions are its values"
        )
    if len(shown) < len(search.rows):
        note(f"{len(search.rows) - len(shown)} more were compared; --top {len(search.rows)} shows all")


def shard(
    file: str,
    words: Sequence[str],
    heads: Heads,
    ranks: Sequence[int],
    given: Sequence[str],
    as_json: bool,
    **shape: Any,
) -> None:
    """Prints the plan for each number of ranks, and what other schemes would cost."""
    subject = read_subject(file, words)
    each_given = [ShardArguments(number, **shape) for number in ranks]
    if isinstance(subject, Request):
        resolved = resolve_masks([subject.bind(heads)], given, None)
        mask, head = resolved.masks[0].ir, title(resolved.masks[0].ir)
        with working("pricing schemes"):
            plans = [shard_mask(mask, resolved.inputs, each) for each in each_given]
    else:
        stack = resolve_stack(subject.bind(heads).ir, given, None)
        head = stack_title(stack.stack)
        with working("pricing schemes"):
            plans = [shard_stack(stack.stack, stack.inputs, each) for each in each_given]
    if as_json:
        print(json.dumps(finite({"heads": heads.count, "plans": [plan.as_dict() for plan in plans]}), indent=2))
        return
    console = output()
    console.print(head)
    for plan in plans:
        console.print(schemes_table(plan))
