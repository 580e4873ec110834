"""The inputs of a pattern, and what their dimensions range over. Frozen data."""

from dataclasses import field, replace
from enum import StrEnum, auto
from functools import cached_property

from maskdsl.base.limits import MOST_HEAD_DIM
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.ops import Type


class DimensionKind(StrEnum):
    """What a dimension of an input ranges over."""

    BATCH = auto()
    HEADS = auto()
    TOKENS = auto()  # the queries, the keys, the tokens (self-attention), or one space
    FIXED = auto()
    ENTRIES = auto()  # the entries of a sparse input, which `text` names
    DIM = auto()  # the head dim
    FREE = auto()  # any length


_OF_TOKENS = (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)
"""The dimensions of an input that is a coordinate, in the order that generated modules use."""


@dataclass(frozen=True)
class Dimension:
    """One dimension of an input."""

    kind: DimensionKind
    size: int | None
    """None for BATCH, ENTRIES, DIM and FREE, whose sizes the call decides."""
    text: str
    """As written: `tokens`, `image`, `2 * size - 1`."""
    here: tuple[int, int] | None = None
    """For HEADS of a mask that has only some of the heads: the first of them, and how many."""
    shared: int = 1
    """For HEADS: the query heads for which callers give one entry, more than one for a dimension of key heads."""

    @property
    def given_size(self) -> int | None:
        """The size that callers give, as far as it is known before a call."""
        return None if self.size is None else self.size // self.shared


INDEXED = "[]"
"""What the name of an input ends in that is a coordinate's tensor, read by index."""
KEY_HEADS = "key_heads"
"""The text of a dimension that ranges over key heads."""
HEAD_DIM = "dim"
"""The name of the input that holds the head dimension, where a pattern reads it."""
HEAD_DIMS = (1, MOST_HEAD_DIM)
"""The least and the largest head dimension."""


def said(name: str) -> str:
    """The name of an input as patterns write it."""
    return name.removesuffix(INDEXED)


@dataclass(frozen=True)
class Input:
    """A tensor of a call: given by the caller, or found by a route. Integers fit 32 bits unless `reach` says more."""

    name: str
    type: Type
    dimensions: tuple[Dimension, ...]
    reach: tuple[int, int] | None = None
    """The least and the largest integer of a computed coordinate that became an input and does not fit 32 bits."""
    sparse: bool = False
    """Whether it is a list of entries: `dimensions` end in rows and columns, and its integers are numbers of entries.

    Its tensor has other dimensions, `held`.
    """
    source: str | None = None
    """The input, a coordinate, whose tensor it also is, read by index; of the head dimension, its own name. None for
    an input that callers give, or a route finds."""
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def held(self) -> tuple[Dimension, ...]:
        """The dimensions of its tensor. `ir/values/entries.py` says what the last one of a sparse input holds."""
        if not self.sparse:
            return self.dimensions
        return (*self.dimensions[:-2], Dimension(DimensionKind.FREE, None, "entries"))

    @cached_property
    def lists(self) -> str | None:
        """The name of the sparse input of which it has one number an entry; None for other inputs."""
        return next((each.text for each in self.dimensions if each.kind is DimensionKind.ENTRIES), None)

    @cached_property
    def kinds(self) -> tuple[DimensionKind, ...]:
        """The kind of each dimension."""
        return tuple(dimension.kind for dimension in self.dimensions)

    def entry_of_head(self, head: int, heads: int) -> tuple[int, ...]:
        """The index of a query head, one of so many, in its dimension of heads or key heads; none without one."""
        for each in self.dimensions:
            if each.kind is DimensionKind.HEADS:
                return (head,)
            if each.text == KEY_HEADS and each.size is not None:
                return (head * each.size // heads,)
        return ()

    @cached_property
    def is_coordinate(self) -> bool:
        """Whether it has exactly one token dimension and otherwise batch or heads: read as `q.name`, not by index."""
        is_plain = self.source is None and not self.sparse and set(self.kinds) <= set(_OF_TOKENS)
        return is_plain and self.kinds.count(DimensionKind.TOKENS) == 1

    @property
    def whole(self) -> "Input":
        """The input as masks read it: an entry of a key head is there once for each of its query heads."""
        return replace(self, dimensions=tuple(replace(each, shared=1) for each in self.dimensions))

    @cached_property
    def arrangement(self) -> tuple[int, ...]:
        """The axis numbers of batch, heads and tokens, in this order, of those that it has."""
        return tuple(self.kinds.index(kind) for kind in _OF_TOKENS if kind in self.kinds)

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """Which of batch (0), heads (1) and tokens (2) it lacks."""
        return tuple(axis for axis, kind in enumerate(_OF_TOKENS) if kind not in self.kinds)

    @cached_property
    def heads_here(self) -> tuple[int, int] | None:
        """The first head of the mask and the number of heads, if the input has an entry for other heads too."""
        return next((each.here for each in self.dimensions if each.here is not None), None)
