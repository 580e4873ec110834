"""Plan to a torch module that gives one coordinate of all tokens of one side, where inputs are."""

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.pattern_functions import coordinate_function, with_helpers
from maskdsl.ir.expressions import Side


def emit_tokens(plan: KernelPlan, side: Side, name: str) -> str:
    """A module with `coordinate(device, **inputs)`: a dict of one tensor, [batch or 1, heads or 1, tokens] or less."""
    mask = plan.mask
    function = coordinate_function(plan, mask.kind(side), mask.sequences[side], [name], "coordinate")
    top = header(plan, "tokens", f"`{name}` of all tokens.")
    return "\n".join([*top, "", "import torch", "", "", *with_helpers([function]), ""])
