"""Computes routed inputs from q and k, by a generated torch module or by generated Triton kernels."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls.inputs import GroupRange
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.routing_module import emit_routing
from maskdsl.emit.triton.selection.selection_module import emit_selection
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.pooling import pool_number
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Draw, DrawnLists, Route
from maskdsl.ir.values.entries import HEAD
from maskdsl.runtime.backends.tile_choice import without_choice
from maskdsl.runtime.backends.triton_backend import check, computable, on
from maskdsl.runtime.base.call_cache import CallStates, Curves, curves_of
from maskdsl.runtime.base.input_tensors import as_given, as_value
from maskdsl.runtime.base.module_cache import load_module

_DTYPES = {Type.BOOL: torch.bool, Type.INT: torch.int64}


def dtype_of(declared: Input, q: Tensor) -> torch.dtype:
    """The dtype of a routed input: scores are floats of the type of queries, of float32 at least."""
    return _DTYPES.get(declared.type) or torch.promote_types(q.dtype, torch.float32)


@dataclass(frozen=True, eq=False)
class RouteFinder:
    """Computes the routed inputs of calls with all queries."""

    mask: MaskIR
    names: Mapping[str, str]
    """The modules' identifiers of the inputs, by declared name."""
    curves: Curves
    emit: Callable[[], str]
    """Emits the torch module."""
    emit_kernels: Callable[[], str]
    """Emits the Triton module."""

    @staticmethod
    def of(plan: KernelPlan, states: CallStates) -> "RouteFinder":
        """For a plan and its call states."""
        curves = curves_of(plan, states)
        return RouteFinder(
            plan.mask, plan.input_identifiers, curves, partial(emit_routing, plan), partial(emit_selection, plan)
        )

    @cached_property
    def module(self) -> ModuleType:
        """The torch module, loaded."""
        return load_module(self.emit(), f"{self.mask.name}_routing")

    @cached_property
    def kernel_module(self) -> ModuleType:
        """The Triton module, loaded."""
        return load_module(self.emit_kernels(), f"{self.mask.name}_selection")

    @property
    def declared(self) -> list[Input]:
        """The routed inputs."""
        return [each for each in self.mask.inputs if each not in self.mask.passed]

    def find(self, q: Tensor, k: Tensor, inputs: Sequence[Tensor], by_kernels: bool = False) -> list[Tensor]:
        """All routed inputs, from checked q and k [batch, heads, tokens, dim] and the given inputs in declared order.

        `by_kernels` runs Triton, and raises where `check` of `runtime/backends/triton_backend.py` does. Raises
        `GroupRange` if an input puts a token into a group that does not exist.
        """
        names = self.names
        values = {names[each.name]: as_value(each, x) for each, x in zip(self.mask.passed, inputs, strict=True)}
        draws = self.draws(q.device)
        values |= {**self.curves(q.device), **{names[name]: x for name, x in draws.items()}}
        module = self.kernel_module if by_kernels else self.module
        if by_kernels:
            check(q, k)
            q, k = computable(q), computable(k)
        try:
            kernel = without_choice("route_kernel", self.mask.name, q.device) if by_kernels else nullcontext()
            with on(q.device), kernel:
                routed = module.find(q.detach(), k.detach(), values)
        except module.OutsideGroups as error:
            raise AttnError(self.out_of_range(*error.args)) from None
        return [
            draws[each.name]
            if each.name in draws
            else as_given(each, routed[names[each.name]]).expand(self.shape(each, q)).contiguous()
            for each in self.declared
        ]

    @cached_property
    def lists(self) -> dict[str, DrawnLists]:
        """What is drawn, by name."""
        draws = (each for each in self.mask.routed if isinstance(each, Draw))
        return {each.name: each.lists for each in draws if each.lists is not None}

    def draws(self, device: torch.device) -> dict[str, Tensor]:
        """The tables of draws, by name: copies, as operators return tensors of their own."""
        return {name: torch.tensor(lists.array, device=device) for name, lists in self.lists.items()}

    def out_of_range(self, name: str, value: int, count: int, space: str | None = None) -> Diagnostic:
        """The error of a generated module's `OutsideGroups`, from its arguments."""
        pooled = next((each for each in self.mask.pooled_spaces if each.name == space), None)
        return GroupRange(name=name, value=value, count=count) if pooled is None else pool_number(pooled, name, value)

    def blank(self, q: Tensor) -> list[Tensor]:
        """Uninitialized tensors with the shapes and dtypes of the results of `find`."""
        shapes = [
            self.lists[each.name].shape if each.name in self.lists else self.shape(each, q) for each in self.declared
        ]
        pairs = zip(self.declared, shapes, strict=True)
        return [q.new_empty(shape, dtype=dtype_of(each, q)) for each, shape in pairs]

    def shape(self, declared: Input, q: Tensor) -> list[int]:
        """The shape of a routed input, in declared layout."""
        sizes = [q.shape[0] if each.kind is DimensionKind.BATCH else each.size or 0 for each in declared.dimensions]
        if not declared.sparse:
            return sizes
        return [*sizes[:-2], HEAD + sizes[-2] + 1 + sizes[-2] * self.most[declared.name]]

    @cached_property
    def most(self) -> dict[str, int]:
        """The keys that routes with lists select at most for a query, by name."""
        sparse = {each.name for each in self.mask.inputs if each.sparse}
        return {each.name: each.most for each in self.mask.routed if isinstance(each, Route) and each.name in sparse}
