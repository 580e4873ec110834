"""Scores and weights of any form in C, against the dense reference in float64: a kernel compiled for each."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.runtime.backends.native import native_backend
from maskdsl.runtime.backends.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler works here")

TOLERANCES = {torch.float32: 3e-5, torch.bfloat16: 6e-2, torch.float16: 6e-3}
FORMS = {
    "scale of heads": "input x: float[heads] attend causal score s * x[head]",
    "scale of queries": "input x: float[batch, heads, t] attend causal score s * (1.5 + q.x)",
    "scale of keys": "input x: float[t] attend backward(20) scale 0.05 + exp(k.x) * 0.02",
    "cosine": (
        "input x: float[heads] input r: float[heads, 9]"
        " attend window(4) scale exp(min(x[head], 4.6)) * 0.1 score s + r[head, k - q + 4]"
    ),
    "length": "attend causal score s * log(float(q + 2))",
    "decay": "input x: float[batch, heads, t] attend causal score s + q.x - k.x",
    "bias of keys": "input x: float[batch, t] attend all -> all score s + x[batch, k]",
    "slopes of queries": "input x: float[t] attend causal score s - abs(q.x) * float(q - k) * 0.1",
    "distances": "input x: float[t] attend backward(30) score s - abs(q.x - k.x) * 0.7",
    "gates": "input x: float[heads, t] attend causal score s * sigmoid(k.x) if q.x > 0.0 and s > 0.25 else 0.3 * s",
    "tables": "input x: float[heads, 9] attend window(4) score s * x[head, k - q + 4] + (0.5 if q == k else 0.0)",
    "roots": "input x: float[t] attend causal score sqrt(s * s + exp(k.x)) - log(2.0 + abs(s)) + s ** 3.0 * 0.01",
    "limits": "input x: float[t] attend causal score max(min(s, q.x), -1.0) + min(s, 0.3) + abs(max(s, k.x))",
    "powers": "input x: float[t] attend causal score tanh(s) ** 2.0 + (1.0 + abs(s)) ** -1.5 + 1.0 / (2.0 + q.x * q.x)",
    "capped": "input x: float[heads] attend causal score x[head] * tanh(s / x[head]) score s + 0.1 * float(k - q)",
    "left out": "input x: float[t] attend causal score s + (-inf if k.x < 0.0 and s < 9.0 else log(k.x))",
    "least": "input x: float[t] attend all -> all score s + (-3.4028234663852886e38 if x[k] < 0.5 and k > 0 else x[k])",
    "documents": "input x: float[t] input doc: int[batch, t] attend same(doc) and causal score s * (1.0 + k.x * k.x)",
    "ordered": "input x: float[heads, t] attend (q - k) % 4 == 0 score s * q.x + k.x order by i % 4",
    "orders of heads": (
        "input x: float[heads, t] attend backward(9) score s * q.x + k.x order by -i if head % 2 == 0 else i % 3"
    ),
    "gaps": "input x: float[t] attend causal and q % 5 != 2 and k % 3 != 1 score s + k.x",
    "sinks": "input x: float[t] input y: float[heads] attend causal score s * k.x sink y[head]",
    "logarithms": "attend causal score log(max(s, 0.0)) * 2.0",
    "weights of keys": "input x: float[batch, heads, t] attend causal weight k.x",
    "weights of pairs": "input x: float[heads, 9] attend window(4) weight x[head, k - q + 4] score 2.0 * tanh(s / 2.0)",
    "weights of both": "input x: float[t] attend causal weight exp(-abs(q.x - k.x)) score s * k.x + s * q.x",
    "factors": "input x: float[t] attend causal weight q.x",
    "no factors": (
        "input x: float[t] input y: float[heads] attend backward(9) weight max(q.x, 0.0) * k.x sink y[head]"
    ),
    "weights of -inf": "input x: float[t] attend causal weight log(k.x) score s if k.x > 0.0 else -inf",
    "sigmoid": "attend backward(9) score sigmoid(s) normalize none",
    "relu": "input x: float[heads] attend window(9) score max(s - x[head], 0.0) / 9.0 normalize none",
    "retention": (
        "input x: float[heads] attend backward(9) score s * exp(-abs(x[head]) * float(q - k)) / 9.0 normalize none"
    ),
    "alone": "input x: float[heads, t] attend backward(9) score s * 0.05 weight k.x * (q.x + k.x) normalize none",
    "constant": "input x: float[t] attend backward(9) score 0.25 weight k.x normalize none",
    "of keys": "input x: float[heads, t] attend backward(9) score s + k.x normalize softmax by k",
    "of entries": "input x: float[t] attend causal score s * (1.0 + float(batch)) + k.x * float(head)",
}


def inputs_of(mask: Any, n: int, batch: int) -> dict[str, Tensor]:
    made = {}
    for each in mask.inputs:
        if each.name == "doc":
            made["doc"] = (torch.arange(n) // 11 * torch.arange(1, batch + 1)[:, None]).contiguous()
            continue
        sizes = {"batch": batch, "heads": mask.heads}
        shape = [sizes.get(d.text, d.size) for d in each.dimensions]
        made[each.name] = torch.randn(shape, requires_grad=True)
    return made


def results(mask: Any, backend: Any, tensors: list[Tensor], inputs: dict[str, Tensor]) -> list[Tensor]:
    leaves = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    if mask.ir.has_sums:
        out, lse = mask.compile(backend)(*tensors, return_lse=True, **inputs)
        finite = lse.isfinite() & (lse > -1e30)
        ends = out.double().sin().sum() + lse.double()[finite].cos().sum()
        return [out, lse, *torch.autograd.grad(ends, leaves, materialize_grads=True)]
    out = mask.compile(backend)(*tensors, **inputs)
    return [out, *torch.autograd.grad(out.double().sin().sum(), leaves, materialize_grads=True)]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernel alone computes all of these."""
    monkeypatch.setattr(native_backend, "_by_tiles", None)
    monkeypatch.setattr(native_backend, "_gradients_by_tiles", None)
    yield


