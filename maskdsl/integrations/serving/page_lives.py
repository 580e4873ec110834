"""How long the pages of a sequence are read: which of them nobody attends any more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl import Mask

Array = NDArray[Any]


@dataclass(frozen=True)
class PageLives:
    """How long the pages of sequences are read. Equal where that is equal; can be pickled and hashed."""

    size: int
    """Tokens of a page."""
    last: bytes
    """int32 [tokens]: the last query that attends each token, or the token itself, if that is later."""

    @staticmethod
    def of(masks: Iterable[Mask], length: int, size: int, inputs: Mapping[str, Any]) -> "PageLives":
        """Those that any of the masks reads, of sequences of up to `length` tokens.

        Raises `AttnError` where content decides that, or an input that is not given.
        """
        last = np.arange(length)
        for mask in masks:
            read = mask.last_queries(**{each.name: inputs[each.name] for each in mask.inputs if each.name in inputs})
            last = np.maximum(last, read[:length])
        return PageLives(size, last.clip(max=length - 1).astype(np.int32).tobytes())

    @cached_property
    def pages(self) -> Array:
        """int32 [pages]: the last query that attends a token of each page."""
        last = np.frombuffer(self.last, dtype=np.int32)
        return np.maximum.reduceat(last, np.arange(0, len(last), self.size))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The pages, those first that are free first."""
        return tuple(np.argsort(self.pages, kind="stable").tolist())

    @cached_property
    def _sorted(self) -> Array:
        return np.sort(self.pages)

    def free_at(self, position: int) -> int:
        """How many pages of `order` no query from this position on attends."""
        return int(np.searchsorted(self._sorted, position))

    def most(self, ahead: int) -> int:
        """The most pages that a sequence holds at a time: those that are read, and those of `ahead` new tokens."""
        first = np.maximum(np.arange(len(self.pages)) * self.size - ahead + 1, 0)
        end = len(self.pages) * self.size + 1
        held = np.cumsum(np.bincount(first, minlength=end) - np.bincount(self.pages + 1, minlength=end)[:end])
        return int(held.max())

    def covers(self, other: "PageLives") -> bool:
        """Whether every page is read here at least as long as there."""
        return self.size == other.size and bool((self.pages >= other.pages).all())
