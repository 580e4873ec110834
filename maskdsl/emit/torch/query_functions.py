"""Plan to functions of queries: the scores of sinks and the factor in torch, from `codegen/query_values.py`."""

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch.pattern_functions import coordinate_function, function_of_pairs
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.reads import reads

GUARDS = ("Attended", "guarded")
"""The helpers of `codegen/functions.py` that these functions call."""
_IMPORTS = "from maskdsl.codegen.functions import guarded\n\n"


def query_functions(plan: KernelPlan) -> list[list[str]]:
    """The lines of `query_values`, `query_gradients` and what they call; none without sinks and factor."""
    mask = plan.mask
    if not mask.query_values:
        return []
    names = reads(*mask.query_values).names(Side.QUERY)
    coordinates = coordinate_function(plan, mask.kind(Side.QUERY), mask.queries, names, "coordinates_of_queries")
    functions = [
        function_of_pairs(plan, f"sink_{number}", "The score of a sink, in the type of `s`.", (sink,))
        for number, sink in enumerate(mask.sinks, 1)
    ]
    called = [f"sink_{number}" for number in range(1, len(mask.sinks) + 1)]
    if mask.factor is not None:
        text = "The factor of the output of a query, in the type of `s`."
        functions.append(function_of_pairs(plan, "factor_of_query", text, (mask.factor,)))
        called.append("factor_of_query")
    holes = {"header": [], "pattern": [f"QUERY_FUNCTIONS = ({', '.join(called)},)", "", ""]}
    filled = fill(read_skeleton("query_values"), holes)
    return [coordinates, *functions, filled.partition(_IMPORTS)[2].strip("\n").splitlines()]
