"""`show --json`: what its pictures say in numbers."""

import json
from collections.abc import Sequence

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.api import Mask
from maskdsl.cli.commands.show_and_stats import finite, layer_in_orders, routes_dict
from maskdsl.cli.request.asked import BLOCK, Asked
from maskdsl.cli.request.masks import StackRequest, order_text
from maskdsl.cli.request.routed_masks import Arrays
from maskdsl.cli.waiting import working
from maskdsl.ir.meaning.routed_inputs import find_in_layers


def show_json(asked: Asked) -> None:
    """Prints the tiles of every head and order; of a stack those of its different layers."""
    chosen, size, heads = asked.chosen(), asked.size() or BLOCK, asked.heads
    subject = asked.subject()
    if isinstance(subject, StackRequest):
        stack = subject.bind(heads)
        looked_at = asked.look_at_layers(stack)
        inputs = find_in_layers(looked_at.stack, looked_at.inputs)
        layers = [
            _pattern_dict(stack.different[number])
            | {"layers": [position + 1 for position, each in enumerate(stack.ir.index) if each == number]}
            | {"orders": [_order_dict(each, size, own, chosen) for each in masks]}
            for number, own in enumerate(inputs)
            for masks in [layer_in_orders(stack, number, asked.orders, looked_at)]
        ]
        found = {"stack": stack.name, "parameters": dict(stack.ir.parameters), "heads": heads, "different": layers}
    else:
        looked = asked.look(subject)
        found = _pattern_dict(looked.masks[0]) | {"heads": heads}
        found["orders"] = [_order_dict(mask, size, looked.inputs, chosen) for mask in looked.masks]
        found |= routes_dict(looked)
    print(json.dumps(finite(found), indent=2))


def _pattern_dict(mask: Mask) -> dict[str, object]:
    return {"pattern": mask.name, "parameters": dict(mask.ir.parameters)}


@working("finding tiles")
def _order_dict(mask: Mask, block: tuple[int, int], inputs: Arrays, chosen: Sequence[int]) -> dict[str, object]:
    """The tiles of each head of the first batch entry."""
    found = tiles(mask.ir, block, inputs)
    total = found.query_blocks * found.key_blocks
    heads = [
        {"head": head, "tiles": total, "full": found.full_count(head), "partial": found.partial_count(head)}
        for head in chosen
    ]
    return {"order": order_text(mask.ir), "block": list(block), "batch": len(found.class_of_head), "heads": heads}
