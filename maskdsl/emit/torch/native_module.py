"""Plan to the torch module beside the kernel of `codegen/native.c`: that of the tiled backend, and biases of panels."""

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.pattern_functions import function_of_pairs, pair_parameters
from maskdsl.emit.torch.tiled_module import emit_tiled


def emit_native(plan: KernelPlan) -> str:
    """The text of a module as `emit_tiled` makes it, whose pair functions make the masks and biases of panels.

    `SCORE_READS` are the parameters of `score`, and `POSITION_FUNCTIONS` return the values of pairs that decide a bias.
    """
    bias = plan.score_bias
    if bias is None or not plan.mask.scores:
        return emit_tiled(plan)
    names = [f"position_{number}" for number in range(1, len(bias.positions) + 1)]
    text = "A value of the positions of a pair: where it is the same, so is the bias."
    functions = [function_of_pairs(plan, name, text, (each,)) for name, each in zip(names, bias.positions, strict=True)]
    read = ", ".join(f'"{name}"' for name in pair_parameters(plan, plan.mask.scores))
    constants = [
        f"SCORE_READS = {{{read}}}" if read else "SCORE_READS = set()",
        f"POSITION_FUNCTIONS = ({', '.join(names)},)" if names else "POSITION_FUNCTIONS = ()",
    ]
    return emit_tiled(plan, [*functions, constants], keeps=False)
