"""Which query heads a mask is for: all of an attention, or those that one process of several computes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heads:
    """Query heads `first` to `first + count` of an attention with `whole` of them, which share `key_heads`."""

    whole: int = 1
    key_heads: int | None = None
    """Of the whole attention; None: any number that divides its query heads."""
    first: int = 0
    local: int | None = None
    """None: all."""

    @property
    def count(self) -> int:
        return self.whole if self.local is None else self.local

    @property
    def are_all(self) -> bool:
        return self.count == self.whole

    @property
    def key_count(self) -> int | None:
        """How many key heads these read, if it is known."""
        return None if self.key_heads is None else max(1, self.count * self.key_heads // self.whole)

    @property
    def keep_key_heads_together(self) -> bool:
        """Whether these are all query heads of some key heads, or share one with others."""
        if self.key_heads is None:
            return True
        shared = self.whole // self.key_heads
        smaller, larger = sorted((self.count, shared))
        return larger % smaller == 0 and self.first % smaller == 0
