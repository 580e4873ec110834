"""Tokens from one order to another, and back again for their gradients. Read by `runtime/attention.py`."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Move(NamedTuple):
    """Which token comes to each place, [batch or 1, heads or 1, tokens], and the same the other way."""

    places: Tensor
    back: Tensor

    @property
    def reverse(self) -> "Move":
        return Move(self.back, self.places)


def moved(x: Tensor, move: Move | None) -> Tensor:
    """The tokens of [batch, heads, tokens, dim] after a move."""
    if move is None:
        return x
    result: Tensor = Permutation.apply(x, *move)  # type: ignore[no-untyped-call]
    return result


class Permutation(torch.autograd.Function):
    """Torch would add up the gradients as if tokens could be taken twice, which takes several times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(places, back)
        return taken(x, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return moved(gradients[0], Move(*ctx.saved_tensors).reverse), None, None


def taken(x: Tensor, places: Tensor) -> Tensor:
    batch, heads, length, dim = x.shape
    if places.shape[0] == places.shape[1] == 1:
        return x.index_select(2, places.view(-1))
    rows = torch.arange(batch * heads, device=x.device).view(batch, heads, 1) * length + places
    return x.reshape(-1, dim).index_select(0, rows.view(-1)).view(batch, heads, -1, dim)