SHAPES = [
    (1, 1, 1, 16, 16, 1),
    (17, 4, 2, 8, 24, 2),
    (150, 2, 2, 64, 64, 2),
    (197, 4, 4, 33, 17, 1),
    (70, 2, 1, 256, 80, 1),
]
"""Tokens, heads, key heads, dims of keys and of values, and batch entries."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("n", "heads", "key_heads", "dim", "value_dim", "batch"), SHAPES)
@pytest.mark.thinned(6, "form", "dtype", "n")
def test_it_agrees_with_the_reference(
    form: str, dtype: torch.dtype, n: int, heads: int, key_heads: int, dim: int, value_dim: int, batch: int
) -> None:
    torch.manual_seed(n)
    mask = maskdsl.parse(f"pattern p(n) {{ space t[n] {FORMS[form]} }}")["p"].bind(n=n, heads=heads)
    shapes = (batch, heads, n, dim), (batch, key_heads, n, dim), (batch, key_heads, n, value_dim)
    tensors = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in tensors]
    inputs = inputs_of(mask, n, batch)
    found, expected = results(mask, "native", tensors, inputs), results(mask, "reference", exact, inputs)
    first_of_inputs = len(found) - sum(x.requires_grad for x in inputs.values())
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        # Gradients of inputs are sums over tokens and dims.
        tolerance = TOLERANCES[dtype] * (1 if number < first_of_inputs else 8)
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", ["", "score s + k.x", "weight k.x", "score s * 0.01 weight k.x normalize none"])
def test_parts_of_long_rows(form: str) -> None:
    """Threads share the rows of few queries: their parts are put together as the form says."""
    text = f"pattern p(m, n) {{ space a[m] space b[n] queries a keys b input x: float[b] attend all -> all {form} }}"
    mask = maskdsl.parse(text)["p"].bind(m=3, n=5000)
    torch.manual_seed(0)
    tensors = [torch.randn(1, 2, length, 32).requires_grad_() for length in (3, 5000, 5000)]
    inputs = {"x": torch.randn(5000).requires_grad_()} if form else {}
    exact = [x.detach().double().requires_grad_() for x in tensors]
    found, expected = results(mask, "native", tensors, inputs), results(mask, "reference", exact, inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("score", ["s * table[head, min(q - k, 7)]", "s + table[head, min(q - k, 7)]"])
def test_gradients_of_halves_are_summed_in_float32(score: str, kind: torch.dtype) -> None:
    """An entry of a table gets those of thousands of pairs, of which a sum in halves would lose most."""
    text = f"pattern p(n) {{ space t[n] input table: float[heads, 8] attend causal score {score} }}"
    mask = maskdsl.parse(text)["p"].bind(n=600, heads=2)
    torch.manual_seed(0)
    q, k, v, toward = (torch.randn(1, 2, 600, 16) for _ in range(4))
    given = torch.randn(2, 8).to(kind).requires_grad_()
    (made,) = torch.autograd.grad(mask.compile("native")(q, k, v, table=given), given, toward)
    exact = given.detach().double().requires_grad_()
    out = mask.compile("reference")(q.double(), k.double(), v.double(), table=exact)
    (expected,) = torch.autograd.grad(out, exact, toward.double())
    assert made.dtype == kind
    torch.testing.assert_close(made.double(), expected, rtol=torch.finfo(kind).eps, atol=1e-4)
