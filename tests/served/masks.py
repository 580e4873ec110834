"""The patterns that are served, and the pairs that each attends, written in torch: dense masks for transformers."""

from collections.abc import Callable

import torch
from torch import Tensor

TEXT = """
pattern window(n, size = 16) { space t[n]  attend causal and backward(size) }
pattern kept(n, size = 16, first = 4) { space t[n]  attend causal and (backward(size) or k < first) }
pattern strided(n, stride = 8) { space t[n]  attend causal and (backward(stride) or (q - k) % stride == 0) }
pattern bigbird(n, size = 8) {
    space t[n]
    coord block = i // size
    attend causal and (same(block) or q.block - k.block == 1 or k.block == 0 or (k.block * 7 + q.block * 5) % 11 == 0)
}
pattern heads(n) { space t[n]  attend causal and q - k < 4 * (head + 1) * (head + 1) }
pattern moba(n, size = 16) {
    space t[n]
    coord chunk = i // size
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
pattern causal(n) { space t[n]  attend causal }
"""
Selects = Callable[[Tensor, Tensor], Tensor]
"""From q [batch, heads, n, dim] and k, as many, bool [batch or 1, heads or 1, n, n]."""


def _moba(q: Tensor, k: Tensor, size: int = 16) -> Tensor:
    """Each query attends its chunk up to itself, and the two past chunks whose mean key it likes best."""
    n = q.shape[2]
    chunk = torch.arange(n) // size
    means = torch.stack([k[:, :, chunk == each].mean(2) for each in range(int(chunk[-1]) + 1)], dim=2)
    scores = (q @ means.mT).masked_fill(torch.arange(means.shape[2]) >= chunk[:, None], -torch.inf)
    best = scores.topk(min(2, means.shape[2]), dim=-1)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best.indices, best.values > -torch.inf)
    return (chosen[..., chunk] | (chunk == chunk[:, None])) & (torch.arange(n) <= torch.arange(n)[:, None])


def _of_positions(attends: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Selects:
    """What depends on head, query and key alone."""

    def select(q: Tensor, k: Tensor) -> Tensor:
        n, heads = q.shape[2], torch.arange(q.shape[1])[:, None, None]
        query, key = torch.arange(n)[:, None], torch.arange(n)
        return ((key <= query) & attends(heads, query, key))[None]

    return select


DENSE: dict[str, Selects] = {
    "window": _of_positions(lambda h, q, k: q - k < 16),
    "kept": _of_positions(lambda h, q, k: (q - k < 16) | (k < 4)),
    "strided": _of_positions(lambda h, q, k: (q - k < 8) | ((q - k) % 8 == 0)),
    "bigbird": _of_positions(lambda h, q, k: (q // 8 - k // 8 < 2) | (k < 8) | ((k // 8 * 7 + q // 8 * 5) % 11 == 0)),
    "heads": _of_positions(lambda h, q, k: q - k < 4 * (h + 1) ** 2),
    "moba": _moba,
    "causal": _of_positions(lambda h, q, k: q >= k),
}
