"""Calls without entries, queries or keys, as the last rank or the first step may have: zeros, and no gradients."""

from typing import Any

import pytest
import torch

import maskdsl

BODIES = {
    "plain": "attend causal",
    "routed": "coord chunk = i // 4 route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk"
    " attend causal and (past or same(chunk))",
    "score": "input tilt: float[batch, t] attend causal score s + k.tilt",
    "order": "input document: int[batch, t] attend causal and same(document) order by document",
}
TOKENS = {
    "no entries": ((0, 2, 10), (0, 2, 10), {}),
    "no entries of a part": ((0, 2, 3), (0, 2, 10), {"query_start": 3}),
    "no queries": ((2, 2, 0), (2, 2, 10), {"query_start": 3}),
    "no keys": ((2, 2, 3), (2, 2, 0), {"query_start": 3}),
    "no pages": ((2, 2, 3), (5, 2, 4), {"query_start": 3, "page_table": torch.zeros(2, 0, dtype=torch.int64)}),
    "packed: no queries": ((0, 2), (3, 2), {"cu_seqlens_q": [0, 0, 0], "cu_seqlens_k": [0, 2, 3]}),
    "packed: no keys": ((3, 2), (0, 2), {"cu_seqlens_q": [0, 2, 3], "cu_seqlens_k": [0, 0, 0]}),
    "packed: no tokens": ((0, 2), (0, 2), {"cu_seqlens_q": [0, 0, 0]}),
}


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("tokens", TOKENS)
def test_nothing_attends_nothing(backend: str, trains: bool, tokens: str) -> None:
    queries, keys, where = TOKENS[tokens]
    options: dict[str, Any] = {name: torch.tensor(x) if isinstance(x, list) else x for name, x in where.items()}
    if "cu_seqlens_k" in options:
        options["query_start"] = torch.zeros(2, dtype=torch.int64)
    for name, body in BODIES.items():
        attention = maskdsl.parse(f"pattern p(n = 10) {{ space t[n] {body} }}")["p"].bind(heads=2).compile(backend)
        q, k, v = (torch.randn(*shape, 8, requires_grad=trains) for shape in (queries, keys, keys))
        batch = queries[0] if len(queries) == 3 else 2
        given = {
            "score": {"tilt": torch.zeros(batch, 10, requires_grad=trains)},
            "order": {"document": torch.zeros(batch, 10, dtype=torch.int64)},
        }.get(name, {})
        function = attention.varlen if len(queries) == 2 else attention
        out, lse = function(q, k, v, return_lse=True, **options, **given)
        assert out.shape == q.shape and not out.any() and (lse == -torch.inf).all()
        if trains:
            grads = torch.autograd.grad(
                out.sum() + lse.exp().sum(), (q, k, v, *given.values()) if name == "score" else (q, k, v)
            )
            assert not any(grad.any() for grad in grads)
