"""The compiled mask of calls whose routes may give lists, which operators find by a handle of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from maskdsl.runtime.base.digest import digest
from maskdsl.runtime.base.validate import Signature
from maskdsl.runtime.compiled.compiled_mask import Bound, CompiledMask, Summands


@dataclass(frozen=True, eq=False)
class ListedMask:
    """A compiled mask in calls with all queries. A `CompiledMask`."""

    whole: CompiledMask

    @cached_property
    def handle(self) -> str:
        return digest((self.whole.handle, "lists"))

    @property
    def signature(self) -> Signature:
        """The names that a call takes."""
        return self.whole.signature

    @property
    def summands(self) -> Summands:
        """Those of the mask."""
        return self.whole.summands

    def bound(self, queries: int, keys: int) -> Bound:
        """The mask at these lengths."""
        bound = self.whole.bound(queries, keys)
        return bound.listed or bound

    def bound_to_longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> Bound:
        """The mask at the lengths of the longest packed sequences. May wait for the device."""
        bound = self.whole.bound_to_longest(cu_seqlens_q, cu_seqlens_k)
        return bound.listed or bound

    def of_heads(self, first: int, count: int) -> "ListedMask":
        """The mask of some of its heads."""
        return ListedMask(self.whole.of_heads(first, count))

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """As far as the mask checks."""
        self.whole.check(q, k, v, inputs)

    def fresh(self) -> "ListedMask":
        """An equal value with empty caches."""
        return ListedMask(self.whole.fresh())

    def __deepcopy__(self, memo: object) -> "ListedMask":
        return self


def listed_form(compiled: CompiledMask) -> CompiledMask | None:
    """The same attention whose routes may give lists; None where none does."""
    if isinstance(compiled, Bound):
        return compiled.listed
    return ListedMask(compiled) if compiled.signature.is_routed and not isinstance(compiled, ListedMask) else None
