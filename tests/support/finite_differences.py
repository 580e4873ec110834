"""Gradients through routed attention against finite differences in float64, away from ties.

With patterns whose scores and weights read gates and biases of the pairs that are selected.
"""

import torch

import maskdsl
from tests.support.routing_examples import tensors

GATED = """
## The best past blocks by a gate and by the products; the gate weighs them too.
pattern gated(n = 21, block = 4, top = 2) {
    let blocks = (n - 1) // block + 1
    space tokens[n]
    input gate: float[batch, heads, blocks, blocks]
    coord chunk = i // block
    route picked = topk(top, gate[batch, head, q.chunk, k.chunk] + dot(mean(q by chunk), mean(k by chunk)))
        where k.chunk < q.chunk
    attend causal and (picked or same(chunk))
    weight sigmoid(gate[batch, head, q.chunk, k.chunk])
}

## Those of one cluster, by what their keys are worth there.
pattern biased(n = 21) {
    space tokens[n]
    input centroids: float[heads, 3, dim]
    input bias: float[heads, 3]
    input worth: float[batch, heads, tokens]
    route cluster = nearest(centroids)
    attend cluster
    score s + bias[head, k.cluster] * k.worth
    order by cluster
}
"""
READ = {"gated": ["gate"], "biased": ["bias", "worth"]}
"""The float inputs that pairs read in scores and weights."""
STEP = 1e-6


def leaves(mask: maskdsl.Mask, seed: int) -> dict[str, torch.Tensor]:
    """q, k, v and the inputs, float ones with gradients."""
    q, k, v, inputs = tensors(mask.ir, seed)
    found = {name: torch.as_tensor(value) for name, value in {"q": q, "k": k, "v": v, **inputs}.items()}
    return {name: value.requires_grad_(value.is_floating_point()) for name, value in found.items()}


def check_differences(attention: maskdsl.Attention, given: dict[str, torch.Tensor], names: list[str]) -> None:
    """The gradients of these tensors, along two random directions, of a random sum of output and log-sum-exp."""
    generator = torch.Generator().manual_seed(5)

    def random(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    values = [given[name] for name in names]
    toward, toward_lse = random(given["q"]), random(given["q"][..., 0])

    def loss(values: list[torch.Tensor]) -> torch.Tensor:
        out, lse = attention(**given | dict(zip(names, values, strict=True)), return_lse=True)
        return (out * toward).sum() + (lse * toward_lse)[lse.isfinite()].sum()  # minus infinity: without keys

    grads = torch.autograd.grad(loss(values), values)
    for _ in range(2):
        ways = [random(value) for value in values]
        with torch.no_grad():
            ahead, behind = (
                loss([value + step * way for value, way in zip(values, ways, strict=True)]) for step in (STEP, -STEP)
            )
        slope = sum((grad * way).sum() for grad, way in zip(grads, ways, strict=True))
        torch.testing.assert_close((ahead - behind) / (2 * STEP), slope, rtol=1e-6, atol=1e-6)
