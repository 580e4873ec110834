"""Compiled masks: what an attention holds, and what torch's operators find by its handle and run.

`CompiledMask` is the protocol. `Bound` is a mask at fixed lengths, with the kernels of its backend. `Following`, in
`runtime/following.py`, makes a `Bound` for the lengths of each call. Handles are kept by `runtime/registry.py`.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from maskdsl.analysis.orders.pattern_text import PatternText
from maskdsl.emit.plan import KernelPlan, declared_plan, make_plan
from maskdsl.ir.heads import Heads, some_heads
from maskdsl.ir.mask import Normalize
from maskdsl.ir.rewrites.attended_keys import with_attended_keys
from maskdsl.ir.rewrites.branch_union import merged_weights
from maskdsl.ir.rewrites.chunk import Chunk, Gathered
from maskdsl.ir.rewrites.dropout import with_dropout
from maskdsl.ir.rewrites.listed_routes import with_lists
from maskdsl.ir.rewrites.product_inputs import unpooled, weighed, with_given_products, without_products
from maskdsl.ir.rewrites.route_rows import by_row, for_some_queries, products_by_row, products_by_slice
from maskdsl.ir.routes import Routed
from maskdsl.runtime.backends.available import REFERENCE, computing, everywhere
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import KernelCall, Saved
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.base.digest import digest
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.precision import allows_tf32
from maskdsl.runtime.base.validate import (
    Lists,
    Signature,
    check_inputs,
    check_layout,
    check_sizes,
    check_tensors,
    check_values,
)
from maskdsl.runtime.kernels.dispatch import Forward, Kernel, planned_kernel
from maskdsl.runtime.kernels.key_softmax import KeySoftmaxKernel
from maskdsl.runtime.kernels.known_inputs import KnownInputs, LastInputs
from maskdsl.runtime.kernels.open_reads import OpenReads
from maskdsl.runtime.kernels.partial_route_finder import PartialRouteFinder
from maskdsl.runtime.kernels.product_finder import ProductFinder
from maskdsl.runtime.kernels.route_finder import RouteFinder
from maskdsl.runtime.kernels.split_kernel import SplitKernel
from maskdsl.runtime.registry import Entry, Registry

_T = TypeVar("_T")

MOST_CACHED = 256
"""Entries of a `Bound`'s caches of checked and of prepared calls."""
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


