"""Plan to a torch module that computes one coordinate of all tokens of one side, on the device of the inputs."""

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.pattern_functions import coordinate_function, with_helpers
from maskdsl.ir.expressions import Side


def emit_tokens(plan: KernelPlan, side: Side, name: str) -> str:
    """The text of a module with `coordinate(device, **inputs)`, which returns {name: values}.

    The values are [batch or 1, heads or 1, tokens] or fewer axes.
    """
    mask = plan.mask
    function = coordinate_function(plan, mask.kind(side), mask.sequences[side], [name], "coordinate")
    top = header(plan, "tokens", f"`{name}` of all tokens.")
    return "\n".join([*top, "", "import torch", "", "", *with_helpers([function]), ""])
