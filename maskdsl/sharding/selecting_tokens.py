"""The tokens by which routes select on one rank, as one process selects."""

from collections.abc import Callable

import torch
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.distributed.gathered_tokens import GatheredTokens

_Gather = Callable[[Tensor, bool], Tensor]
"""Maps a rank's queries, or keys, to those of all ranks in declared order: [batch, heads, tokens, dim]."""


class SelectingTokens:
    """The queries and keys by which the routes of a call select. All ranks make it alike.

    Where a query selects by itself, the queries of others are zeros, whose selections nobody reads.
    """

    def __init__(
        self, gathered: GatheredTokens, q: Tensor, k: Tensor, gather: _Gather, at: Array, lengths: tuple[int, int]
    ) -> None:
        """q and k are the rank's [batch, heads, tokens, dim]; `at` are the declared positions of the queries."""
        queries, keys = lengths
        with torch.no_grad():
            self.q = gather(q, False) if gathered.queries else _among_zeros(q, at, queries)
            self.k = gather(k, True) if gathered.keys else k.new_zeros(()).expand(*k.shape[:2], keys, k.shape[3])


def _among_zeros(x: Tensor, at: Array, length: int) -> Tensor:
    whole = x.new_zeros(*x.shape[:2], length, x.shape[3])
    return whole.index_copy_(2, torch.tensor(at, device=x.device), x)
