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
    """The tokens of x [batch, heads, tokens, dim] permuted, contiguous; None leaves x as it is."""
    if move is None:
        return x
    batch, heads, length, dim = x.shape
    tokens_first = not x.is_contiguous() and x.transpose(1, 2).is_contiguous()
    vectors, (per_head, per_token) = (x.transpose(1, 2), (1, heads)) if tokens_first else (x, (length, 1))
    first = torch.arange(batch, device=x.device).view(-1, 1, 1) * (heads * length)
    first = first + torch.arange(heads, device=x.device).view(-1, 1) * per_head
    # Vectors one by one: `index_select` along the third dimension takes twice as long on a CPU.
    rows = first + move.positions * per_token
    return vectors.flatten(0, 2).index_select(0, rows.view(-1)).view(*rows.shape, dim)
