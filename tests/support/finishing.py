"""Sinks and factors where digits are lost easily: outputs in half precision, and scores of a hundred thousand."""

from collections.abc import Iterator

import torch
from torch import Tensor

import maskdsl

LENGTH = 21
BY_KEY = "normalize softmax by k"
HALF = """pattern p(n) {
    space t[n]
    input logit: float[heads]
    input gate: float[t]
    attend causal
    sink logit[head]
    weight q.gate
}"""
LARGE = """pattern p(n) {
    space t[n]
    input bias: float[t]
    input logit: float[heads]
    attend causal and q != 3
    score s + k.bias
    sink logit[head]
    sink q.bias - 1.0
}"""


def check_rounded_once(backend: str, dtype: torch.dtype) -> None:
    """Outputs are at most the half of a unit in the last place from float64, in calls of each kind.

    All scores are 0, so the sums of values are exact in float32. An output that is rounded before its query has sinks
    and a factor is rounded twice.
    """
    random = torch.Generator().manual_seed(0)
    k, v = (torch.randn(2, 2, LENGTH, 16, generator=random).to(dtype) for _ in range(2))
    logit, gate = torch.randn(4, generator=random), torch.rand(LENGTH, generator=random) + 0.5
    q = torch.zeros(2, 4, LENGTH, 16, dtype=dtype)
    counts = torch.arange(1, LENGTH + 1, dtype=torch.float64)
    sums = v.double().repeat_interleave(2, dim=1).cumsum(dim=2)
    expected = sums * gate.double()[:, None] / (counts + logit.double().exp()[:, None])[..., None]
    for out, wanted in _calls(_attention(HALF, backend), q, k, v, expected, logit=logit, gate=gate):
        unit = torch.finfo(dtype).eps * torch.exp2(wanted.abs().log2().floor())
        assert out.dtype == dtype
        assert float(((out.double() - wanted).abs() / unit).max()) < 0.505


def check_large_sums(backend: str) -> None:
    """Scores near 100,000, where a float32 has two digits behind the point, and sinks as large, with gradients."""
    random = torch.Generator().manual_seed(0)
    q = torch.zeros(2, 4, LENGTH, 16)
    k, v = (torch.randn(2, 2, LENGTH, 16, generator=random) for _ in range(2))
    bias, logit = (1e5 + torch.randint(-16, 16, (size,), generator=random) / 8 for size in (LENGTH, 4))
    leaves = [x.double().requires_grad_() for x in (q, k, v, bias, logit)]
    expected = _large(*leaves)
    for out, wanted in _calls(_attention(LARGE, backend), q, k, v, expected.detach(), bias=bias, logit=logit):
        torch.testing.assert_close(out.double(), wanted, rtol=0, atol=2e-6)
    toward = torch.randn(expected.shape, generator=random, dtype=torch.float64)
    given = [x.requires_grad_() for x in (q, k, v, bias, logit)]
    out = _attention(LARGE, backend)(q, k, v, bias=bias, logit=logit)
    grads = torch.autograd.grad(out, given, toward.float())
    for grad, exact in zip(grads, torch.autograd.grad(expected, leaves, toward), strict=True):
        torch.testing.assert_close(grad.double(), exact, rtol=0, atol=2e-5)


def _large(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, logit: Tensor) -> Tensor:
    """Keys and two sinks in one softmax, the sinks' share dropped."""
    positions = torch.arange(LENGTH)
    attends = (positions[:, None] >= positions) & (positions != 3)[:, None]
    k, v = (x.repeat_interleave(2, dim=1) for x in (k, v))
    s = (q @ k.mT * 16**-0.5 + bias).masked_fill(~attends, -torch.inf)
    sinks = logit[:, None, None].expand(2, 4, LENGTH, 1), (bias - 1)[:, None].expand(2, 4, LENGTH, 1)
    return torch.cat([s, *sinks], dim=-1).softmax(dim=-1)[..., :LENGTH] @ v


def check_large_sums_by_key(backend: str) -> None:
    """Softmaxes over queries whose scores are near 100,000."""
    random = torch.Generator().manual_seed(0)
    q, k, v = torch.zeros(2, 4, LENGTH, 16), *(torch.randn(2, 2, LENGTH, 16, generator=random) for _ in range(2))
    bias = 1e5 + torch.randint(-16, 16, (LENGTH,), generator=random) / 8
    positions = torch.arange(LENGTH)
    s = bias.double()[:, None].masked_fill(positions[:, None] < positions, -torch.inf)
    expected = s.softmax(dim=0) @ v.double().repeat_interleave(2, dim=1)
    for order in ("", " order by -i"):
        text = f"pattern p(n) {{ space t[n] input bias: float[t] attend causal score s + q.bias {BY_KEY}{order} }}"
        attention = _attention(text, backend)
        for layout in ("declared", *(["ordered"] if order else [])):
            given = [x.flip(2) if layout == "ordered" else x for x in (q, k, v)]
            out = attention(*given, bias=bias, layout=layout)
            out = out.flip(2) if layout == "ordered" else out
            torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-6)


def _attention(text: str, backend: str) -> maskdsl.Attention:
    return maskdsl.parse(text)["p"].bind(n=LENGTH, heads=4).compile(backend)


def _calls(
    attention: maskdsl.Attention, q: Tensor, k: Tensor, v: Tensor, expected: Tensor, **inputs: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """The output, and what it should be: of all queries, of some, over pages, of a chunk with gradients, and packed."""
    last = LENGTH - 3
    yield attention(q, k, v, **inputs), expected
    some = {"query_start": last, **inputs}
    yield attention(q[:, :, last:], k, v, **some), expected[:, :, last:]
    pages = [torch.cat([x, x[:, :, :3]], dim=2).unflatten(2, (3, 8)).transpose(1, 2).flatten(0, 1) for x in (k, v)]
    table = torch.arange(6).view(2, 3)
    lengths = torch.full((2,), LENGTH)
    yield attention(q[:, :, last:], *pages, **some, page_table=table, key_lengths=lengths), expected[:, :, last:]
    leaf = q[:, :, last:].clone().requires_grad_()
    yield attention(leaf, k, v, **some).detach(), expected[:, :, last:]
    packed = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    out = attention.varlen(*packed, torch.tensor([0, LENGTH, 2 * LENGTH]), **inputs)
    yield out.unflatten(0, (2, LENGTH)).transpose(1, 2), expected