class Bound:
    """A compiled mask at fixed lengths: a plan, the name of a backend, and the kernels and caches made for them."""

    def __init__(
        self,
        plan: KernelPlan,
        backend: str,
        routes: tuple[Routed, ...] = (),
        checks_reads: bool = False,
        text: PatternText | None = None,
    ) -> None:
        self.plan = plan
        self.backend = backend
        """A backend's name or "auto"."""
        self.routes = routes
        """For partial calls: the statements whose results are inputs here, with a row for each query."""
        self.checks_reads = checks_reads
        """Whether calls check unproven table reads. Masks derived from another do not: the original was checked."""
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
        self.states = CallStates()
        self.derived_masks: OrderedDict[tuple[object, ...], DerivedMask] = OrderedDict()
        self.lock = Lock()
        self.checked_kernels: dict[object, Kernel] = {}
        self.prepared_calls: dict[object, Forward] = {}
        self.prepared_gradients: dict[object, Callable[[Saved], list[Tensor]]] = {}
        self.kernels: dict[str, Kernel] = {}
        self.chosen_kernels: dict[object, Kernel] = {}
        self.declared_kernels: dict[str, Kernel] = {}
        self.declared_calls: dict[object, KernelCall] = {}
        self.last_inputs = LastInputs()
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

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """Raises `AttnError` if heads, lengths or inputs are not those of the mask."""
        check_sizes(self.plan, q, k, v)
        check_inputs(self.plan.mask.unmultiplied, inputs, q)

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

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        layout: str,
        wants_lse: bool,
        knows: "Knows | None" = None,
        target: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The output and the log-sum-exp of a call with all queries: see `Forward`. Raises `AttnError`.

        For a pattern without inputs the function of a call is cached by the kinds of its tensors, and for inputs all of
        which are known with what is known of them.
        """
        known = knows(self, q, inputs) if inputs and knows is not None else None
        calls = None if inputs else self.prepared_calls
        if known is not None and known.are_all:
            calls = known.calls
        if calls is None:
            return self.prepared(q, k, v, inputs, layout, wants_lse, known)(q, k, v, target)
        key = kinds(q, k, v), layout, wants_lse, q.dtype == torch.float32 and allows_tf32()
        forward = calls.get(key)
        if forward is None:
            forward = self.prepared(q, k, v, inputs, layout, wants_lse, known)
            if inputs or not self.plan.varies_by_batch:  # otherwise a cached call would keep its `CallState` alive
                remember(calls, key, forward)
        return forward(q, k, v, target)

    def backward(
        self,
        saved: Saved,
        inputs: Sequence[Tensor],
        layout: str,
        needs: Sequence[bool],
        knows: "Knows | None" = None,
    ) -> list[Tensor]:
        """The gradients of a call that was checked: see `Kernel.backward`. Cached as in `forward`."""
        if inputs:
            kernel = self.kernel(saved.q, saved.v)
            known = None if knows is None else knows(self, saved.q, inputs)
            return kernel.backward(saved, inputs if known is None else known.passed(inputs), layout, needs, known)
        key = kinds(saved.q, saved.k, saved.v), layout, (*needs,)
        backward = self.prepared_gradients.get(key)
        if backward is None:
            backward = self.kernel(saved.q, saved.v).prepared_backward(saved, inputs, layout, needs)
            if not self.plan.varies_by_batch:
                remember(self.prepared_gradients, key, backward)
        return backward(saved)

    def prepared(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        layout: str,
        wants_lse: bool,
        known: KnownInputs | None = None,
    ) -> Forward:
        """Checks a call and returns its function. Shapes, dtypes, devices and layout are checked once per kind."""
        key = (kinds(q, k, v), layout, *[(x.shape, x.dtype, x.device) for x in inputs])
        kernel = self.checked_kernels.get(key)
        if kernel is None:
            check_tensors(q, k, v, layout)
            self.check(q, k, v, inputs)
            check_layout(self.plan, layout)
            kernel = self.kernel(q, v)
            remember(self.checked_kernels, key, kernel)
        if inputs:
            given = self.plan.mask.passed
            check_values(given, inputs[: len(given)])
        if self.checks_reads and self.open_reads.questions:
            self.open_reads.check(inputs, q.shape[0])
        inputs = inputs if known is None else known.passed(inputs)
        return kernel.prepared(q, k, inputs, layout, wants_lse, known)

    def by_version(self, q: Tensor, inputs: Sequence[Tensor]) -> KnownInputs | None:
        """What is known of inputs by their versions: see `LastInputs.find`. A `Knows`.

        None on a CPU where the host reads the inputs: NumPy may have written into them, and comparing them is cheap.
        And None where routes decide, whose results are other tensors in every call.
        """
        numbers = self.deciding if q.device.type != "cpu" or self.finds_tiles else ()
        return self.last_inputs.find(inputs, numbers) if numbers else None

    @cached_property
    def finds_tiles(self) -> bool:
        """Whether tiles depend on inputs of which the host reads none on any device."""
        return self.plan.finds_device_tiles and not everywhere(self.backend).host_inputs(self.plan)

    @cached_property
    def deciding(self) -> tuple[int, ...]:
        """The numbers of the inputs from which calls make tensors; none where routes are among them."""
        copied, mask = self.plan.copied_inputs, self.plan.mask
        routed = any(each.name == route.name for each in copied for route in mask.routed)
        return () if routed else tuple(number for number, each in enumerate(mask.inputs) if each in copied)

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
    def open_reads(self) -> OpenReads:
        """The table reads that binding could not prove to be in bounds."""
        return OpenReads(self.plan.mask)

    @cached_property
    def split_kernel(self) -> SplitKernel:
        """The kernel for partial calls on backends that decode."""
        return SplitKernel.of(self.plan)

    def declared_call(self, backend: Backend, q: Tensor, inputs: Sequence[Tensor] = ()) -> KernelCall:
        """The call of a pattern whose tokens lie as declared; cached as in `forward`."""
        key = backend.name, q.device
        call = None if inputs else self.declared_calls.get(key)
        if call is None:
            if backend.name not in self.declared_kernels:
                self.declared_kernels[backend.name] = Kernel(declared_plan(self.plan), backend, CallStates())
            call = self.declared_kernels[backend.name].call(inputs, q, wants_lse=True)
            if not (inputs or self.plan.varies_by_batch):
                self.declared_calls[key] = call
        return call

    @cached_property
    def dense_kernel(self) -> Kernel:
        """The reference backend's kernel, which computes a few queries over gathered keys."""
        return Kernel(self.plan, REFERENCE, self.states)

    @cached_property
    def route_finder(self) -> RouteFinder:
        """Computes routed inputs in calls with all queries."""
        return RouteFinder.of(replace(self.plan, mask=without_products(self.plan.mask)), self.states)

    @cached_property
    def partial_route_finder(self) -> PartialRouteFinder:
        """Computes routed inputs in partial calls."""
        return PartialRouteFinder.of(replace(self.plan, mask=by_row(without_products(self.plan.mask))))

    @cached_property
    def product_finder(self) -> ProductFinder:
        """Computes products of vectors."""
        return ProductFinder.of(self.plan, self.states)

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

    @cached_property
    def default_kernel(self) -> Kernel:
        """The kernel of the backend; for "auto", of `tiled`, which serves all devices."""
        return self.kernel_of(everywhere(self.backend))

    def kernel(self, q: Tensor, v: Tensor) -> Kernel:
        """The kernel for these tensors: see `computing`. Cached by what that looks at."""
        key = q.dtype, q.device, q.shape[3], v.shape[3]
        kernel = self.chosen_kernels.get(key)
        if kernel is None:
            kernel = self.kernel_of(computing(self.backend, self.plan, q, v))
            remember(self.chosen_kernels, key, kernel)
        return kernel

    def kernel_of(self, backend: Backend) -> Kernel:
        """The kernel of this backend. Cached."""
        kernel = self.kernels.get(backend.name)
        return kernel or self.kernels.setdefault(backend.name, self._made_kernel(backend))

    def _made_kernel(self, backend: Backend) -> Kernel:
        if self.plan.mask.normalize is Normalize.BY_KEY:
            return KeySoftmaxKernel(self.plan, backend, self.dense_kernel, self.states)
        return planned_kernel(self.plan, backend, self.states)

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


def kinds(q: Tensor, k: Tensor, v: Tensor) -> tuple[object, ...]:
    """What checks and kernels depend on: shapes, dtypes and devices, not values and strides."""
    return q.shape, k.shape, v.shape, q.dtype, k.dtype, v.dtype, q.device, k.device, v.device


def remember(cache: dict[object, _T], key: object, value: _T) -> None:
    """Adds to a cache, which is emptied when it is full."""
    if len(cache) >= MOST_CACHED:
        cache.clear()
    cache[key] = value


class DerivedMask(NamedTuple):
    """A mask over other tokens than its own, compiled: a chunk, packed sequences, or copies of queries."""

    gathered: Gathered
    """The tokens, and the rewritten mask."""
    compiled: Bound
    """That mask, compiled."""
    kept: Kept
    """A cache of per-token values that depend on no input."""


Knows = Callable[[Bound, Tensor, Sequence[Tensor]], KnownInputs | None]
"""What is known of the inputs of a call, by the mask, q and the inputs; None where that is nothing."""


_COMPILED: Registry[CompiledMask] = Registry()
register, find, make_by = _COMPILED.register, _COMPILED.find, _COMPILED.make_by
