"""Scores far from zero, and numbers beyond float32: what a score's float holds is what counts."""

import pytest
import torch

import maskdsl
from maskdsl.ir.meaning import evaluate

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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("relation", ["all -> all", "causal", "blocks(50)"])
def test_products_beyond_float32_are_empty_rows_too(relation, backend):
    """Finite queries and keys, of whose products the score's type holds none: only of the fifth query."""
    torch.manual_seed(0)
    attention = maskdsl.parse(f"pattern far(n) {{ space tokens[n] attend {relation} }}")["far"].bind(n=150, heads=1)
    q, k, v, toward = (torch.randn(1, 1, 150, 4) for _ in range(4))
    q[:, :, 5], k[..., 0] = torch.tensor([1e30, 0, 0, 0]), -1e30
    q[:, :, :5, 0] = q[:, :, 6:, 0] = 0
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out, lse = attention.compile(backend)(*leaves, return_lse=True)
    assert (lse == -torch.inf).nonzero().tolist() == [[0, 0, 5]]
    assert torch.equal(attention.compile(backend)(*(x.detach() for x in leaves)), out)
    attends = torch.tensor(attention.dense()).clone()
    attends[5] = False
    s = (q[..., 1:] @ k[..., 1:].mT / 2).masked_fill(~attends, -torch.inf)
    right = torch.softmax(s.masked_fill(~attends.any(-1, keepdim=True), 0), -1).masked_fill(~attends, 0) @ v
    torch.testing.assert_close(out, right, rtol=1e-4, atol=1e-5)
    toward[:, :, 5] = torch.nan
    found = torch.autograd.grad(out, leaves, toward)
    expected = torch.autograd.grad(right, leaves, toward.nan_to_num(0))
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one[..., 1:], other[..., 1:], rtol=1e-3, atol=1e-5)
    assert not found[0][:, :, 5].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weight", ["k.w", "sqrt(k.w)", "1.0 / max(0.0, 3.0 - k.w)"])
def test_infinite_weights_of_pairs_without_probability(weight, backend):
    """They are not there: neither in the output nor in gradients, whatever a weight's own derivative is."""
    head = "pattern w(n) { space tokens[n] input pad: float[tokens] input w: float[tokens] attend "
    mask = maskdsl.parse(f"{head} causal score s + k.pad weight {weight} }}")["w"].bind(n=40, heads=1)
    torch.manual_seed(0)
    q, k, v, toward = torch.randn(4, 1, 1, 40, 8, dtype=torch.float64).unbind()
    pad, w = torch.zeros(40, dtype=torch.float64), torch.rand(40, dtype=torch.float64) + 0.5
    pad[:3] = pad[7] = -torch.inf
    w[0], w[7], w[2] = torch.inf, torch.inf, 0
    for x in (q, k, v, pad, w):
        x.requires_grad_()
    there = torch.ones(40, 40).tril().bool() & (pad == 0)
    s = (q @ k.mT / 8**0.5).masked_fill(~there, -torch.inf)
    p = s[:, :, 3:].softmax(-1)
    known = torch.where(pad == 0, w, 1)
    weights = {"k.w": known, "sqrt(k.w)": known.sqrt()}.get(weight, 1 / (3 - known))
    expected = torch.cat([torch.zeros(1, 1, 3, 8), p * weights @ v], 2)
    found = mask.compile(backend)(q, k, v, pad=pad, w=w)
    torch.testing.assert_close(found, expected)
    named = {"pad": pad.detach().numpy(), "w": w.detach().numpy()}
    meant, _ = evaluate.attention(mask.ir, *(x.detach().numpy() for x in (q, k, v)), named)
    torch.testing.assert_close(torch.tensor(meant), expected.detach())
    own, right = (torch.autograd.grad(each, (q, k, v, w), toward) for each in (found, expected))
    torch.testing.assert_close(own, right)
