"""The keys of a partial call that are present, in the groups of all keys: by summaries where keys are pooled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from maskdsl.ir.values.group_scores import Grouping
from maskdsl.runtime.kernels.grouped_tokens import Values
from maskdsl.runtime.kernels.key_summaries import Summaries
from maskdsl.runtime.kernels.present_tokens import Among, CallGroups, PresentTokens, Vectors


@dataclass(frozen=True, eq=False)
class KeyGroups(CallGroups):
    """Groups of present keys."""

    whole: Any
    """The groups of all keys; None for groups of one key each."""


@dataclass(frozen=True, eq=False)
class PresentKeys(PresentTokens):
    """The keys of a partial call. Absent ones have coordinates, but no groups."""

    summaries: Summaries
    count: int
    """The number of keys that there is room for."""
    all_keys: Callable[[], Tensor]
    """Returns these keys, [batch, key heads, keys, dim], zeros where absent."""

    @property
    def heads(self) -> int:
        return self.summaries.key_heads

    @cached_property
    def x(self) -> Tensor:
        return self.all_keys().detach().to(self.dtype)

    @cached_property
    def values(self) -> Values:
        return {name: each[..., : self.count] for name, each in self.whole.coordinates.items()}

    @property
    def present(self) -> Tensor:
        """Bool [batch, 1, keys]."""
        return self.summaries.present[:, None, : self.count]

    def each(self) -> KeyGroups:
        numbers = torch.arange(self.count, device=self.device).masked_fill(~self.present, self.count)
        return KeyGroups(self.module, self.count, 1, numbers, self.present, None)

    def by(self, grouping: Grouping) -> KeyGroups:
        whole = self.whole.groups(grouping)
        numbers = whole.numbers[..., : self.count].masked_fill(~self.present, whole.count)
        exists = self._members(grouping, numbers) > 0
        return KeyGroups(
            self.module, whole.count, whole.span, numbers, _with_next(exists, whole.span, Tensor.logical_or), whole
        )

    def _members(self, grouping: Grouping, numbers: Tensor) -> Tensor:
        """The number of keys in each group, without overlaps."""
        if grouping.by != "i":
            return self.summaries.members(self.side.route.name, grouping)
        flags = numbers.new_zeros(*numbers.shape[:2], grouping.count + 1)
        return flags.scatter_(2, numbers, 1)[..., :-1]

    def first(self, groups: Any) -> dict[str, Tensor]:
        if not isinstance(groups, KeyGroups):
            return self.whole.coordinates
        if groups.whole is None:
            return dict(self.values)
        return {name: groups.whole.first(each) for name, each in self.whole.coordinates.items()}

    def coarser(self, groups: Any, coarse: Any) -> Tensor | None:
        if not isinstance(coarse, KeyGroups):
            return None
        numbers = coarse.whole.numbers
        firsts: Tensor = numbers[..., : self.count] if groups.whole is None else groups.whole.first(numbers)
        return firsts.clamp(max=coarse.count - 1)

    def pooled(
        self, vectors: Vectors, groups: Any, kind: str, among: Among | None = None, heads: list[int] | None = None
    ) -> Tensor:
        """Vectors of keys, pooled by group, from their summaries where there are some."""
        number = self.side.numbers.get(vectors)
        if number is None:
            return self.pool_now(vectors, groups, kind, among, heads)
        add = {"max": torch.maximum, "min": torch.minimum}.get(kind, torch.add)
        sums, sizes = self.summaries.pool(self.side.route.name, number)
        sums, sizes = _with_next(sums, groups.span, add), _with_next(sizes, groups.span, torch.add)
        result: Tensor = self.module.finished(sums, sizes, kind, heads)
        return result

    def sharing(self, source: Any, target: Any, *kept: Any) -> Tensor | None:
        members: Tensor | None = self.module.sharing(source, target, self.count, self.device)
        return members


def _with_next(x: Tensor, span: int, add: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """x [batch, heads, groups, ..], each group put together with the next ones, `span` in all."""
    result = x
    for behind in range(1, min(span, x.shape[2])):
        together = add(result[:, :, :-behind], x[:, :, behind:])
        result = torch.cat([together, result[:, :, -behind:]], dim=2)
    return result
