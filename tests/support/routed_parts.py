"""Patterns with routes, with tensors for calls in parts: steps of decoding, chunks, pages."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import maskdsl

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"
TEXT = """
pattern pieces(n = 45) {
    space tokens[n]
    input chunk: int[batch, tokens]
    input worth: float[heads, tokens]
    route past = topk(2, dot(q, max(k where worth > 0.0 by chunk)) + dot(q, root(k by chunk, heads = head // 2)))
        where k.chunk < q.chunk
    route some = topp(0.5, dot(q, k)) where not past and k <= q
    attend causal and (same(chunk) or past or some)
}
pattern told(n = 45) {
    space tokens[n]
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
    weight 2.0 if past else 0.5
    scale 0.2 if past else 0.4
}
pattern clustered(n = 45, clusters = 3) {
    space tokens[n]
    input centroids: float[heads, clusters, dim]
    route cluster = nearest(centroids)
    route best = topk(1, dot(sum(q by i, heads = key_head), mean(k by cluster)))
    attend causal and (cluster or best)
}
pattern heavy(n = 45, block = 5) {
    space tokens[n]
    coord chunk = i // block
    route heavy = topp(0.3, dot(mean(q by chunk), mean(k by chunk)), per = head)
    attend heavy or same(chunk)
}
pattern members(n = 45, size = 11) {
    space tokens[n]
    input centroids: float[heads, 4, dim]
    route together = balanced(size, centroids)
    attend causal and together
}
pattern regions(n = 48, block = 6) {
    space tokens[n]
    coord chunk = i // block
    route picked = topk(2, dot(mean(q where i % 2 == 0 by chunk), mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (picked or same(chunk))
}
pattern sharing(n = 45, block = 4) {
    space tokens[n]
    coord chunk = i // block
    route picked = topk(3, dot(sum(q by i, heads = key_head), mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (q - k < 5 or picked)
}
pattern two(m = 20, n = 40) {
    space a[m]
    space b[n]
    queries a
    keys b
    coord b.chunk = i // 8
    route best = topk(2, dot(q, mean(k by chunk)))
    attend best
}
"""
MODULE = maskdsl.parse(TEXT)
PATTERNS = [
    ("pieces", "", {}),
    ("told", "", {}),
    ("clustered", "", {}),
    ("moba", "moba", {"block": 8, "top": 3}),
    ("sharing", "", {}),
    ("knn", "knn", {"top": 5}),
]


def load(name: str, n: int, file: str = "", **parameters: Any) -> maskdsl.Mask:
    module = maskdsl.load(EXAMPLES / f"{file}.attn") if file else MODULE
    return module[name].bind(heads=4, n=n, **parameters)


def tensors(n: int, batch: int = 3, key_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(batch, 4, n, 16).double()
    k, v = torch.randn(2, batch, key_heads, n, 16).double()
    return q, k, v


def inputs(name: str, n: int) -> dict[str, Tensor]:
    """Those of 3 batch entries."""
    match name:
        case "pieces":
            return {"chunk": (torch.rand(3, n) < 0.2).cumsum(1), "worth": torch.randn(4, n)}
        case "clustered" | "members":
            return {"centroids": torch.randn(4, 3 if name == "clustered" else 4, 16).double()}
        case "seer":
            return {"gate": torch.randn(3, 4, 6, 6).double()}
        case _:
            return {}


def rows_of(x: Tensor, starts: Tensor, count: int) -> Tensor:
    return x.take_along_dim((starts[:, None] + torch.arange(count))[:, None, :, None], dim=2)
