"""The queries of a partial call, in the groups that they are in: these are numbered anew, in their order."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.ir.values.group_scores import Grouping
from maskdsl.runtime.kernels.grouped_tokens import Values, at
from maskdsl.runtime.kernels.present_tokens import Among, CallGroups, PresentTokens, Vectors


class Queries(NamedTuple):
    """The queries of each batch entry in a partial call; all fields are integers [batch]."""

    starts: Tensor
    """The position of the first query."""
    counts: Tensor
    """The number of queries in the call; later rows of q are padding."""
    totals: Tensor
    """The number of queries that exist, in the call or not."""


@dataclass(frozen=True, eq=False)
class QueryGroups(CallGroups):
    """Groups of queries of a call."""

    whole: Any
    """The groups of all queries; None for groups of one query each."""
    originals: Tensor
    """The number of each group among those of all queries, [batch, heads or 1, groups]."""
    renumbered: Tensor
    """The number of each group of all queries, and `count` for those that are not here, [.., all groups + 1]."""
    rows: Tensor
    """The first query of each group, as a row of q, [batch or 1, heads or 1, groups]."""

    def here(self, numbers: Tensor) -> Tensor:
        """Which of these groups of all queries, [batch or 1, heads or 1, n], have queries in the call."""
        batch, heads = (max(sizes) for sizes in zip(numbers.shape[:2], self.renumbered.shape[:2], strict=True))
        return self.renumbered.expand(batch, heads, -1).gather(2, numbers.expand(batch, heads, -1)) < self.count


@dataclass(frozen=True, eq=False)
class CallQueries(PresentTokens):
    """The queries of a partial call."""

    q: Tensor
    """[batch, heads, queries, dim]."""
    positions: Tensor
    """Of the queries, int64 [batch, queries]."""
    real: Tensor
    """Bool [batch, queries]: the rows of q that are queries, not padding."""
    absent: Tensor
    """Bool [batch, all queries]: queries that exist and are not in this call."""
    require: Callable[[Tensor], None]
    """Raises `AbsentQueries` unless its argument is true everywhere."""

    @property
    def heads(self) -> int:
        return self.q.shape[1]

    @property
    def x(self) -> Tensor:
        return self.q

    @cached_property
    def values(self) -> Values:
        return {name: at(each, self.positions) for name, each in self.whole.coordinates.items()}

    @cached_property
    def rows(self) -> Tensor:
        """The rows of q, [1, 1, queries]."""
        return torch.arange(self.q.shape[2], device=self.device).expand(1, 1, -1)

    def each(self) -> QueryGroups:
        count, length = self.q.shape[2], self.absent.shape[1]
        numbers = self.rows.masked_fill(~self.real[:, None], count)
        renumbered = numbers.new_full((len(self.q), 1, length + 1), count)
        positions = self.positions.masked_fill(~self.real, length)[:, None]
        renumbered.scatter_(2, positions, numbers)[..., length] = count
        exists = self.real[:, None]
        return QueryGroups(self.module, count, 1, numbers, exists, None, self.positions[:, None], renumbered, self.rows)

    def by(self, grouping: Grouping) -> QueryGroups:
        whole = self.whole.groups(grouping)
        present = at(whole.numbers, self.positions).masked_fill(~self.real[:, None], whole.count)
        every = self.module.with_overlaps(present, whole.count, whole.span)
        are_here = torch.zeros(*present.shape[:2], whole.count + 1, dtype=torch.bool, device=self.device)
        are_here.scatter_(2, every, every < whole.count)
        count = min(whole.count, every.shape[2])
        renumbered = (are_here.cumsum(dim=2) - 1).masked_fill(~are_here, count)
        originals = torch.full((*present.shape[:2], count + 1), whole.count, device=self.device)
        originals.scatter_(2, renumbered, torch.arange(whole.count + 1, device=self.device).expand_as(renumbered))
        originals = originals[..., :count]
        numbers = renumbered.gather(2, every)
        rows = torch.full((*present.shape[:2], count + 1), self.q.shape[2] - 1, device=self.device)
        rows.scatter_reduce_(2, numbers, self.rows.repeat(1, 1, whole.span).expand_as(numbers), "amin")
        present = numbers[..., : present.shape[2]]
        exists = originals < whole.count
        return QueryGroups(
            self.module, count, whole.span, present, exists, whole, originals, renumbered, rows[..., :count]
        )

    def first(self, groups: Any) -> dict[str, Tensor]:
        """Those of the first token of the whole group; `i` is the position of its first query in the call.

        By that, groups read the rows of tables that were selected before.
        """
        if not isinstance(groups, QueryGroups):
            return self.whole.coordinates
        if groups.whole is None:
            return {**self.values, "i": self.positions[:, None]}
        firsts = at(groups.whole.positions, groups.originals.clamp(max=groups.whole.count - 1))
        values = {name: at(each, firsts) for name, each in self.whole.coordinates.items()}
        return {**values, "i": at(self.positions[:, None], groups.rows)}

    def coarser(self, groups: QueryGroups, coarse: Any) -> Tensor | None:
        """By the first query in the call."""
        if not isinstance(coarse, QueryGroups):
            return None
        return at(coarse.numbers, groups.rows.expand(len(self.q), -1, -1)).clamp(max=coarse.count - 1)

    def pooled(
        self, vectors: Vectors, groups: Any, kind: str, among: Among | None = None, heads: list[int] | None = None
    ) -> Tensor:
        """Vectors of queries, pooled by group. Raises `AbsentQueries` where a query of a group is not in the call."""
        if groups.whole is not None:
            absent = self.absent[:, None]
            if among is not None:
                absent = absent & among(**{**self.inputs, **self.whole.coordinates})
            every = groups.whole.all_numbers(self.absent.shape[1], self.device)
            self.require(~(absent.repeat(1, 1, groups.span) & groups.here(every)))
        return self.pool_now(vectors, groups, kind, among, heads)

    def sharing(self, source: Any, target: Any, *kept: Any) -> Tensor | None:
        """Raises `AbsentQueries` where a group of the call shares tokens with one that is not in the call."""
        absent = self.absent[:, None]
        wanted = self._are_here(target, False).any(dim=0)
        missing = ~self._are_here(source, True).all(dim=0)
        self.require(~(absent & wanted & missing))
        members: Tensor | None = self.module.sharing(source, target, self.q.shape[2], self.device)
        return members

    def _are_here(self, groups: Any, of_none: bool) -> Tensor:
        """Which groups of each token are in the call, [overlaps, batch or 1, heads or 1, all queries].

        For tokens without a group the answer is `of_none`.
        """
        length = self.absent.shape[1]
        if not isinstance(groups, QueryGroups):
            return torch.ones(1, 1, 1, length, dtype=torch.bool, device=self.device)
        if groups.whole is None:
            return groups.here(torch.arange(length, device=self.device).expand(1, 1, -1))[None]
        numbers = groups.whole.all_numbers(length, self.device)
        here = groups.here(numbers).masked_fill(numbers == groups.whole.count, of_none)
        return torch.stack(here.chunk(groups.span, dim=2))

    def spread(self, table: Tensor, groups: Any) -> Tensor:
        """A table [batch, heads, groups, ..] with a row for each query of the call."""
        if not isinstance(groups, QueryGroups) or groups.whole is None:
            return table
        index = groups.numbers.clamp(max=groups.count - 1)
        heads = max(table.shape[1], index.shape[1])
        index = index.expand(len(self.q), heads, -1)[..., None].expand(-1, -1, -1, table.shape[3])
        return table.expand(-1, heads, -1, -1).gather(2, index)
