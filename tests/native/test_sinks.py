"""Sinks of the least number of float32: a sink is there, though it takes nothing from keys."""

import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler works here")


@pytest.mark.parametrize("score", ["", "score 2.0 * tanh(s / 2.0)"])
def test_the_least_sink(score: str) -> None:
    text = f"pattern p(n) {{ space t[n] input given: float[t] attend k < q {score} sink q.given }}"
    mask = maskdsl.parse(text)["p"].bind(n=20)
    least, results = torch.finfo(torch.float32).min, []
    tensors = torch.randn(3, 1, 1, 20, 16, generator=torch.Generator().manual_seed(0))
    for backend in ("native", "reference"):
        given = torch.tensor([least, -torch.inf, 0.5, 2.0] * 5, requires_grad=True)
        leaves = [*tensors.clone().requires_grad_().unbind(), given]
        out, lse = mask.compile(backend)(*leaves[:3], given=given, return_lse=True)
        assert lse[0, 0, 0] == least  # the first query attends nothing but its sink
        loss = out.sin().sum() + lse[0, 0, 0] + lse[0, 0, 1:].cos().sum()
        results.append([out, lse, *torch.autograd.grad(loss, leaves)])
    torch.testing.assert_close(*results)
