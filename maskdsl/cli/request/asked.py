"""What a command line says of the patterns that it looks at, which is the same in several commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from maskdsl.api import BoundStack, Mask
from maskdsl.cli.request.masks import Request, StackRequest, read_block, read_heads, read_subject
from maskdsl.cli.request.routed_masks import Looked, LookedLayers, look, look_at_layers

BLOCK = (128, 128)
"""Tokens of a tile where figures are wanted and no size is said."""


class Ranges(NamedTuple):
    """The queries and the keys that are wanted, as `read_range` reads them; None: all."""

    rows: str | None
    columns: str | None


@dataclass(frozen=True)
class Asked:
    """Arguments and options as they were typed. What is read of them raises `AttnError` for what is wrong with them."""

    file: str
    words: Sequence[str] = ()
    heads: int = 1
    head: Sequence[int] = ()
    orders: Sequence[str] = ()
    block: str | None = None
    given: Sequence[str] = ()
    seed: int | None = None
    tensors: str | None = None

    def subject(self) -> Request | StackRequest:
        return read_subject(self.file, self.words)

    def chosen(self) -> list[int]:
        """The heads that are wanted."""
        return read_heads(self.head, self.heads)

    def size(self) -> tuple[int, int] | None:
        """Of a tile, in tokens."""
        return None if self.block is None else read_block(self.block)

    def masks(self, request: Request) -> list[Mask]:
        """In the pattern's own order, or in each of those asked for."""
        return [request.bind(self.heads, order) for order in self.orders] or [request.bind(self.heads)]

    def look(self, request: Request) -> Looked:
        return look(self.masks(request), self.given, self.seed, self.tensors)

    def look_at_layers(self, stack: BoundStack) -> LookedLayers:
        return look_at_layers(stack.ir, self.given, self.seed, self.tensors)
