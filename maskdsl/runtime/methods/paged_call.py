"""`PagedCall`: the tensors of a call of packed queries over pages."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.runtime.decode.paging import CallPositions
from maskdsl.runtime.methods.attention_facts import AttentionModule


class PagedCall(NamedTuple):
    """A call of packed queries over pages. Tensors of positions are integers."""

    attention: AttentionModule
    q: Tensor
    """[all queries, heads, dim]."""
    k: Tensor
    """Pages, in the layout of the attention; v as well."""
    v: Tensor
    ends: Tensor
    """Where the queries of each sequence begin, [sequences + 1]."""
    starts: Tensor | None
    """The position of its first query, [sequences]; None for the last tokens of a sequence."""
    key_lengths: Tensor
    """The number of its keys, [sequences]."""
    page_table: Tensor
    """The page of each stretch of keys, [sequences, pages]."""
    inputs: Mapping[str, Any]
    """By name: tensors, or the lists of sparse inputs."""
    wants_lse: bool
    key_scale: float | Tensor | None
    value_scale: float | Tensor | None

    @property
    def follows_each(self) -> bool:
        """Whether the pattern follows the numbers of queries and of keys, as in trees of drafts behind a context.

        Then spaces begin elsewhere in each sequence, so that one longer pattern cannot stand for all.
        """
        return self.attention._signature.follows == 2

    @property
    def positions(self) -> CallPositions:
        """Where the tokens of each sequence are."""
        starts = torch.zeros_like(self.key_lengths) if self.starts is None else self.starts
        return CallPositions(starts, self.key_lengths, self.page_table, None)

    def heads_first(self) -> tuple[Tensor, Tensor, Tensor]:
        """One query of each sequence, in no memory, and pages, with heads before tokens."""
        entries = self.q.new_empty(()).expand(len(self.ends) - 1, self.q.shape[1], 1, self.q.shape[2])
        k, v = ((x if self.attention.layout == "bhnd" else x.transpose(1, 2)) for x in (self.k, self.v))
        return entries, k, v
