"""Plan to a torch module of what follows attention in each query, its sinks and factor, from `codegen/finish.py`."""

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch.pattern_functions import (
    coordinate_function,
    function_of_pairs,
    helper_lines,
    with_helpers,
)
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.reads import reads


def emit_finish(plan: KernelPlan) -> str:
    """The text of a module with `finished(out, lse, inputs, rows) -> (out, lse)`; see `codegen/finish.py`."""
    mask = plan.mask
    kind, names = mask.kind(Side.QUERY), reads(*mask.query_values).names(Side.QUERY)
    coordinates = coordinate_function(plan, kind, mask.queries, names, "query_coordinates")
    sinks = [
        function_of_pairs(plan, f"sink_{number}", "The score of a sink, in the type of `s`.", (sink,))
        for number, sink in enumerate(mask.sinks, 1)
    ]
    lines = with_helpers([coordinates, *sinks, *_factor(plan)])
    helpers = [*(("Attended", "guarded") if mask.query_values else ()), *(["with_sinks"] if sinks else [])]
    helpers += ["scaled_output"] if mask.factor is not None else []
    return fill(
        read_skeleton("finish"),
        {
            "header": header(plan, "finish", "Sinks and factors in plain torch, after attention over the keys."),
            "pattern": [*lines, "", "", *helper_lines(helpers), "", ""],
            "coordinates": None,
            "finish": [*_VALUES, *_sink_lines(len(sinks)), *(_FACTOR_LINES if mask.factor is not None else ())],
        },
    )


def _factor(plan: KernelPlan) -> list[list[str]]:
    if plan.mask.factor is None:
        return []
    return [function_of_pairs(plan, "factor", "The factor of the output of a query.", (plan.mask.factor,))]


def _sink_lines(count: int) -> list[str]:
    """Statements for the sinks. What a score of minus infinity reads gets no gradient, whatever its derivative is."""
    if not count:
        return []
    lines = ["sinks = []"]
    for number in range(1, count + 1):
        lines += [
            f"present = sink_{number}(s, **values).detach() != -torch.inf",
            f"score = sink_{number}(s, **guarded(values, inputs, present))",
            "sinks.append(torch.where(present, score, -torch.inf))",
        ]
    return [*lines, "out, lse = with_sinks(out, lse, sinks)"]


_VALUES = (
    "s = lse.new_zeros(())",
    'values = {**inputs, **{f"q_{name}": at(value, rows) for name, value in queries.items()}}',
)
_FACTOR_LINES = (
    "scale = factor(s, **values)",
    "if scale.requires_grad:  # queries without keys send no gradient to what their factor reads",
    "    present = (out != 0).any(dim=-1)",
    "    scale = torch.where(present, factor(s, **guarded(values, inputs, present)), scale.detach())",
    "out = scaled_output(out, scale)",
)
