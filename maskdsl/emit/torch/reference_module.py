"""Plan to a dense torch module: the plainest implementation of a pattern. Autograd differentiates it."""

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch.pattern_functions import coordinate_calls, helper_lines, pattern_functions
from maskdsl.emit.torch.pooling_function import pooling_functions
from maskdsl.emit.torch.query_functions import GUARDS, query_functions
from maskdsl.ir.mask import Normalize
from maskdsl.ir.rewrites.branches import derivatives_are_finite

_COUNTED = "p = p * torch.where(attends & (p != 0), weights, 0)"
_COUNTED_ALONE = "p = p * torch.where(attends & ((p != 0) | weights.isfinite()), weights, 0)"
"""Without a softmax the derivative by a probability of 0 is the weight."""
_RESULTS = (
    "lse = (l_i.log() + m_i).masked_fill(empty, -torch.inf).squeeze(-1)",
    "out = multiplied(p, v).masked_fill(empty, 0)",
)
_RESULTS_ALONE = ("out = multiplied(p, v).masked_fill(~attends.any(dim=-1, keepdim=True), 0)",)

_WITH_SINKS = (
    "s = s.masked_fill(~attends, -torch.inf)",
    "m_i = torch.cat([s, sinks], dim=-1).detach().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(dtype).min)",
    "p = torch.exp(s - m_i)",
    "l_i = p.sum(dim=-1, keepdim=True) + torch.exp(sinks - m_i).sum(dim=-1, keepdim=True)",
    "empty = l_i == 0",
    "l_i = l_i.masked_fill(empty, 1)",
    "p = p / l_i",
)


def emit_reference(plan: KernelPlan) -> str:
    """The text of a module with `attention(q, k, v, inputs) -> (out, lse)`, which takes n x n memory."""
    mask = plan.mask
    score = ["s = s * dim**-0.5"]
    if mask.scale is not None:
        score = ["s = s * torch.where(attends, scale(s, **guarded_values), 0)"]
    if mask.scores:
        score.append("s = score(torch.where(attends, s, 0), **guarded_values)")
    softmax = mask.normalize is not Normalize.NONE
    if softmax and not derivatives_are_finite(mask):
        # Pairs with a score of -inf are masked too: their p = 0 would make NaN of infinite derivatives.
        masked = ["attends = attends & (s != -torch.inf)", "guarded_values = guarded(values, inputs, attends)"]
        score = ["products = s", *score, *masked, "s = products", *score]
    weight = ["weights = weight(s, **guarded_values)", _COUNTED if softmax else _COUNTED_ALONE]
    extra = mask.scale is not None or mask.scores or mask.weight is not None
    if extra:
        score.insert(0, "guarded_values = guarded(values, inputs, attends)")
    helpers = list(GUARDS) if extra or mask.query_values else []
    helpers += ["factor_of_output"] if mask.factor is not None else []
    factor = "values_of_queries[-1].unsqueeze(-1)"
    scaled = [f"out = out * factor_of_output({factor}, out)"] if mask.factor is not None else []
    lse = "lse" if softmax else "p.new_zeros(p.shape[:3])"
    score += _query_lines(plan)
    return fill(
        read_skeleton("reference"),
        {
            "header": header(plan, "reference", "Dense attention in plain torch."),
            "pattern": [*pattern_functions(plan, [*pooling_functions(plan), *query_functions(plan)]), "", ""],
            "guarded": [*helper_lines(helpers), "", ""] if helpers else [],
            "coordinates": coordinate_calls(plan),
            "attends": ["values, attends = attended(q, k.shape[2], inputs)"] if extra else None,
            "score": score,
            "softmax": [*_WITH_SINKS] if mask.sinks else None if softmax else ["p = s.masked_fill(~attends, 0)"],
            "weight": weight if mask.weight is not None else [],
            "results": [*(_RESULTS if softmax else _RESULTS_ALONE), *scaled, f"return out.to(given.dtype), {lse}"],
        },
    )


def _query_lines(plan: KernelPlan) -> list[str]:
    """Statements for the scores of sinks and for the factor. Those that count for nothing get no gradient."""
    count = len(plan.mask.sinks)
    if not plan.mask.query_values:
        return []
    lines = ["counted = [each.detach() != -torch.inf for each in query_values(q, inputs)]"]
    lines += [] if plan.mask.factor is None else ["counted[-1] = attends.any(dim=-1)"]
    lines += ["values_of_queries = query_values(q, inputs, counted=counted)"]
    if count:
        pairs = f"zip(values_of_queries[:{count}], counted, strict=False)"
        lines += [f"sinks = [value.masked_fill(~each, -torch.inf) for value, each in {pairs}]"]
        lines += ["sinks = torch.stack(sinks, dim=-1)"]
    return lines
