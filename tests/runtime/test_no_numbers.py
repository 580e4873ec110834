"""In `tiled`, what is not a number reaches the gradients of what its query attends, and nothing else."""

import pytest
import torch

import maskdsl

N, HURT, HIDDEN = 40, 23, 25
"""Tokens, the one where something is no number, and one that is hidden by a score of minus infinity."""
HEAD = "pattern local(n) { space tokens[n] input pad: float[tokens] attend window(9)"
CHANGES = {"plain": "", "score": "score s + k.pad", "weight": "score s + k.pad weight exp(k.pad)"}
PLACES = ("q", "k", "v", "pad", "toward", "toward_lse")
NEAR = (torch.arange(N)[:, None] - torch.arange(N)).abs() <= 4


def right(change, tensors, hurt):
    """Gradients without the queries that are hurt, of a softmax in float64."""
    q, k, v, pad, toward, toward_lse = tensors
    s = (q @ k.mT * 8**-0.5 + (pad if change != "plain" else 0)).masked_fill(~NEAR, -torch.inf)
    out = s.softmax(-1) * (pad.exp() if change == "weight" else 1) @ v
    loss = (out * toward)[:, :, ~hurt].sum() + (s.logsumexp(-1) * toward_lse)[..., ~hurt].sum()
    return torch.autograd.grad(loss, (q, k, v, pad), materialize_grads=True)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("position", PLACES)
def test_gradients_of_those_who_are_not_attended(position: str, change: str) -> None:
    torch.manual_seed(0)
    mask = maskdsl.parse(f"{HEAD} {CHANGES[change]} }}")["local"].bind(n=N, heads=1)
    shapes = ((1, 1, N, 8),) * 3 + ((N,), (1, 1, N, 8), (1, 1, N))
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    tensors[3][HIDDEN] = -torch.inf
    attends = NEAR if change == "plain" else NEAR & (torch.arange(N) != HIDDEN)
    hurt = attends[:, HURT] if position in ("k", "v", "pad") else torch.arange(N) == HURT
    if (position, change) == ("pad", "plain"):
        hurt = torch.zeros(N, dtype=torch.bool)
    reached = (NEAR if position == "q" else attends)[hurt].any(dim=0)  # NaN less infinity is NaN
    expected = right(change, [x.clone().requires_grad_() for x in tensors], hurt)

    broken = tensors[PLACES.index(position)]
    broken[(..., HURT, 0) if broken.dim() == 4 else (..., HURT)] = torch.nan
    leaves = [x.requires_grad_() for x in tensors[:4]]
    out, lse = mask.compile("tiled")(*leaves[:3], pad=leaves[3], return_lse=True)
    # As from most losses, NaN comes back for what is NaN.
    directions = tensors[4] + 0 * out.detach(), tensors[5] + 0 * lse.detach()
    found = torch.autograd.grad((out, lse), leaves, directions, materialize_grads=True)
    for name, gradient, other, never in zip("qkvp", found, expected, (hurt, reached, reached, reached), strict=True):
        axis = gradient.dim() - (2 if gradient.dim() == 4 else 1)
        kept = (~never).nonzero().flatten()
        torch.testing.assert_close(gradient.index_select(axis, kept), other.index_select(axis, kept))
        if name != "p" and (name, position) != ("v", "toward_lse"):
            assert not gradient.index_select(axis, never.nonzero().flatten()).isfinite().any(), name
