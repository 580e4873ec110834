"""Permutes tokens between declared and laid-out order."""

from typing import NamedTuple

import torch
from torch import Tensor


class Move(NamedTuple):
    """A permutation of tokens and its inverse, int64 [batch or 1, heads or 1, tokens]."""

    positions: Tensor
    """Position n of the result is token `positions[..., n]` of the source."""
    back: Tensor

    @property
    def reverse(self) -> "Move":
        """The inverse permutation."""
        return Move(self.back, self.positions)


Layout = tuple[Tensor | None, Tensor | None]
"""Declared positions of queries and keys in laid-out order, [batch or 1, heads or 1, tokens]; None: as declared."""


def moves(layout: Layout) -> tuple[Move | None, Move | None]:
    """The permutations of queries and keys from declared to laid-out order; one object where both are the same."""
    queries, keys = layout
    move = None if queries is None else Move(queries, queries.argsort(dim=-1))
    if keys is queries:
        return move, move
    return move, None if keys is None else Move(keys, keys.argsort(dim=-1))


def moved(x: Tensor, move: Move | None) -> Tensor:
    """Permutes the tokens of x [batch, heads, tokens, dim]; None leaves x as it is."""
    if move is None:
        return x
    batch, heads, length, dim = x.shape
    positions = move.positions
    if positions.shape[0] == positions.shape[1] == 1:
        return x.index_select(2, positions.view(-1))
    rows = torch.arange(batch * heads, device=x.device).view(batch, heads, 1) * length + positions
    return x.reshape(-1, dim).index_select(0, rows.view(-1)).view(batch, heads, -1, dim)
