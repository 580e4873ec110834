"""The tensor that stands in for a model's mask and tells layers which tokens a call has. Imports torch only.

Libraries number the slots of a batch; patterns number the tokens of a sequence. Padding is no token, a cache may have
dropped its first tokens, and several texts may follow each other. One integer tensor maps slots to tokens, and passes
through a model in place of its mask: `pack_mask` makes it, `unpack_mask` reads it.

Its shape does not broadcast to scores [batch, heads, queries, keys], so an attention that takes it for a mask fails
instead of attending everything.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

_STEP = 64
"""Lengths are rounded up to multiples of this many tokens, so that decoding seldom needs a new mask."""
_HEADER = 4
"""Rows before those of the model's mask; one more where that is the number of queries, so that it never broadcasts."""


class Positions(NamedTuple):
    """The tokens of a partial call, int64."""

    slots: Tensor
    """[batch, tokens]: the key slot of each token of a sequence, -1 for absent tokens."""
    order: Tensor
    """[batch, queries]: the query slots that are tokens, in order, then the others."""
    start: Tensor
    """[batch]: the position of the first query."""
    dropped: Tensor
    """[batch]: the number of slots before the first one of the keys, which a cache has dropped."""

    def pages(self, keys: int) -> Tensor:
        """The page table [batch, tokens] into pages of one key, made by `as_pages` from `keys` slots per entry."""
        first = keys * torch.arange(len(self.slots), device=self.slots.device)[:, None]
        return torch.where(self.slots < 0, -1, self.slots + first)

    def of_batch(self) -> Tensor:
        """[batch, tokens]: the slot of each token among all slots of the batch, dropped ones included; 0 for absent."""
        return torch.where(self.slots < 0, 0, self.slots + self.dropped[:, None])


class MaskContent(NamedTuple):
    """What the mask tensor of one layer holds. Without positions and texts, all slots are tokens of one text."""

    positions: Positions | None = None
    texts: Tensor | None = None
    """bool [batch, tokens]: the first token of each text."""
    model_mask: Tensor | None = None
    """bool [batch, 1, queries, keys]: the model's mask, for layers that are left to it; None if it has none."""
    has_model_mask: bool = True
    """Whether the model's mask was computed, so that None in `model_mask` means that the model has none."""


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
    """The positions of `queries` slots from `query_offset` on, and of `keys` slots from `key_offset` on.

    `present`, bool [batch, slots], marks slots that are tokens, not padding; by default all are. In a `causal` model
    slots after the last query are no tokens.
    """
    slots = key_offset + keys
    room = -(-max(slots, queries) // _STEP) * _STEP
    index = torch.arange(room, device=device)
    exists = (index < (query_offset + queries if causal else slots)).expand(batch, -1)
    if present is not None:
        exists = exists & pad(present[:, :room], (0, max(0, room - present.shape[1])))
    token = exists.cumsum(-1) - 1
    given = exists & (index >= key_offset) & (index < slots)
    table = index.new_full((batch, room + 1), -1)
    table.scatter_(1, torch.where(given, token, room), (index - key_offset).expand(batch, -1))
    is_query = exists[:, query_offset + index[:queries]]
    order = torch.argsort(is_query.logical_not().int(), dim=-1, stable=True)
    start = (exists & (index < query_offset)).sum(-1)
    return Positions(table[:, :room], order, start, torch.full_like(start, key_offset))


def pack_mask(queries: int, content: MaskContent, device: torch.device | str) -> Tensor:
    """Packs the content into an integer tensor [batch, 1, rows, columns], or [1, 1, 0, 0] if there is nothing to hold.

    The dtype is part of the content: int64 with positions, int32 with texts; of empty tensors int32 if the model's mask
    was computed.
    """
    rows: list[Tensor]
    match content:
        case MaskContent(positions=Positions(slots, order, start, dropped)):
            room = slots.shape[1]
            numbers = (each[:, None].expand(-1, room) for each in (start, dropped))
            rows = [slots, pad(order, (0, room - queries)), *numbers]
        case MaskContent(texts=Tensor() as texts):
            rows = [texts]
        case _:
            kind = torch.int32 if content.has_model_mask else torch.int64
            return torch.empty(1, 1, 0, 0, dtype=kind, device=device)
    head = torch.stack(rows, dim=1)[:, None]
    head = pad(head, (0, 0, 0, _HEADER + (queries == _HEADER) - head.shape[2]))
    if content.model_mask is not None:
        model_mask = content.model_mask.expand(len(head), -1, -1, -1)
        model_mask = pad(model_mask, (0, head.shape[3] - model_mask.shape[3]))
        head = torch.cat([head, model_mask.to(head.dtype)], dim=2)
    return head.to(torch.int32 if content.positions is None else torch.int64)


def unpack_mask(tensor: Tensor | None, queries: int, keys: int) -> MaskContent | None:
    """The content of a tensor made by `pack_mask`; None for any other mask. No tensor means no content."""
    if tensor is None:
        return MaskContent()
    if tensor.dim() != 4 or tensor.dtype not in (torch.int32, torch.int64):
        return None
    if not tensor.shape[2]:
        return MaskContent(has_model_mask=tensor.dtype == torch.int32)
    rows = tensor[:, 0]
    first = _HEADER + (queries == _HEADER)
    model_mask = rows[:, None, first:, :keys] != 0 if rows.shape[1] > first else None
    if tensor.dtype == torch.int32:
        return MaskContent(None, rows[:, 0, :queries] != 0, model_mask, model_mask is not None)
    positions = Positions(rows[:, 0], rows[:, 1, :queries], rows[:, 2, 0], rows[:, 3, 0])
    return MaskContent(positions, None, model_mask, model_mask is not None)


def as_pages(x: Tensor) -> Tensor:
    """Keys or values [batch, heads, keys, dim] as pages of one key: [batch * keys, heads, 1, dim]."""
    return x.transpose(1, 2).flatten(0, 1).unsqueeze(2)
