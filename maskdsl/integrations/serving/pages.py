"""The pages of an engine's cache, as keys and values, and what the engine computes at once over them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class EngineStep:
    """Some tokens of each of several sequences: prompts, chunks of them, drafts and single tokens, mixed."""

    tokens: int
    """The number of new tokens of all sequences."""
    ends: Tensor
    """int32 [sequences + 1]: the new tokens of sequence n are `ends[n]` to `ends[n + 1]`."""
    key_lengths: Tensor
    """int32 [sequences]: the tokens of each so far, the new ones included."""
    page_table: Tensor
    """int32 [sequences, pages]; entries of pages that nobody reads are anything."""
    longest: int
    """The most new tokens of a sequence."""

    @cached_property
    def starts(self) -> Tensor:
        """int32 [sequences]: the position of the first new token of each."""
        return self.key_lengths - torch.diff(self.ends)

    @property
    def is_even(self) -> bool:
        """Whether all sequences have as many new tokens, as where all decode."""
        return self.tokens > 0 and self.tokens == self.longest * len(self.key_lengths)

    @property
    def is_on_host(self) -> bool:
        """Whether its numbers can be read without waiting for a GPU."""
        return self.ends.device.type == "cpu"

    @cached_property
    def groups(self) -> "list[StepGroup]":
        """The sequences with new tokens, those with as many together."""
        counts, device = torch.diff(self.ends), self.ends.device
        groups = list[StepGroup]()
        for count in sorted({*counts.tolist()}):
            if count:
                numbers = (counts == count).nonzero().flatten()
                tokens = (self.ends[numbers, None] + torch.arange(count, device=device)).flatten()
                ends = torch.arange(0, len(tokens) + 1, count, dtype=torch.int32, device=device)
                step = EngineStep(len(tokens), ends, self.key_lengths[numbers], self.page_table[numbers], count)
                groups.append(StepGroup(step, numbers, tokens))
        return groups


class StepGroup(NamedTuple):
    """Some sequences of a step, all with as many new tokens."""

    step: EngineStep
    """Theirs alone."""
    numbers: Tensor
    """Of the sequences in the whole step."""
    tokens: Tensor
    """The numbers of their tokens, sequence by sequence."""


class KeyPages(NamedTuple):
    """Keys and values of one layer, [pages, key heads, page size, head dim], with the scales of types of 8 bits."""

    k: Tensor
    v: Tensor
    key_scale: Tensor | None = None
    value_scale: Tensor | None = None

    @staticmethod
    def of(cache: Tensor, head_dim: int, dtype: torch.dtype | None, scales: tuple[Tensor, Tensor] | None) -> "KeyPages":
        """Views of a cache [pages, key heads, page size, both head dims] that holds a key and a value side by side.

        `dtype` is what its bytes are; None: what it says.
        """
        cache = cache if dtype is None else cache.view(dtype)
        return KeyPages(cache[..., :head_dim], cache[..., head_dim:], *(scales or ()))

    def converted(self, step: EngineStep, dtype: torch.dtype) -> "tuple[KeyPages, EngineStep]":
        """Copies of the pages that the table of a step names, in this type and without scales, and the step over them.

        For states of routes, which take keys of the type of the queries alone.
        """
        named = step.page_table.flatten().long().clamp(min=0)
        k, v = (
            x[named].to(dtype) if scale is None else x[named].to(dtype) * scale.to(dtype).view(-1, 1, 1)
            for x, scale in ((self.k, self.key_scale), (self.v, self.value_scale))
        )
        table = torch.arange(len(named), dtype=torch.int32, device=named.device).view_as(step.page_table)
        return KeyPages(k, v), replace(step, page_table=table)

    def write(self, key: Tensor, value: Tensor, slots: Tensor) -> None:
        """Writes keys and values [tokens, key heads, head dim] to their slots, int64 [tokens]: page * page size + row.

        What has a negative slot is padding, and goes to page 0, which is of no sequence.
        """
        slots, size = slots.clamp(min=0), self.k.shape[2]
        rows, pages = slots % size, slots // size
        for x, new, scale in ((self.k, key, self.key_scale), (self.v, value, self.value_scale)):
            new = new[: len(slots)]
            x[pages, :, rows] = (new if scale is None else new / scale).to(x.dtype)
