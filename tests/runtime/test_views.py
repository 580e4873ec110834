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


@pytest.mark.parametrize("backend", [pytest.param("reference", marks=pytest.mark.long), "tiled"])
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


PARTS = "pattern views(n = 24) { space tokens[n] input level: float[batch, tokens] attend causal score s + k.level }"


def strided(x):
    """Numbers apart by the same step."""
    buffer = x.new_full([*x.shape[:-1], 3 * x.shape[-1]], 9)
    buffer[..., ::3] = x
    return buffer[..., ::3]


def decoded(attention, given):
    """A call of two queries an entry over keys in pages, and the gradients of keys and inputs."""
    leaves = {name: x.detach().requires_grad_(name in ("k", "level")) for name, x in given.items()}
    out = attention(leaves.pop("q"), leaves.pop("k"), leaves.pop("v"), **leaves)
    return [out, *torch.autograd.grad(out.sin().sum(), [leaves["level"]])]


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("view", ["permuted", "sliced", "strided", "expanded"])
def test_views_of_pages_and_lengths(view, backend):
    attention = maskdsl.parse(PARTS)["views"].bind(heads=2).compile(backend)
    seen_as = {**VIEWS, "strided": strided}[view]
    torch.manual_seed(1)
    given = {name: torch.randn(*shape).double() for name, shape in (("q", (2, 2, 2, 4)), ("level", (2, 24)))}
    given |= {name: torch.randn(9, 1, 4, 4).double() for name in ("k", "v")}
    given |= {"query_start": torch.tensor([9, 17]), "key_lengths": torch.tensor([11, 19])}
    given["page_table"] = torch.randperm(9)[:8].view(2, 4).repeat(1, 2)[:, :6]
    for name in given:
        seen = {**given, name: seen_as(given[name])}
        twin = {**given, name: seen[name].contiguous().clone()}
        for one, other in zip(decoded(attention, seen), decoded(attention, twin), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("view", ["permuted", "sliced", "strided"])
def test_views_of_packed_sequences(view, backend):
    attention = maskdsl.parse(PARTS)["views"].bind(heads=2).compile(backend)
    seen_as = {**VIEWS, "strided": strided}[view]
    torch.manual_seed(2)
    given = {name: torch.randn(20, heads, 4).double() for name, heads in (("q", 2), ("k", 1), ("v", 1))}
    given |= {"cu_seqlens_q": torch.tensor([0, 7, 20]), "cu_seqlens_k": torch.tensor([0, 7, 20])}
    given |= {"query_start": torch.tensor([0, 0]), "level": torch.randn(2, 24).double()}

    def packed(values):
        leaves = {name: x.detach().requires_grad_(x.is_floating_point()) for name, x in values.items()}
        out = attention.varlen(**leaves)
        wanted = [x for x in leaves.values() if x.requires_grad]
        return [out, *torch.autograd.grad(out.sin().sum(), wanted)]

    for name in given:
        seen = {**given, name: seen_as(given[name])}
        twin = {**given, name: seen[name].contiguous().clone()}
        for one, other in zip(packed(seen), packed(twin), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_strides_beyond_32_bits(backend):
    """Keys whose heads are further apart in memory than 32 bits count: of a buffer that is touched here and there."""
    attention = maskdsl.parse("pattern p(n = 3) { space t[n] attend causal }")["p"].bind(heads=2).compile(backend)
    torch.manual_seed(3)
    q, k, v = torch.randn(3, 1, 2, 3, 4, dtype=torch.float16)
    buffer = torch.empty(2**31 + 64, dtype=torch.float16)
    far = buffer.as_strided(k.shape, (0, 2**31, 4, 1))
    far.copy_(k)
    torch.testing.assert_close(attention(q, far, v), attention(q, k, v), rtol=0, atol=0)
