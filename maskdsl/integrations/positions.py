"""What layers are told of the tokens of a call, in the place of a mask. Imports torch only.

Libraries number the slots of a batch; patterns number the tokens of a sequence. What is padded is no token, a cache may
have dropped the first ones, and several texts may follow each other. One integer tensor says how the two go together,
so that it passes through models as their own masks do: `carry` makes it, `carried` reads it.

Nothing else can take it for a mask: its shape goes with no scores [batch, heads, queries, keys], so that an attention
that does not ask for patterns fails in place of attending everything.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

_STEP = 64
"""Room for keys grows in such steps, so that the next token seldom asks for another mask."""
_HEADER = 4
"""Rows in front of those of a model's own mask; one more where that is the number of queries."""


class Positions(NamedTuple):
    """What `maskdsl.Attention` takes for queries that stand anywhere, [batch, ...] int64."""

    slots: Tensor
    """[batch, tokens]: which of the keys given each token of a sequence is, -1 where it is not there."""
    order: Tensor
    """[batch, queries]: the queries that are tokens, in order, and then the others."""
    start: Tensor
    """[batch]: the token that the first of these is."""

    def pages(self, keys: int) -> Tensor:
        """The page table, of pages of one key, for what `as_pages` gives."""
        first = keys * torch.arange(len(self.slots), device=self.slots.device)[:, None]
        return torch.where(self.slots < 0, -1, self.slots + first)


class Carried(NamedTuple):
    """What one layer is told. Without places and texts, all tokens are given, and each sequence is one text."""

    positions: Positions | None = None
    texts: Tensor | None = None
    """bool [batch, tokens]: which tokens are the first ones of their text."""
    own: Tensor | None = None
    """bool [batch, 1, queries, keys]: the model's own mask, for layers that are left to it."""
    asked: bool = True
    """Whether the model's own mask was made at all, and is none where `own` is None."""


def positions_of(
    batch: int,
    queries: int,
    keys: int,
    query_offset: int | Tensor,
    key_offset: int,
    present: Tensor | None,
    device: torch.device | str,
    causal: bool = True,
) -> Positions:
    """For queries that begin at one slot and keys that begin at another.

    `present`, bool [batch, slots], says which of the slots are tokens; without it, all are, but for those behind the
    last query if the model is `causal`.
    """
    slots = key_offset + keys
    room = -(-max(slots, queries) // _STEP) * _STEP
    index = torch.arange(room, device=device)
    there = (index < (query_offset + queries if causal else slots)).expand(batch, -1)
    if present is not None:
        there = there & pad(present[:, :room], (0, max(0, room - present.shape[1])))
    token = there.cumsum(-1) - 1
    given = there & (index >= key_offset) & (index < slots)
    table = index.new_full((batch, room + 1), -1)
    table.scatter_(1, torch.where(given, token, room), (index - key_offset).expand(batch, -1))
    own = there[:, query_offset + index[:queries]]
    order = torch.argsort(own.logical_not().int(), dim=-1, stable=True)
    return Positions(table[:, :room], order, (there & (index < query_offset)).sum(-1))


def carry(queries: int, told: Carried, device: torch.device | str) -> Tensor:
    """int64 [batch, 1, rows, columns], int32 of texts, and without rows and columns where there is nothing to tell: of
    these int64 where the model's own mask was not asked for."""
    rows: list[Tensor]
    match told:
        case Carried(positions=Positions(slots, order, start)):
            room = slots.shape[1]
            rows = [slots, pad(order, (0, room - queries)), start[:, None].expand(-1, room)]
        case Carried(texts=Tensor() as texts):
            rows = [texts]
        case _:
            kind = torch.int32 if told.asked else torch.int64
            return torch.empty(1, 1, 0, 0, dtype=kind, device=device)
    head = torch.stack(rows, dim=1)[:, None]
    head = pad(head, (0, 0, 0, _HEADER + (queries == _HEADER) - head.shape[2]))
    if told.own is not None:
        own = pad(told.own.expand(len(head), -1, -1, -1), (0, head.shape[3] - told.own.shape[3]))
        head = torch.cat([head, own.to(head.dtype)], dim=2)
    return head.to(torch.int32 if told.positions is None else torch.int64)


def carried(tensor: Tensor | None, queries: int, keys: int) -> Carried | None:
    """What `carry` was told; None if it has not made this tensor, a mask. Without a tensor there is nothing to tell."""
    if tensor is None:
        return Carried()
    if tensor.dim() != 4 or tensor.dtype not in (torch.int32, torch.int64):
        return None
    if not tensor.shape[2]:
        return Carried(asked=tensor.dtype == torch.int32)
    rows = tensor[:, 0]
    first = _HEADER + (queries == _HEADER)
    own = rows[:, None, first:, :keys] != 0 if rows.shape[1] > first else None
    if tensor.dtype == torch.int32:
        return Carried(None, rows[:, 0, :queries] != 0, own, own is not None)
    return Carried(Positions(rows[:, 0], rows[:, 1, :queries], rows[:, 2, 0]), None, own, own is not None)


def as_pages(x: Tensor) -> Tensor:
    """Keys or values [batch, heads, keys, dim] as pages of one: [batch * keys, heads, 1, dim]."""
    return x.transpose(1, 2).flatten(0, 1).unsqueeze(2)
