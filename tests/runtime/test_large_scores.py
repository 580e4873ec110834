"""Scores far from zero, and numbers beyond float32: what a score's float holds is what counts."""

import pytest
import torch

import maskdsl

BACKENDS = ("reference", "tiled")
SHIFTED = "pattern shifted(n) { space tokens[n] input shift: float[tokens] attend all -> all score s + k.shift }"


@pytest.mark.parametrize(
    ("backend", "length", "shift"),
    [*((name, 200, shift) for name in BACKENDS for shift in (-1e2, -3e3, -1e6, 1e9, -3e38)), ("tiled", 4100, -1e9)],
)
def test_a_shift_of_all_scores_costs_no_gradient(backend, length, shift):
    """Their log-sum-exp loses the logarithm of the sum; gradients must not. Rows of 4,100 keys are several pieces."""
    torch.manual_seed(0)
    attention = maskdsl.parse(SHIFTED)["shifted"].bind(n=length, heads=1).compile(backend)
    shifts = torch.full((length,), shift)
    shifts[::3] = shifts[0].nextafter(torch.tensor(0.0))  # by as little as float32 can tell
    v, toward = torch.randn(2, 1, 1, length, 4)
    v.requires_grad_()
    shifts.requires_grad_()
    nothing = torch.zeros(1, 1, length, 4)
    out = attention(nothing, nothing, v, shift=shifts)
    found = [out, *torch.autograd.grad(out, (v, shifts), toward)]
    # All queries are equal: one row of probabilities says everything.
    own, double = v.detach()[0, 0].double(), toward[0, 0].double()
    p = shifts.detach().double().softmax(0)
    mean = p @ own
    expected = [mean.expand_as(own), p[:, None] * double.sum(dim=0), p * (double.sum(dim=0) * (own - mean)).sum(dim=1)]
    for name, one, other in zip(("out", "v", "shift"), found, expected, strict=True):
        room = 2e-5 * other.abs().max().item()
        torch.testing.assert_close(
            one.double().view_as(other), other, rtol=0, atol=room, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "score", ["s - 1.0e39 if k < 3 else s", "max(-1.0e39, s) * 1.0 if k >= 3 else -1.0e20 * 1.0e30"]
)
def test_numbers_beyond_float32_are_infinite_there(score, backend):
    text = "pattern large(n) {{ space tokens[n] attend {} score {} }}"
    large = maskdsl.parse(text.format("all -> all", score))["large"].bind(n=20).compile(backend)
    without = maskdsl.parse(text.format("k >= 3", "s"))["large"].bind(n=20).compile(backend)
    tensors = torch.randn(3, 1, 1, 20, 4).unbind()
    torch.testing.assert_close(large(*tensors, return_lse=True), without(*tensors, return_lse=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_score_beyond_float32_is_an_empty_row_there_alone(backend):
    attention = maskdsl.parse("pattern far(n) { space tokens[n] attend all -> all score -1.0e39 }")["far"].bind(n=20)
    tensors = torch.randn(3, 1, 1, 20, 4).unbind()
    out, lse = attention.compile(backend)(*tensors, return_lse=True)
    assert not out.any() and (lse == -torch.inf).all()
    out = attention.compile(backend)(*(x.double() for x in tensors))
    torch.testing.assert_close(out, tensors[2].double().mean(dim=2, keepdim=True).expand_as(out))


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_are_compared_in_float64(backend):
    """0.1 as float32 is more than 0.1."""
    text = (
        "pattern near(n) { space tokens[n] input w: float[tokens] attend all -> all score 1.0 if k.w <= 0.1 else 2.0 }"
    )
    attention = maskdsl.parse(text)["near"].bind(n=4, heads=1).compile(backend)
    w = torch.tensor([0.1, 0.0, 0.2, 0.05])
    _, lse = attention(*torch.zeros(3, 1, 1, 4, 4), w=w, return_lse=True)
    expected = torch.tensor([2.0, 1.0, 2.0, 1.0]).logsumexp(0)
    torch.testing.assert_close(lse, expected.expand(1, 1, 4))
