"""Plan to a torch module that gives one coordinate of all tokens of one side, where inputs are."""

from maskdsl.emit.header import header
from maskdsl.emit.torch_functions import HELPERS, coordinate_function, helper_lines, separated
from maskdsl.ir.expressions import Side
from maskdsl.plan import KernelPlan


def emit_tokens(plan: KernelPlan, side: Side, name: str) -> str:
    """A module with `coordinate(device, **inputs)`: a dict of one tensor, [batch or 1, heads or 1, tokens] or less."""
    mask = plan.mask
    kind = "token" if mask.self_attention else "query" if side is Side.QUERY else "key"
    sequence = mask.queries if side is Side.QUERY else mask.keys
    function = coordinate_function(plan, kind, sequence, [name], "coordinate")
    used = [each for each in HELPERS if any(f"{each}(" in line for line in function[1:])]
    top = header(plan, "tokens", f"`{name}` of all tokens.")
    parts = separated([*([helper_lines(used)] if used else []), function])
    return "\n".join([*top, "", "import torch", "", "", *parts, ""])
