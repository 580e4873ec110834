"""Compiled masks: what an attention holds, and what torch's operators find by its handle and run.

`CompiledMask` is the protocol. `Bound` is a mask at fixed lengths: `mask_calls.py` has its calls. `Following`, in
`following.py`, makes a `Bound` for the lengths of each call. Handles are kept by `registry.py`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import NamedTuple, Protocol

from torch import Tensor

from maskdsl.analysis.orders.pattern_text import PatternText
from maskdsl.emit.plan import KernelPlan, make_plan
from maskdsl.ir.heads import Heads, some_heads
from maskdsl.ir.rewrites.attended_keys import with_attended_keys
from maskdsl.ir.rewrites.branch_union import merged_weights
from maskdsl.ir.rewrites.chunk import Chunk, Gathered
from maskdsl.ir.rewrites.dropout import with_dropout
from maskdsl.ir.rewrites.listed_routes import with_lists
from maskdsl.ir.rewrites.product_inputs import unpooled, weighed, with_given_products
from maskdsl.ir.rewrites.route_rows import for_some_queries, products_by_row, products_by_slice
from maskdsl.ir.routes import Routed
from maskdsl.runtime.backends.available import everywhere
from maskdsl.runtime.base.digest import digest
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.validate import Lists, Signature
from maskdsl.runtime.compiled.mask_calls import MaskCalls
from maskdsl.runtime.compiled.registry import Entry, Registry

_MOST_DERIVED = 16
"""Derived masks that a `Bound` caches, each with its kernels and tiles."""


class Summands(NamedTuple):
    """The attentions that add up to that of a pattern with branches; none for other patterns."""

    masks: "tuple[CompiledMask, ...]"
    """Each different attention once."""
    of_branch: tuple[int, ...]
    """For each branch, which of them has its log-sum-exp."""
    names: tuple[str, ...]
    """The names of the branches."""


NO_SUMMANDS = Summands((), (), ())


class CompiledMask(Entry, Protocol):
    """What an attention computes: a pattern for a backend, at fixed lengths or at those of each call.

    Immutable except for its caches.
    """

    @property
    def signature(self) -> Signature:
        """The names that a call takes."""

    @property
    def summands(self) -> Summands:
        """The attentions of which it is the sum, if it has branches."""

    def bound(self, queries: int, keys: int) -> "Bound":
        """The mask at these lengths, in tokens. A mask at fixed lengths returns itself, whatever they are."""

    def bound_to_longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> "Bound":
        """The mask for packed sequences with these ends, integers [sequences + 1]: at the length of the longest one."""

    def of_heads(self, first: int, count: int) -> "CompiledMask":
        """The mask of some of its heads, `first` to `first + count`; inputs stay those of all."""

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """Raises `AttnError` for wrong shapes, dtypes or devices, as far as they are known without lengths."""


class Bound(MaskCalls):
    """A compiled mask at fixed lengths, with the masks that are derived from it."""

    def __init__(
        self,
        plan: KernelPlan,
        backend: str,
        routes: tuple[Routed, ...] = (),
        checks_reads: bool = False,
        text: PatternText | None = None,
    ) -> None:
        super().__init__(plan, backend, checks_reads)
        self.routes = routes
        """For partial calls: the statements whose results are inputs here, with a row for each query."""
        self.text = text
        """What the mask was bound from; None for masks derived from another."""
        self.handle = digest((plan, backend))
        mask = plan.mask
        signature = Signature(
            mask.name,
            mask.span,
            {each.name: each.span for each in mask.given},
            mask.unread,
            {
                one.name: Lists(len(one.dimensions) - 2, tuple(x.name for x in mask.given if x.lists == one.name))
                for one in mask.given
                if one.sparse
            },
            bool(mask.routed),
            mask.multiplies,
            mask.queries.is_pooled,
            mask.normalize,
            not mask.is_layer,
        )
        made = (each for each in mask.passed if each.source is not None)
        self.signature = signature.making(mask.given, made)
        self.derived_masks: OrderedDict[tuple[object, ...], DerivedMask] = OrderedDict()
        self.lock = Lock()
        self.sums: dict[tuple[int, ...], Bound] = {}
        self.of_some_heads: dict[tuple[int, int], Bound] = {}
        self.weighed_masks: dict[tuple[int, bool], Bound] = {}
        self.sliced_masks: dict[tuple[bool, int | None], Bound] = {}

    def bound(self, queries: int, keys: int) -> "Bound":
        """This mask: its lengths are fixed."""
        return self

    def bound_to_longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> "Bound":
        """This mask: its lengths are fixed."""
        return self

    def fresh(self) -> "Bound":
        """An equal mask with empty caches."""
        return Bound(self.plan, self.backend, self.routes, self.checks_reads, self.text)

    def of_heads(self, first: int, count: int) -> "Bound":
        """The mask of some of its heads, `first` to `first + count`. Cached. Raises `AttnError` as binding does."""
        plan, heads = self.plan, self.plan.mask.whole or Heads(self.plan.mask.heads)
        if plan.serves_any_heads or count == heads.count:
            return self
        if (first, count) not in self.of_some_heads:
            assert self.text is not None, plan.mask.name
            some = some_heads(heads, first, count)
            self.of_some_heads[first, count] = bound_by_text(self.text, some, self.backend, plan.refine, plan.tune)
        return self.of_some_heads[first, count]

    @cached_property
    def summands(self) -> Summands:
        """The attentions of which it is the sum, if it has branches."""
        _, of_branch = merged_weights(self.plan.mask.branches)
        alike: dict[int, tuple[int, ...]] = {}
        for branch, number in enumerate(of_branch):
            alike[number] = (*alike.get(number, ()), branch)
        names = tuple(each.branch for each in self.plan.mask.branches)
        return Summands(tuple(map(self.sum_of, alike.values())), of_branch, names)

    def sum_of(self, branches: tuple[int, ...]) -> "Bound":
        """The sum of the branches of these numbers, which differ in their weights alone. Cached."""
        if branches not in self.sums:
            (mask,), _ = merged_weights([self.plan.mask.branches[number] for number in branches])
            plan = make_plan(with_attended_keys(mask), refine=self.plan.refine, tune=self.plan.tune)
            text = self.text and replace(self.text, summed=branches)
            self.sums[branches] = Bound(plan, self.backend, checks_reads=self.checks_reads, text=text)
        return self.sums[branches]

    @cached_property
    def dropped(self) -> "Bound":
        """The mask that drops pairs, by inputs that follow those of callers."""
        plan = replace(self.plan, mask=with_dropout(self.plan.mask))
        return Bound(plan, self.backend, self.routes, self.checks_reads)

    @cached_property
    def without_sinks(self) -> "Bound":
        """The mask that computes results to be merged with those of another call, which counts the sinks."""
        if not self.plan.mask.sinks:
            return self
        return Bound(replace(self.plan, mask=replace(self.plan.mask, sinks=())), self.backend, self.routes)

    @cached_property
    def listed(self) -> "Bound | None":
        """The mask that computes calls with all queries, where some of its routes give lists in place of tables."""
        mask = self.plan.mask
        if mask.multiplies or not everywhere(self.backend).lists_routes:
            return None
        mask = with_lists(mask)
        if mask is self.plan.mask:
            return None
        plan = make_plan(mask, refine=self.plan.refine, tune=self.plan.tune)
        text = self.text and replace(self.text, lists=True)
        return Bound(plan, self.backend, checks_reads=self.checks_reads, text=text)

    @cached_property
    def routes_digest(self) -> str:
        """Equal for masks whose routes select the same in calls of the same tensors, in the same form."""
        mask = self.plan.mask
        lists = [each.name for each in mask.inputs if each.sparse]
        return digest((mask.routed, lists, mask.queries, mask.keys, mask.self_attention))

    @cached_property
    def for_products(self) -> "Bound":
        """The mask that computes calls with all queries, with pools, products and results of routes as given."""
        mask = self.plan.mask
        if not mask.multiplies:
            return self
        return Bound(replace(self.plan, mask=unpooled(with_given_products(mask))), self.backend)

    def weighed(self, number: int, by_rows: bool = False) -> "Bound":
        """The mask whose derivatives are the masses of the value term of this number. Cached."""
        key = number, by_rows
        if key not in self.weighed_masks:
            term = self.plan.mask.values[number]
            mask = weighed(self.plan.mask, term)
            mask = products_by_row(mask, term) if by_rows else unpooled(with_given_products(mask))
            self.weighed_masks.setdefault(key, Bound(replace(self.plan, mask=mask), self.backend))
        return self.weighed_masks[key]

    def sliced(self, has_sinks: bool, number: int | None = None) -> "Bound":
        """The mask that computes calls with some of the keys, given the products; with the pattern's sinks, or without.

        With a `number`, its derivatives are the masses of the value term of this number. Cached.
        """
        key = has_sinks, number
        if key not in self.sliced_masks:
            mask = self.plan.mask if has_sinks else replace(self.plan.mask, sinks=())
            terms = () if number is None else (mask.values[number],)
            for term in terms:
                mask = weighed(mask, term)
            bound = Bound(replace(self.plan, mask=products_by_slice(mask, *terms)), self.backend)
            self.sliced_masks.setdefault(key, bound)
        return self.sliced_masks[key]

    @cached_property
    def for_products_by_row(self) -> "Bound":
        """The mask that computes calls with some of the tokens, likewise: see `products_by_row`."""
        return Bound(replace(self.plan, mask=products_by_row(self.plan.mask)), self.backend)

    @cached_property
    def for_partial_calls(self) -> "Bound":
        """The mask that computes partial calls: its inputs are the given ones and those of `partial_route_finder`."""
        mask = self.plan.mask
        if not mask.routed:
            return self
        return Bound(replace(self.plan, mask=for_some_queries(mask)), self.backend, mask.routed)

    @cached_property
    def for_given_routes(self) -> "Bound":
        """The mask that computes calls with the results of routes as given, for all queries."""
        mask = self.plan.mask
        if not mask.routed:
            return self
        return Bound(replace(self.plan, mask=replace(mask, routed=())), self.backend)

    def derived(self, kind: type[Gathered], *sizes: int) -> "DerivedMask":
        """The mask over other tokens: a `Chunk` or `Packed` with these sizes. Cached."""
        key = kind, *sizes
        with self.lock:
            if key not in self.derived_masks:
                gathered = kind(self.plan.mask, *sizes)
                routes = self.routes if kind is Chunk else ()  # packed queries have no rows of their own
                bound = Bound(make_plan(gathered.mask), self.backend, routes)
                self.derived_masks[key] = DerivedMask(gathered, bound, Kept())
            self.derived_masks.move_to_end(key)
            while len(self.derived_masks) > _MOST_DERIVED:
                self.derived_masks.popitem(last=False)
            derived = self.derived_masks[key]
        register(derived.compiled)
        return derived

    def __reduce__(self) -> tuple[object, ...]:
        return Bound, (self.plan, self.backend, self.routes, self.checks_reads, self.text)

    def __deepcopy__(self, memo: object) -> "Bound":
        return self


def bound_by_text(text: PatternText, heads: Heads, backend: str, refine: bool, tune: bool) -> Bound:
    """The mask of a text for these heads. Raises `AttnError` as binding does."""
    whole = replace(text, summed=(), lists=False)
    bound = Bound(make_plan(whole.bound(heads), refine=refine, tune=tune), backend, checks_reads=True, text=whole)
    bound = bound.sum_of(text.summed) if text.summed else bound
    return bound.listed or bound if text.lists else bound


class DerivedMask(NamedTuple):
    """A mask over other tokens than its own, compiled: a chunk, packed sequences, or copies of queries."""

    gathered: Gathered
    """The tokens, and the rewritten mask."""
    compiled: Bound
    """That mask, compiled."""
    kept: Kept
    """A cache of per-token values that depend on no input."""


_COMPILED: Registry[CompiledMask] = Registry()
register, find, make_by = _COMPILED.register, _COMPILED.find, _COMPILED.make_by
