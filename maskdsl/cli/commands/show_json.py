"""`show --json`: the numbers of its maps."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from maskdsl.api import Mask
from maskdsl.cli.commands.show_and_stats import finite, layer_in_orders, routes_dict
from maskdsl.cli.request.masks import StackRequest, order_text
from maskdsl.cli.request.routed_masks import Arrays
from maskdsl.cli.request.shared_options import SharedOptions
from maskdsl.cli.waiting import working
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.view.head_figures import BLOCK, Counted


def show_json(options: SharedOptions) -> None:
    """Prints the counts of tiles for every head and order; for a stack, of its different layers."""
    chosen, size, heads = options.chosen(), options.size() or BLOCK, options.heads
    subject = options.subject()
    if isinstance(subject, StackRequest):
        stack = subject.bind(heads)
        resolved_stack = options.resolve_stack(stack)
        inputs = find_in_layers(resolved_stack.stack, resolved_stack.inputs)
        layers = [
            _pattern_dict(stack.different[number])
            | {"layers": [layer for layer, each in enumerate(stack.ir.index, 1) if each == number]}
            | {"orders": [_order_dict(each, size, layer_inputs, chosen) for each in masks]}
            for number, layer_inputs in enumerate(inputs)
            for masks in [layer_in_orders(stack, number, options.orders, resolved_stack)]
        ]
        head = {"stack": stack.name, "parameters": dict(stack.ir.parameters), "heads": heads.count}
        values = head | {"different": layers}
    else:
        resolved = options.resolve_masks(subject)
        values = _pattern_dict(resolved.masks[0]) | {"heads": heads.count}
        values["orders"] = [_order_dict(mask, size, resolved.inputs, chosen) for mask in resolved.masks]
        values |= routes_dict(resolved)
    print(json.dumps(finite(values), indent=2))


def _pattern_dict(mask: Mask) -> dict[str, object]:
    return {"pattern": mask.name, "parameters": dict(mask.ir.parameters)}


@working("finding tiles")
def _order_dict(mask: Mask, block: tuple[int, int], inputs: Arrays, chosen: Sequence[int]) -> dict[str, object]:
    """The counts of tiles, and the density, of each head of the first batch entry."""
    counted = Counted.of(mask.ir, block, inputs)
    heads = [{"head": head, **asdict(counted.heads[head])} for head in chosen]
    return {"order": order_text(mask.ir), "block": list(block), "batch": counted.entries, "heads": heads}
