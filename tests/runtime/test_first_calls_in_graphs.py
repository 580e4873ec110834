"""Attentions whose first call is traced: what calls cache is not there yet."""

import pytest
import torch

import maskdsl

LENGTH = 37  # of no other test: equal masks share what they have cached
PATTERNS = {
    "route": "coord b = i // 8 route r = topk(2, dot(q, mean(k by b))) where k.b < q.b attend same(b) and causal or r",
    "draw": "coord b = i // 8 route r = draw(2, 1, head) where k.b < q.b attend same(b) or r",
    "branches with routes": "coord b = i // 8"
    " branch chosen { route r = topk(2, dot(q, mean(k by b))) where k.b < q.b attend same(b) and causal or r }"
    " branch all_past { attend causal sink 0.0 weight 0.5 }",
    "pools": "input group: int[batch, t] space c = mean(t by group, 6) queries t keys c attend all -> all",
    "product": "input near: float[heads, n, dim] attend causal score s + dot(q, near[head, q - k])",
    "product of tokens": "input left: float[batch, t, 5] input right: float[batch, t, 5]"
    " attend causal score s + dot(q.left, k.right)",
    "value": "input near: float[heads, 4, dim] attend causal value v + near[head, min(q - k, 3)]",
}


def given(length, generator):
    """Inputs by name: each pattern takes those that it declares."""

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, requires_grad=True)

    return {
        "group": lambda: torch.randint(-1, 6, (2, length), generator=generator),
        "near": lambda: drawn(4, length, 8),
        "left": lambda: drawn(2, length, 5),
        "right": lambda: drawn(2, length, 5),
    }


@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
def test_a_first_call_in_a_graph(name, follows):
    generator = torch.Generator().manual_seed(0)
    pattern = maskdsl.parse(f"pattern p(n) {{ space t[n] {PATTERNS[name]} }}")["p"]
    attention = pattern.compile(heads=4) if follows else pattern.bind(n=LENGTH, heads=4).compile()
    tensors = [torch.randn(2, 4, LENGTH, 8, generator=generator, requires_grad=True) for _ in range(3)]
    inputs = {each: make() for each, make in given(LENGTH, generator).items() if each in attention.inputs}
    if name == "value":
        inputs["near"] = inputs["near"][:, :4].detach().requires_grad_()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager", dynamic=follows or None)
    leaves = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    results = []
    for call in (compiled, attention):
        out = call(*tensors, **inputs)
        results.append([out, *torch.autograd.grad(out.sin().sum(), leaves)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
