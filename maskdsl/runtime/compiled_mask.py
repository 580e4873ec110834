"""What operators compute: a mask bound at fixed lengths and a backend, and all that is made for them on the way.

Operators know it by its handle: see `runtime/registry.py`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from maskdsl.emit.plan import KernelPlan, make_plan
from maskdsl.ir.rewrites.chunk import Chunk, Gathered
from maskdsl.ir.rewrites.route_rows import by_row, for_some_queries
from maskdsl.ir.routes import Routed
from maskdsl.runtime.backends.available import AUTO, REFERENCE, everywhere, serving
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.base.digest import digest
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.precision import allows_tf32
from maskdsl.runtime.base.validate import (
    Signature,
    check_inputs,
    check_layout,
    check_sizes,
    check_tensors,
    check_values,
)
from maskdsl.runtime.kernels.dispatch import Forward, Kernel
from maskdsl.runtime.kernels.open_reads import OpenReads
from maskdsl.runtime.kernels.part_finder import PartFinder
from maskdsl.runtime.kernels.route_finder import Finder
from maskdsl.runtime.kernels.split_kernel import SplitKernel
from maskdsl.runtime.registry import Entry, Registry

_T = TypeVar("_T")

MOST_CHECKED = 256
"""Kinds of calls that one compiled mask knows to be right."""
_MOST_OTHERS = 16
"""Numbers of other tokens for which masks, kernels and tiles are kept."""


class CompiledMask(Entry, Protocol):
    """What an attention computes. Immutable but for what it keeps."""

    @property
    def signature(self) -> Signature:
        """What a call names."""

    def bound(self, queries: int, keys: int) -> "Bound":
        """At these lengths; they need not be those of a pattern whose lengths are fixed."""

    def longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> "Bound":
        """For sequences that begin and end at these places."""

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """Raises if shapes, types or devices are wrong, as far as they can be before there are lengths."""


class Bound:
    """A plan for the backend of a name, which may be "auto"."""

    def __init__(
        self, plan: KernelPlan, backend: str, routes: tuple[Routed, ...] = (), checks_reads: bool = False
    ) -> None:
        self.plan = plan
        self.backend = backend
        self.routes = routes
        """What was found to make those of the inputs that have its names: a row for each query of the mask."""
        self.checks_reads = checks_reads
        """Whether calls ask for reads that bind left open: those of a mask as it was bound, not of one made of it."""
        self.handle = digest((plan, backend))
        mask = plan.mask
        self.signature = Signature(
            mask.name, mask.span, {each.name: each.span for each in mask.given}, bool(mask.routed)
        )
        self.states = CallStates()
        self.others: OrderedDict[tuple[object, ...], Over] = OrderedDict()
        self.lock = Lock()
        self.checked: dict[object, Kernel] = {}
        self.settled: dict[object, Forward] = {}
        self.kernels: dict[str, Kernel] = {}

    def bound(self, queries: int, keys: int) -> "Bound":
        return self

    def longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> "Bound":
        return self

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        check_sizes(self.plan, q, k, v)
        check_inputs(self.plan.mask.inputs, inputs, q)

    def bare(self) -> "Bound":
        return Bound(self.plan, self.backend, self.routes, self.checks_reads)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], layout: str, wants_lse: bool
    ) -> tuple[Tensor, Tensor]:
        """The results of a call. Raises if anything is wrong with it.

        What a pattern without inputs computes is settled by the first call of a kind, but for the values of q, k and v.
        """
        if inputs:
            return self.prepared(q, k, v, inputs, layout, wants_lse)(q, k, v)
        key = _kinds(q, k, v), layout, wants_lse, q.dtype == torch.float32 and allows_tf32()
        found = self.settled.get(key)
        if found is None:
            found = self.prepared(q, k, v, inputs, layout, wants_lse)
            if not self.plan.varies_by_batch:  # such calls have a state for every batch, of which few are kept
                _remember(self.settled, key, found)
        return found(q, k, v)

    def prepared(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], layout: str, wants_lse: bool
    ) -> Forward:
        """What computes a call, which is checked: shapes, types, devices and the layout once for all calls like it."""
        key = (_kinds(q, k, v), layout, *[(x.shape, x.dtype, x.device) for x in inputs])
        kernel = self.checked.get(key)
        if kernel is None:
            check_tensors(q, k, v, layout)
            self.check(q, k, v, inputs)
            check_layout(self.plan, layout)
            kernel = self.kernel(q, v)
            _remember(self.checked, key, kernel)
        if inputs:
            given = self.plan.mask.given
            check_values(given, inputs[: len(given)])
        if self.checks_reads and self.reads.questions:
            self.reads.check(inputs, q.shape[0])
        return kernel.prepared(q, k, inputs, layout, wants_lse)

    @cached_property
    def reads(self) -> OpenReads:
        return OpenReads(self.plan.mask)

    @cached_property
    def decoder(self) -> SplitKernel:
        """The kernel for queries that stand anywhere."""
        return SplitKernel.of(self.plan)

    @cached_property
    def dense(self) -> Kernel:
        """That of the reference backend: what serves a few queries and those of the keys that they attend."""
        return Kernel(self.plan, REFERENCE, self.states)

    @cached_property
    def finder(self) -> Finder:
        """What finds the inputs that nobody gives."""
        return Finder.of(self.plan, self.states)

    @cached_property
    def part_finder(self) -> PartFinder:
        """What finds them for some of the queries."""
        return PartFinder.of(replace(self.plan, mask=by_row(self.plan.mask)))

    @cached_property
    def in_parts(self) -> "Bound":
        """What computes calls of some of the queries, from given inputs and those that `part_finder` finds."""
        mask = self.plan.mask
        if not mask.routed:
            return self
        return Bound(replace(self.plan, mask=for_some_queries(mask)), self.backend, mask.routed)

    def over(self, kind: type[Gathered], *sizes: int) -> "Over":
        """The mask over other tokens of such numbers, for the same backend."""
        key = kind, *sizes
        with self.lock:
            if key not in self.others:
                gathered = kind(self.plan.mask, *sizes)
                routes = self.routes if kind is Chunk else ()  # packed queries have no row each
                self.others[key] = Over(gathered, Bound(make_plan(gathered.mask), self.backend, routes), Kept())
            self.others.move_to_end(key)
            while len(self.others) > _MOST_OTHERS:
                self.others.popitem(last=False)
            found = self.others[key]
        register(found.compiled)
        return found

    @cached_property
    def first(self) -> Kernel:
        """The only kernel, or the one that serves all devices."""
        return self.kernel_of(everywhere(self.backend))

    def kernel(self, q: Tensor, v: Tensor) -> Kernel:
        """The one for tensors like these."""
        return self.kernel_of(serving(q, v)) if self.backend == AUTO else self.first

    def kernel_of(self, backend: Backend) -> Kernel:
        kernel = self.kernels.get(backend.name)
        return kernel or self.kernels.setdefault(backend.name, Kernel(self.plan, backend, self.states))

    def __reduce__(self) -> tuple[object, ...]:
        return Bound, (self.plan, self.backend, self.routes, self.checks_reads)

    def __deepcopy__(self, memo: object) -> "Bound":
        return self


def _kinds(q: Tensor, k: Tensor, v: Tensor) -> tuple[object, ...]:
    """What checks and kernels see of tensors: all but values and strides."""
    return q.shape, k.shape, v.shape, q.dtype, k.dtype, v.dtype, q.device, k.device, v.device


def _remember(known: dict[object, _T], key: object, value: _T) -> None:
    """So that all that is known stays small."""
    if len(known) >= MOST_CHECKED:
        known.clear()
    known[key] = value


class Over(NamedTuple):
    """A mask over other tokens than its own."""

    gathered: Gathered
    compiled: Bound
    kept: Kept
    """Values of tokens that no input decides."""


_COMPILED: Registry[CompiledMask] = Registry()
register, find = _COMPILED.register, _COMPILED.find
