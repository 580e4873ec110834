"""Attention over graphs on a CPU: `python benchmarks/graphs.py [--quick]` measures, and writes `results/graphs.json`.

Held against gathers and a segment softmax in torch, as graph libraries compute it, in turn and on the same inputs.
Times are the best of several, in seconds; `--quick` makes everything small, for the test of the benchmark, and writes
nothing.
"""

import json
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import torch
from cpu import machine
from measures import best, in_turn
from torch import Tensor

import maskdsl

RESULTS = Path(__file__).with_name("results") / "graphs.json"
TEXT = """
pattern graph(n) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    attend edge[q, k]
}
pattern ordered(n) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    input position: int[tokens]
    attend edge[q, k]
    order by position
}
"""
DIM, DEGREE = 64, 8
Result = dict[str, Any]
_Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def scattered(n: int, degree: int) -> Tensor:
    """int64 [2, edges]: each token attends `degree` random ones."""
    columns = torch.randint(n, (n, degree), generator=torch.Generator().manual_seed(0))
    return torch.stack([torch.arange(n).repeat_interleave(degree), columns.flatten()])


def nearest_points(n: int, degree: int) -> Tensor:
    """int64 [2, edges]: each of n shuffled points in a square attends the `degree` nearest ones, and itself."""
    points = torch.rand(n, 2, generator=torch.Generator().manual_seed(1))
    near = [torch.cdist(chunk, points).topk(degree, largest=False).indices for chunk in points.split(1000)]
    return torch.stack([torch.arange(n).repeat_interleave(degree), torch.cat(near).flatten()])


def segment_attention(edge: Tensor) -> _Attention:
    """Gathers of queries, keys and values, and a softmax over the edges of each query."""
    rows, columns = edge

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q[0, 0], k[0, 0], v[0, 0]
        s = (q[rows] * k[columns]).sum(-1) * q.shape[1] ** -0.5
        m_i = s.new_full((len(q),), -inf).scatter_reduce(0, rows, s.detach(), "amax")
        p = (s - m_i[rows]).exp()
        l_i = torch.zeros_like(m_i).index_add(0, rows, p)
        p = (p / l_i[rows]).unsqueeze(1)
        return torch.zeros_like(v).index_add(0, rows, p * v[columns])[None, None]

    return attend


def compared(attention: _Attention, edge: Tensor, n: int, times: int) -> Result:
    """Seconds of both, forward and with gradients, after a check of the values."""
    q, k, v, toward = torch.randn(4, 1, 1, n, DIM, generator=torch.Generator().manual_seed(2))
    other = segment_attention(edge.unique(dim=1))
    torch.testing.assert_close(attention(q, k, v), other(q, k, v), rtol=1e-3, atol=1e-4)
    leaves = [x.requires_grad_() for x in (q, k, v)]

    def both(function: _Attention) -> object:
        return torch.autograd.grad(function(*leaves), leaves, toward)

    def forward(function: _Attention) -> object:
        with torch.no_grad():
            return function(q, k, v)

    found: Result = {}
    for name, run in (("forward", forward), ("training", both)):
        ours, theirs = in_turn(lambda run=run: run(attention), lambda run=run: run(other), times)  # type: ignore[misc]
        found[name] = {"seconds": ours, "torch_seconds": theirs, "ratio": ours / theirs}
    return found


def measured(quick: bool = False) -> Result:
    """All results by name, with the most that each may be."""
    module, times = maskdsl.parse(TEXT), 2 if quick else 7
    large, n = (2000, 1000) if quick else (50_000, 20_000)
    found: Result = {}
    mask = module["graph"].bind(n=large)
    for degree, most in ((2, 0.3), (16, 2.0)):
        edge = scattered(large, degree)
        seconds = best(lambda edge=edge: mask.tiles(edge=edge), times)  # type: ignore[misc]
        found[f"exact tiles, {large:,} tokens of degree {degree}"] = {"seconds": seconds, "bar_s": most}
    edge = scattered(n, DEGREE)
    attention = module["graph"].bind(n=n).compile()
    name = f"scattered graph, {n:,} tokens of degree {DEGREE}"
    found[name] = compared(lambda *x: attention(*x, edge=edge), edge, n, times) | {"bar_ratio": 2.0}
    near = nearest_points(n, DEGREE)
    began = time.perf_counter()
    order = module["graph"].bind(n=n).best_order(edge=near)
    position = torch.as_tensor(order.positions)
    seconds, ordered = time.perf_counter() - began, module["ordered"].bind(n=n).compile()
    name = f"nearest neighbours in the order of the graph, {n:,} points of degree {DEGREE}"
    result = compared(lambda *x: ordered(*x, edge=near, position=position), near, n, times)
    found[name] = result | {"bar_ratio": 2.0, "order_seconds": seconds}
    return found


if __name__ == "__main__":
    results = {"machine": machine(), "results": measured("--quick" in sys.argv)}
    print(json.dumps(results, indent=1))
    if "--quick" not in sys.argv:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
