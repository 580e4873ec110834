"""Tokens from one order to another. Read by `runtime/kernels/dispatch.py`."""

from typing import NamedTuple

import torch
from torch import Tensor


class Move(NamedTuple):
    """Which token comes to each place, [batch or 1, heads or 1, tokens], and the same the other way."""

    positions: Tensor
    back: Tensor

    @property
    def reverse(self) -> "Move":
        return Move(self.back, self.positions)


Layout = tuple[Tensor | None, Tensor | None]
"""Declared positions of queries and keys in laid-out order, [batch or 1, heads or 1, tokens]; None: as declared."""


def moves(layout: Layout) -> tuple[Move | None, Move | None]:
    """How queries and keys come to laid-out order."""
    queries, keys = layout
    move = None if queries is None else Move(queries, queries.argsort(dim=-1))
    if keys is queries:
        return move, move
    return move, None if keys is None else Move(keys, keys.argsort(dim=-1))


def moved(x: Tensor, move: Move | None) -> Tensor:
    """The tokens of [batch, heads, tokens, dim] after a move."""
    if move is None:
        return x
    batch, heads, length, dim = x.shape
    positions = move.positions
    if positions.shape[0] == positions.shape[1] == 1:
        return x.index_select(2, positions.view(-1))
    rows = torch.arange(batch * heads, device=x.device).view(batch, heads, 1) * length + positions
    return x.reshape(-1, dim).index_select(0, rows.view(-1)).view(batch, heads, -1, dim)
