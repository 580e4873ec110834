"""The holes from scores to probabilities in kernels, where a pattern has `normalize none`: there is nothing to sum."""

from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.mask import Normalize

_FORWARD = {
    "lowest": [],
    "softmax_start": ["l_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)"],
    "full_softmax": ["p = s", "l_i += 1.0"],
    "full_rescale": [],
    "partial_softmax": ["p = tl.where(attends, s, 0.0)", "l_i += tl.max(tl.where(attends, 1.0, 0.0), 1)"],
    "partial_rescale": [],
    "softmax_end": [
        "# In place of a log-sum-exp: 0, and minus infinity for a query without keys, which has no gradient.",
        'lse_i = tl.where(l_i > 0, 0.0, float("-inf"))',
    ],
}
_DECODE = {
    "lowest": [],
    "softmax_start": [],
    "partial_softmax": ["p = tl.where(attends, s, 0.0)"],
    "partial_rescale": [],
    "sums": [],
    "softmax_end": [],
    "lse": [],
    "merge_kernel": [],
    "merge": ["if splits > 1:", "    out = partial_out.sum(dim=0).to(q.dtype)", "lse.zero_()"],
}
_BACKWARD = {
    "kernel_lse": ['dropped = lse_i == float("-inf")'],
    "query_full_probability": ["p = s"],
    "query_full_slope": [],
    "query_partial_probability": ["p = tl.where(attends, s, 0.0)"],
    "query_partial_slope": ["ds = tl.where(attends, ds, 0.0)"],
    # Queries past the end are copies of the last one.
    "key_full_probability": ["real = (queries < query_length)[None, :]", "p = tl.where(real, s, 0.0)"],
    "key_full_slope": ["ds = tl.where(real, ds, 0.0)"],
    "key_partial_probability": ["p = tl.where(attends, s, 0.0)"],
    "key_partial_slope": ["ds = tl.where(attends, ds, 0.0)"],
}


def forward_holes(plan: KernelPlan) -> dict[str, list[str] | None]:
    """Of `codegen/forward.py`; None keeps the softmax of the skeleton."""
    return _chosen(plan, _FORWARD)


def decode_holes(plan: KernelPlan) -> dict[str, list[str] | None]:
    """Of `codegen/decode.py`."""
    return _chosen(plan, _DECODE)


def backward_holes(plan: KernelPlan) -> dict[str, list[str] | None]:
    """Of `codegen/backward.py`."""
    return _chosen(plan, _BACKWARD)


def _chosen(plan: KernelPlan, holes: dict[str, list[str]]) -> dict[str, list[str] | None]:
    return {name: lines if plan.mask.normalize is Normalize.NONE else None for name, lines in holes.items()}
