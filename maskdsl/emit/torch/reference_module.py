"""Plan to a dense torch module: the plainest implementation of a pattern. Autograd differentiates it."""

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch.pattern_functions import coordinate_calls, helper_lines, pattern_functions
from maskdsl.emit.torch.pooling_function import pooling_functions
from maskdsl.ir.mask import Normalize
from maskdsl.ir.rewrites.branches import derivatives_are_finite

_COUNTED = "p = p * torch.where(attends & (p != 0), weights, 0)"
_COUNTED_ALONE = "p = p * torch.where(attends & ((p != 0) | weights.isfinite()), weights, 0)"
"""Without a softmax the derivative by a probability of 0 is the weight."""
_RESULTS_ALONE = "out = (p @ v).masked_fill(~attends.any(dim=-1, keepdim=True), 0)"


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
    return fill(
        read_skeleton("reference"),
        {
            "header": header(plan, "reference", "Dense attention in plain torch."),
            "pattern": [*pattern_functions(plan, pooling_functions(plan)), "", ""],
            "guarded": [*helper_lines(("Attended", "guarded")), "", ""] if extra else [],
            "coordinates": coordinate_calls(plan),
            "attends": ["values, attends = attended(q, k.shape[2], inputs)"] if extra else None,
            "score": score,
            "softmax": None if softmax else ["p = s.masked_fill(~attends, 0)"],
            "weight": weight if mask.weight is not None else [],
            "results": None if softmax else [_RESULTS_ALONE, "return out.to(q.dtype), p.new_zeros(p.shape[:3])"],
        },
    )
