"""Gradients through routed attention against finite differences in float64, away from ties.

Of queries, keys and values in every routing example, of float inputs that only decide (nothing), and of gates and
biases that pairs read once they are selected.
"""

import pytest
import torch

import maskdsl
from maskdsl.ir.ops import Type
from maskdsl.runtime.backends import usable_backends
from tests.catalogue.test_routing import CASES, EXAMPLES, HEADS, tensors

GATED = """
## The best past blocks by a gate and by the products; the gate weighs them too.
pattern gated(n = 21, block = 4, top = 2) {
    let blocks = (n - 1) // block + 1
    space tokens[n]
    input gate: float[batch, heads, blocks, blocks]
    coord chunk = i // block
    route picked = topk(top, gate[batch, head, q.chunk, k.chunk] + dot(mean(q, chunk), mean(k, chunk)))
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
POOLED_OR_FIXED = [
    ("core_context", "core_context", {"n": 37, "group": 4, "size": 9}),
    ("pyramid", "pyramid", {"n": 37, "block": 8, "levels": 3}),
    ("proxy_tokens", "proxy_tokens", {"t": 3, "h": 3, "w": 5, "window_t": 2, "window_h": 2, "window_w": 3}),
]
EXAMPLES_ONCE = {name: (file, name, parameters) for file, name, parameters, *_ in (*CASES, *POOLED_OR_FIXED)}
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


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize(("file", "name", "parameters"), EXAMPLES_ONCE.values(), ids=EXAMPLES_ONCE)
def test_examples(file, name, parameters, backend):
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=HEADS, **parameters)
    given, attention = leaves(mask, 11), mask.compile(backend)
    check_differences(attention, given, ["q", "k", "v"])
    deciding = [given[each.name] for each in mask.inputs if each.type is Type.FLOAT]
    if deciding:
        grads = torch.autograd.grad(attention(**given).sum(), deciding, allow_unused=True, materialize_grads=True)
        assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize(("name", "read"), READ.items())
def test_gates_and_biases(name, read, backend):
    mask = maskdsl.parse(GATED)[name].bind(heads=HEADS)
    given, attention = leaves(mask, 3), mask.compile(backend)
    check_differences(attention, given, ["q", "k", "v", *read])
    grads = torch.autograd.grad(attention(**given).square().sum(), [given[each] for each in read])
    assert all(grad.abs().max() > 1e-3 for grad in grads)
