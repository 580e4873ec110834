"""Where the tokens of a call stand in their sequences, for caches and padding. Imports torch only.

Libraries number the slots of a batch; patterns number the tokens of a sequence. What is padded is no token, and a cache
may have dropped the first ones. One integer tensor says how the two go together, so that it passes through models as
their own masks do: `places_of` makes it, `Places.of` reads it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STEP = 64
"""Room for keys grows in such steps, so that the next token seldom asks for another mask."""


class Places(NamedTuple):
    """What `maskdsl.Attention` takes for queries that stand anywhere, [batch, ...] int64."""

    slots: Tensor
    """[batch, tokens]: which of the keys given each token of a sequence is, -1 where it is not there."""
    order: Tensor
    """[batch, queries]: the queries that are tokens, in order, and then the others."""
    start: Tensor
    """[batch]: the token that the first of these is."""

    @staticmethod
    def of(tensor: Tensor, queries: int) -> Places:
        rows = tensor[:, 0]
        return Places(rows[:, 0], rows[:, 1, :queries], rows[:, 2, 0])

    def pages(self, keys: int) -> Tensor:
        """The page table, of pages of one key, for what `as_pages` gives."""
        first = keys * torch.arange(len(self.slots), device=self.slots.device)[:, None]
        return torch.where(self.slots < 0, -1, self.slots + first)


def places_of(
    batch: int,
    queries: int,
    keys: int,
    query_offset: int | Tensor,
    key_offset: int,
    present: Tensor | None,
    device: torch.device | str,
) -> Tensor:
    """int64 [batch, 1, 3, tokens], for queries that begin at one slot and keys that begin at another.

    `present`, bool [batch, slots], says which of the slots up to now are tokens; without it, all are.
    """
    slots = key_offset + keys
    room = -(-slots // STEP) * STEP
    index = torch.arange(room, device=device)
    there = (index < query_offset + queries).expand(batch, -1)
    if present is not None:
        there = there & torch.nn.functional.pad(present[:, :room], (0, max(0, room - present.shape[1])))
    token = there.cumsum(-1) - 1
    given = there & (index >= key_offset)
    table = index.new_full((batch, room + 1), -1)
    table.scatter_(1, torch.where(given, token, room), (index - key_offset).expand(batch, -1))
    own = there[:, query_offset + index[:queries]]
    order = torch.argsort(own.logical_not().int(), dim=-1, stable=True)
    start = (there & (index < query_offset)).sum(-1)
    rows = [table[:, :room], torch.nn.functional.pad(order, (0, room - queries)), start[:, None].expand(-1, room)]
    return torch.stack(rows, dim=1)[:, None]


def is_places(tensor: Tensor) -> bool:
    """Whether a mask is what `places_of` makes."""
    return tensor.dim() == 4 and tensor.dtype == torch.int64 and tensor.shape[1:3] == (1, 3)


def as_pages(x: Tensor) -> Tensor:
    """Keys or values [batch, heads, keys, dim] as pages of one: [batch * keys, heads, 1, dim]."""
    return x.transpose(1, 2).flatten(0, 1).unsqueeze(2)
