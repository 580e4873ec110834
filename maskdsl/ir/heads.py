"""The query heads of a mask: all heads of an attention, or the shard of one process under tensor parallelism."""

from dataclasses import (  # which torch.compile can trace, as it does where a layer asks for its attention
    dataclass,
    replace,
)

DEFAULT_HEADS = 1
"""The query heads of a mask, if nobody says how many: enough where the relation is that of every head."""


@dataclass(frozen=True)
class Heads:
    """Query heads `first` to `first + count` of an attention with `whole` query heads and `key_heads` key heads."""

    whole: int = DEFAULT_HEADS
    key_heads: int | None = None
    """Key heads of the whole attention; None: not known, any divisor of `whole`."""
    first: int = 0
    local: int | None = None
    """The number of heads here; None: all."""

    @property
    def count(self) -> int:
        """The number of heads here."""
        return self.whole if self.local is None else self.local

    @property
    def are_all(self) -> bool:
        """Whether these are all heads of the attention."""
        return self.count == self.whole

    @property
    def all(self) -> "Heads":
        """All heads of the attention."""
        return Heads(self.whole, self.key_heads)

    @property
    def key_count(self) -> int | None:
        """The number of key heads that these query heads read; None if it is not known."""
        return None if self.key_heads is None else max(1, self.count * self.key_heads // self.whole)

    @property
    def keep_key_heads_together(self) -> bool:
        """Whether the heads are whole groups of query heads that share a key head, or lie within one group."""
        if self.key_heads is None:
            return True
        shared = self.whole // self.key_heads
        smaller, larger = sorted((self.count, shared))
        return larger % smaller == 0 and self.first % smaller == 0


def some_heads(heads: Heads, first: int, count: int) -> Heads:
    """The heads `first` to `first + count` of those that are here."""
    return replace(heads, first=heads.first + first, local=count)
