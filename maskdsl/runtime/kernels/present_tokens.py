"""The tokens of a partial call: what `Tokens` of the generated module are in calls with all of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from maskdsl.ir.values.group_scores import Grouping
from maskdsl.runtime.kernels.grouped_tokens import Grouped, GroupedTokens, Values

Vectors = Callable[[Any], Tensor]
Among = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class CallGroups:
    """The groups of the tokens of a call; `numbers` [batch or 1, heads or 1, tokens] are those without overlaps."""

    module: ModuleType
    count: int
    span: int
    numbers: Tensor
    """Below `count`, and `count` for tokens without a group."""
    exists: Tensor
    """Bool [batch, heads or 1, groups]."""

    def all_numbers(self, tokens: int, device: torch.device) -> Tensor:
        """The group of each token, once for each group that it is in."""
        numbers: Tensor = self.module.with_overlaps(self.numbers, self.count, self.span)
        return numbers


@dataclass(frozen=True, eq=False)
class PresentTokens(ABC):
    """The tokens of one side of a route in a partial call."""

    side: Grouped
    whole: GroupedTokens
    """All tokens of the side."""
    inputs: Values
    dtype: torch.dtype
    """That of scores."""

    @property
    def module(self) -> ModuleType:
        return self.side.module

    @property
    def device(self) -> torch.device:
        return self.whole.device

    @property
    @abstractmethod
    def heads(self) -> int:
        """The number of heads of the vectors."""

    @property
    @abstractmethod
    def x(self) -> Tensor:
        """The vectors, [batch, heads, tokens, dim]."""

    @cached_property
    @abstractmethod
    def values(self) -> Values:
        """The coordinates of the tokens, by identifier."""

    @property
    def read(self) -> Values:
        """What functions of tokens read."""
        return {**self.inputs, **self.values}

    @abstractmethod
    def each(self) -> CallGroups:
        """A group for each token."""

    def groups(self, count: int, name: str, declared: str, has: Tensor | None = None, span: int = 1) -> CallGroups:
        """The groups by the coordinate `declared`."""
        return self.by(Grouping(declared, count, span))

    @abstractmethod
    def by(self, grouping: Grouping) -> CallGroups:
        """The groups by a coordinate."""

    @abstractmethod
    def first(self, groups: Any) -> dict[str, Tensor]:
        """The coordinates of each group's first token."""

    @abstractmethod
    def coarser(self, groups: Any, coarse: Any) -> Tensor | None:
        """The number of the coarser group of each group; None if there is one."""

    @abstractmethod
    def pooled(
        self, vectors: Vectors, groups: Any, kind: str, among: Among | None = None, heads: list[int] | None = None
    ) -> Tensor:
        """Vectors of tokens, pooled by group."""

    @abstractmethod
    def sharing(self, source: Any, target: Any, *kept: Any) -> Tensor | None:
        """The groups of `source` that share tokens with each group of `target`; `kept` is for calls with all tokens."""

    def pool_now(
        self, vectors: Vectors, groups: Any, kind: str, among: Among | None, heads: list[int] | None
    ) -> Tensor:
        """Vectors of the tokens here, pooled by group."""
        chosen = None if among is None else among(**self.read)
        result: Tensor = self.module.pooled(vectors(self), groups, kind, chosen, heads)
        return result
