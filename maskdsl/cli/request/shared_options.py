"""The arguments and options that several commands share, as they were typed, and their meaning."""

from collections.abc import Sequence
from typing import NamedTuple

from maskdsl.api import BoundStack, Mask
from maskdsl.base.records import dataclass
from maskdsl.cli.request.masks import Request, StackRequest, read_block, read_heads, read_subject
from maskdsl.cli.request.routed_masks import ResolvedMasks, ResolvedStack, resolve_masks, resolve_stack
from maskdsl.ir.heads import Heads


class Ranges(NamedTuple):
    """The values of `--rows` and `--columns`; None stands for all queries or keys."""

    rows: str | None
    columns: str | None


@dataclass(frozen=True)
class SharedOptions:
    """Arguments and options as they were typed. The methods read them, and raise `AttnError` for mistakes in them."""

    file: str
    words: Sequence[str] = ()
    heads: Heads = Heads()
    head: Sequence[int] = ()
    orders: Sequence[str] = ()
    block: str | None = None
    given: Sequence[str] = ()
    seed: int | None = None
    tensors: str | None = None

    def subject(self) -> Request | StackRequest:
        """The pattern or stack, with the values of its parameters."""
        return read_subject(self.file, self.words)

    def chosen(self) -> list[int]:
        """The heads of `--head`; all heads without it."""
        return read_heads(self.head, self.heads.count)

    def size(self) -> tuple[int, int] | None:
        """The tile size of `--block` in tokens (queries, keys); None without it."""
        return None if self.block is None else read_block(self.block)

    def masks(self, request: Request) -> list[Mask]:
        """The mask in the pattern's own order, or in each order of `--order`."""
        return [request.bind(self.heads, order) for order in self.orders] or [request.bind(self.heads)]

    def resolve_masks(self, request: Request) -> ResolvedMasks:
        """The masks with their inputs and what routes select."""
        return resolve_masks(self.masks(request), self.given, self.seed, self.tensors)

    def resolve_stack(self, stack: BoundStack) -> ResolvedStack:
        """The stack with its inputs and what routes select."""
        return resolve_stack(stack.ir, self.given, self.seed, self.tensors)
