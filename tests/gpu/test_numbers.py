"""Numbers at which kernels could go wrong without a word, against a softmax in float64 that is written here."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import maskdsl
from tests.gpu.tensors import DEVICE, REASON, RUNS

pytestmark = pytest.mark.skipif(not RUNS, reason=REASON)

# Kinks

Change = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of scores [queries, keys], the floats `w` of queries [queries, 1] and of keys [keys]."""
PLACE = torch.arange(8.0, device=DEVICE)
KINKS: dict[str, Change] = {
    "score abs(s)": lambda s, q, k: s.abs(),
    "score max(s, k.w)": lambda s, q, k: torch.maximum(s, k),
    "score min(q.w, s)": lambda s, q, k: torch.minimum(q, s),
    "score clamp(s, 0.0, 1.0)": lambda s, q, k: s.clamp(0.0, 1.0),
    "score clamp(s, -0.1, 0.1)  score min(s, 0.1)": lambda s, q, k: s.clamp(-0.1, 0.1).clamp(max=0.1),
    "score max(s, k)": lambda s, q, k: torch.maximum(s, PLACE),
    "score s + min(k - 4, k.w)": lambda s, q, k: s + torch.minimum(PLACE - 4, k),
    "score s + abs(k.w) - max(0.0, q.w)": lambda s, q, k: s + k.abs() - q.clamp(min=0.0),
    "score s ** 2 + k.w ** 3": lambda s, q, k: s**2 + k**3,
    "score s if s > 0.0 else 2.0 * s": lambda s, q, k: torch.where(s > 0.0, s, 2.0 * s),
}
WEIGHTS: dict[str, Change] = {
    "weight abs(k.w)": lambda s, q, k: k.abs(),
    "weight max(q.w, k.w) + min(k.w, 0.0)": lambda s, q, k: torch.maximum(q, k) + k.clamp(max=0.0),
}


@pytest.mark.parametrize("backend", ["triton", "tiled", "reference"] if DEVICE.type == "cpu" else ["triton"])
@pytest.mark.parametrize("body", [*KINKS, *WEIGHTS])
def test_gradients_at_kinks_are_those_of_autograd(body: str, backend: str) -> None:
    text = f"pattern kinks(n = 8) {{ space tokens[n]  input w: float[tokens]  attend q >= 0 {body} }}"
    attention = maskdsl.parse(text)["kinks"].bind().compile(backend)
    generator = torch.Generator().manual_seed(3)
    q, k, v, toward = torch.randn(4, 1, 1, 8, 16, generator=generator).to(DEVICE)
    q[..., ::2, :] = 0  # half of all scores are zero
    w = torch.tensor([0.0, 1.0, -2.0, 0.0, 0.5, 1.0, -1.0, 1.5], device=DEVICE)
    leaves = [x.requires_grad_() for x in (q, k, v, w)]
    found = torch.autograd.grad(attention(q, k, v, w=w), leaves, toward)
    s = (q @ k.mT) / 4
    p = torch.softmax(KINKS.get(body, lambda s, q, k: s)(s, w[:, None], w), -1)
    if body in WEIGHTS:
        p = p * WEIGHTS[body](s, w[:, None], w)
    expected = torch.autograd.grad(p @ v, leaves, toward, materialize_grads=True)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
