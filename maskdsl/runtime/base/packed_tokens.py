"""Where the tokens of packed sequences are: the sequence of each, and its position there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskdsl.ir.mask import MaskIR


def packed_queries(mask: MaskIR, positions: Sequence[Tensor | None], count: int) -> tuple[Tensor, Tensor]:
    """The sequence of each of `count` packed queries, and its position there: integers [queries], both clamped.

    `positions` are `cu_seqlens_q`, `cu_seqlens_k` and `query_start`.
    """
    cu_seqlens_q, cu_seqlens_k, query_start = positions
    assert cu_seqlens_q is not None and cu_seqlens_k is not None
    starts = first_queries(mask, cu_seqlens_q, cu_seqlens_k, query_start)
    entry, position, _ = packed_tokens(cu_seqlens_q.long(), starts, count, mask.queries.length)
    return entry, position


def first_queries(mask: MaskIR, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, query_start: Tensor | None) -> Tensor:
    """The position of each sequence's first query: in self-attention queries are the last tokens of their sequence."""
    if query_start is not None:
        return query_start
    offsets = torch.diff(cu_seqlens_k) - torch.diff(cu_seqlens_q)
    return offsets if mask.is_layer else torch.zeros_like(offsets)


def packed_tokens(ends: Tensor, starts: Tensor | None, count: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The sequence of every token, its position there (both clamped), and whether these exist: [all tokens]."""
    index = torch.arange(count, device=ends.device)
    entry = torch.searchsorted(ends[1:].contiguous(), index, right=True)
    in_sequence = entry < len(ends) - 1
    entry = entry.clamp(max=len(ends) - 2)
    position = index - ends[entry] + (0 if starts is None else starts.long()[entry])
    return entry, position.clamp(0, length - 1), in_sequence & (position >= 0) & (position < length)
