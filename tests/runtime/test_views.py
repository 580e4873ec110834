"""Tensors of any strides: results and gradients are those of contiguous ones."""

import pytest
import torch

import maskdsl

TEXT = """
pattern views(n = 70) {
    space tokens[n]
    input bias: float[heads, tokens, tokens]
    input slope: float[batch, tokens]
    input document: int[batch, tokens]
    attend causal and same(document)
    score s + bias[head, q, k] * q.slope
}
"""


def permuted(x):
    """As `base.permute(...)` gives it: the last axis is not the one that moves fastest."""
    axes = [*range(1, x.dim()), 0]
    return x.permute(axes).contiguous().permute([axes.index(axis) for axis in range(x.dim())])


def sliced(x):
    """A part of a larger buffer, every second element of its last axis."""
    buffer = x.new_zeros([size + 3 for size in x.shape[:-1]] + [2 * x.shape[-1] + 1])
    part = buffer[(*(slice(2, 2 + size) for size in x.shape[:-1]), slice(1, 1 + 2 * x.shape[-1], 2))]
    part.copy_(x)
    return part


def expanded(x):
    """All entries of the first axis are one."""
    return x[:1].expand(x.shape)


VIEWS = {"permuted": permuted, "sliced": sliced, "expanded": expanded}


def tensors():
    torch.manual_seed(0)
    names = {name: torch.randn(2, heads, 70, 8, dtype=torch.float64) for name, heads in (("q", 4), ("k", 2), ("v", 2))}
    bias, slope = torch.randn(4, 70, 70, dtype=torch.float64), torch.rand(2, 70, dtype=torch.float64)
    document = torch.stack([torch.arange(70) // 40, torch.arange(70) // 33])
    return {**names, "bias": bias, "slope": slope, "document": document, "toward": torch.randn(2, 4, 70, 8).double()}


def results(attention, given, wanted):
    leaves = {name: x.detach().requires_grad_(name in wanted) for name, x in given.items()}
    toward = leaves.pop("toward")
    out, lse = attention(leaves.pop("q"), leaves.pop("k"), leaves.pop("v"), return_lse=True, **leaves)
    grads = torch.autograd.grad(
        (out, lse), [leaves[name] for name in wanted if name in leaves], (toward, toward[..., 0])
    )
    return [out, lse, *grads]


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("wanted", [("q", "k", "v", "bias", "slope"), ("k", "slope")])
def test_views_are_what_they_show(wanted, view, backend):
    attention = maskdsl.parse(TEXT)["views"].bind(heads=4).compile(backend)
    given = tensors()
    for name in given:
        seen = {**given, name: VIEWS[view](given[name])}
        twin = {**given, name: seen[name].contiguous().clone()}
        for one, other in zip(results(attention, seen, wanted), results(attention, twin, wanted), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
