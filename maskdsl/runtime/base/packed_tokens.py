"""Where the tokens of packed sequences are: the sequence of each, and its position there."""

import torch
from torch import Tensor

from maskdsl.ir.mask import MaskIR


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
