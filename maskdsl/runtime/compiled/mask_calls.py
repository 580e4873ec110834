"""`MaskCalls`: the calls of a mask at fixed lengths, with the kernels of its backend, made once and cached."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from maskdsl.emit.plan import KernelPlan, declared_plan
from maskdsl.ir.mask import Normalize
from maskdsl.ir.rewrites.product_inputs import without_products
from maskdsl.ir.rewrites.route_rows import by_row
from maskdsl.runtime.backends.available import REFERENCE, computing, everywhere
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import KernelCall, Saved
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.base.precision import allows_tf32
from maskdsl.runtime.base.validate import check_inputs, check_layout, check_sizes, check_tensors, check_values
from maskdsl.runtime.kernels.dispatch import Forward, Kernel, planned_kernel
from maskdsl.runtime.kernels.key_softmax import KeySoftmaxKernel
from maskdsl.runtime.kernels.known_inputs import KnownInputs, LastInputs
from maskdsl.runtime.kernels.open_reads import OpenReads
from maskdsl.runtime.kernels.partial_route_finder import PartialRouteFinder
from maskdsl.runtime.kernels.product_finder import ProductFinder
from maskdsl.runtime.kernels.route_finder import RouteFinder
from maskdsl.runtime.kernels.split_kernel import SplitKernel

_T = TypeVar("_T")

MOST_CACHED = 256
"""Entries of the caches of checked and of prepared calls."""


class MaskCalls:
    """A plan, the name of a backend, and the kernels and caches made for calls at fixed lengths."""

    def __init__(self, plan: KernelPlan, backend: str, checks_reads: bool) -> None:
        self.plan = plan
        self.backend = backend
        """A backend's name or "auto"."""
        self.checks_reads = checks_reads
        """Whether calls check unproven table reads. Masks derived from another do not: the original was checked."""
        self.states = CallStates()
        self.checked_kernels: dict[object, Kernel] = {}
        self.prepared_calls: dict[object, Forward] = {}
        self.prepared_gradients: dict[object, Callable[[Saved], list[Tensor]]] = {}
        self.kernels: dict[str, Kernel] = {}
        self.chosen_kernels: dict[object, Kernel] = {}
        self.declared_kernels: dict[str, Kernel] = {}
        self.declared_calls: dict[object, KernelCall] = {}
        self.last_inputs = LastInputs()

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """Raises `AttnError` if heads, lengths or inputs are not those of the mask."""
        check_sizes(self.plan, q, k, v)
        check_inputs(self.plan.mask.unmultiplied, inputs, q)

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
    def open_reads(self) -> OpenReads:
        """The table reads that binding could not prove to be in bounds."""
        return OpenReads(self.plan.mask)

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

    @cached_property
    def dense_kernel(self) -> Kernel:
        """The reference backend's kernel, which computes a few queries over gathered keys."""
        return Kernel(self.plan, REFERENCE, self.states)

    @cached_property
    def split_kernel(self) -> SplitKernel:
        """The kernel for partial calls on backends that decode."""
        return SplitKernel.of(self.plan)

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


Knows = Callable[[MaskCalls, Tensor, Sequence[Tensor]], KnownInputs | None]
"""What is known of the inputs of a call, by the mask, q and the inputs; None where that is nothing."""


def kinds(q: Tensor, k: Tensor, v: Tensor) -> tuple[object, ...]:
    """What checks and kernels depend on: shapes, dtypes and devices, not values and strides."""
    return q.shape, k.shape, v.shape, q.dtype, k.dtype, v.dtype, q.device, k.device, v.device


def remember(cache: dict[object, _T], key: object, value: _T) -> None:
    """Adds to a cache, which is emptied when it is full."""
    if len(cache) >= MOST_CACHED:
        cache.clear()
    cache[key] = value
