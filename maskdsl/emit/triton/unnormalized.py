"""The holes from scores to probabilities in kernels, where a pattern has `normalize none`: there is nothing to sum."""

from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.mask import Normalize

_FORWARD = {
    "lowest": [],
    "softmax_start": [],
    "full_softmax": ["p = s"],
    "full_rescale": [],
    "partial_softmax": ["p = tl.where(attends, s, 0.0)"],
    "partial_rescale": [],
    "softmax_end": ["lse_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)"],
}
_DECODE = {
    **{name: lines for name, lines in _FORWARD.items() if not name.startswith("full")},
    "softmax_end": [],
    "lse": [],
    "merge_kernel": [],
    "merge": ["if splits > 1:", "    out = partial_out.sum(dim=0).to(q.dtype)", "lse.zero_()"],
}
_BACKWARD = {
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
