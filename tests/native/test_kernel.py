"""The kernel of `codegen/native.c` against the dense reference in float64: shapes, types, orders, kinds of lists."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.runtime.backends.native import native_backend
from maskdsl.runtime.backends.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler works here")

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 4e-3}
PATTERNS = {
    "causal": "space t[n] attend causal",
    "window": "space t[n] attend window(5) or k == 0",
    "all": "space t[n] attend all -> all",
    "nothing": "space t[n] attend q > 1000000",
    "comb": "space t[n] attend (q - k) % 7 == 0",
    "by head": "space t[n] attend abs(q - k) <= 3 + 5 * head",
    "gaps": "space t[n] attend causal and q % 5 != 2 and k % 3 != 1",
    "ordered": "space t[n] attend (q - k) % 4 == 0 and causal order by i % 4",
    "orders of heads": "space t[n] attend causal and backward(9) order by -i if head % 2 == 0 else i % 3",
    "documents": "space t[n] input doc: int[batch, t] attend same(doc) and causal",
    "documents, biased": "space t[n] input doc: int[batch, t] attend same(doc) score s - 0.1 * float(abs(q - k))",
    "sinks": "space t[n] input s: float[heads] attend backward(4) and k % 2 == 0 sink s[head]",
    "capped": "space t[n] attend causal score 3.0 * tanh(s / 3.0)",
    "slopes": "space t[n] attend causal score s - 2.0 ** (-(head + 1)) * (q - k)",
    "table": "space t[n] input r: float[heads, 9] attend window(4) score s + r[head, k - q + 4]",
    "capped, then biased": (
        "space t[n] input r: float[9] attend window(4) score 2.0 * tanh(s / 2.0) score s + r[k - q + 4]"
    ),
    "biased groups": "space t[n] input r: float[49, 49] attend q // 49 == k // 49 score s + r[q % 49, k % 49]",
    "scaled": "space t[n] attend causal scale 0.3",
    "constant": "space t[n] attend causal score s + 1.5",
    "factor": "space t[n] input w: float[t] attend causal weight q.w",
}


def inputs_of(mask: Any, n: int, batch: int) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for name, dimensions in ((each.name, each.dimensions) for each in mask.inputs):
        if name == "doc":
            made["doc"] = (torch.arange(n) // 11 * torch.arange(1, batch + 1)[:, None]).contiguous()
        elif name == "s":
            made["s"] = torch.randn(mask.heads, requires_grad=True)
        elif name == "r":
            made["r"] = torch.randn([each.size for each in dimensions], requires_grad=True)
        else:
            made["w"] = torch.rand(n).add(0.5).requires_grad_()
    return made


def results(mask: Any, backend: Any, tensors: list[Tensor], inputs: Mapping[str, Tensor]) -> list[Tensor]:
    out, lse = mask.compile(backend)(*tensors, return_lse=True, **inputs)
    leaves = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    ends = out.double().sin().sum() + lse.double()[lse.isfinite()].cos().sum()
    return [out, lse, *torch.autograd.grad(ends, leaves)]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("n", "heads", "key_heads", "dim", "value_dim", "batch"),
    [
        (1, 1, 1, 16, 16, 1),
        (17, 4, 2, 8, 24, 2),
        (150, 2, 2, 64, 64, 2),
        (197, 4, 4, 33, 17, 1),
        (70, 2, 1, 256, 80, 1),
    ],
)
@pytest.mark.thinned(3, "pattern", "dtype", "n")
def test_it_agrees_with_the_reference(
    pattern: str,
    dtype: torch.dtype,
    n: int,
    heads: int,
    key_heads: int,
    dim: int,
    value_dim: int,
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_backend, "_by_tiles", None)  # the kernel alone computes all of these
    monkeypatch.setattr(native_backend, "_gradients_by_tiles", None)
    torch.manual_seed(n)
    mask = maskdsl.parse(f"pattern p(n) {{ {PATTERNS[pattern]} }}")["p"].bind(n=n, heads=heads)
    shapes = (batch, heads, n, dim), (batch, key_heads, n, dim), (batch, key_heads, n, value_dim)
    tensors = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in tensors]
    inputs = inputs_of(mask, n, batch)
    found, expected = results(mask, "native", tensors, inputs), results(mask, "reference", exact, inputs)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        tolerance = TOLERANCES[dtype] * (1 if number < 5 else 4)  # gradients of inputs are sums over tokens and dims
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_results_are_rounded_to_the_nearest(dtype: torch.dtype) -> None:
    """Means of two values, which float32 holds: each half of the outputs lies between two numbers of the type."""
    values = torch.randint(-(2**15), 2**15, (2, 4096), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    v = values.view(dtype)
    v = torch.where(v.isfinite() & (v.abs() < 1e30) & ((v.abs() > 1e-30) | (v == 0)), v, 1.0).view(1, 1, 2, 4096)
    mask = maskdsl.parse("pattern p(n) { space t[n] attend all -> all }")["p"].bind(n=2)
    out = mask.compile("native")(torch.zeros(1, 1, 2, 16, dtype=dtype), torch.randn(1, 1, 2, 16).to(dtype), v)
    assert torch.equal(out, v.float().mean(dim=2, keepdim=True).to(dtype).expand(-1, -1, 2, -1))


def test_large_scores() -> None:
    """A log-sum-exp in float32 is too coarse for the probabilities of equal scores, so tiles compute gradients."""
    mask = maskdsl.parse("pattern p(n) { space t[n] attend causal score s + 100000.0 }")["p"].bind(n=40)
    tensors = [torch.zeros(1, 2, 40, 16), *torch.randn(2, 1, 2, 40, 16)]
    found, expected = [], []
    for backend, dtype, to in (("native", torch.float32, found), ("reference", torch.float64, expected)):
        leaves = [x.to(dtype).requires_grad_() for x in tensors]
        out = mask.compile(backend)(*leaves)
        to += [x.double() for x in (out, *torch.autograd.grad(out.sin().sum(), leaves))]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_nothing_flows_from_empty_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes back to queries without keys: tiles are not asked again."""
    monkeypatch.setattr(native_backend, "_gradients_by_tiles", None)
    mask = maskdsl.parse(f"pattern p(n) {{ {PATTERNS['gaps']} }}")["p"].bind(n=40)
    tensors, toward, found = torch.randn(3, 1, 2, 40, 16), torch.randn(1, 2, 40, 16), []
    for fill in (0.0, torch.nan):
        leaves = tensors.clone().requires_grad_()
        out, lse = mask.compile("native")(*leaves, return_lse=True)
        empty = lse.isinf()
        assert empty.any()
        ends = toward.masked_fill(empty[..., None], fill), torch.ones(lse.shape).masked_fill(empty, fill)
        found += torch.autograd.grad((out, lse), leaves, ends)
    assert torch.equal(*found)
