"""What a pattern finds in queries and keys: its generated modules, and how they are called."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import GroupRange
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.routing_module import emit_routing
from maskdsl.emit.triton.selection.selection_module import emit_selection
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from maskdsl.runtime.backends.tile_choice import without_choice
from maskdsl.runtime.backends.triton_backend import check, computable, on
from maskdsl.runtime.base.call_cache import CallStates, Curves, curves_of
from maskdsl.runtime.base.input_tensors import as_given, as_value
from maskdsl.runtime.base.module_cache import load_module

DTYPES = {Type.BOOL: torch.bool, Type.INT: torch.int64}


@dataclass(frozen=True, eq=False)
class Finder:
    """The generated modules of a mask's routes, in plain torch and in Triton, and how they are called."""

    mask: MaskIR
    names: Mapping[str, str]
    """How modules call the inputs."""
    curves: Curves
    emit: Callable[[], str]
    """The source of the module in plain torch."""
    emit_kernels: Callable[[], str]
    """That of the one in Triton."""

    @staticmethod
    def of(plan: KernelPlan, states: CallStates) -> "Finder":
        """`states` are those of the plan."""
        curves = curves_of(plan, states)
        return Finder(
            plan.mask, plan.input_identifiers, curves, partial(emit_routing, plan), partial(emit_selection, plan)
        )

    @cached_property
    def module(self) -> ModuleType:
        return load_module(self.emit(), f"{self.mask.name}_routing")

    @cached_property
    def kernel_module(self) -> ModuleType:
        return load_module(self.emit_kernels(), f"{self.mask.name}_selection")

    @property
    def declared(self) -> list[Input]:
        """The inputs that are found."""
        return [each for each in self.mask.inputs if each not in self.mask.given]

    def find(self, q: Tensor, k: Tensor, inputs: Sequence[Tensor], by_kernels: bool = False) -> list[Tensor]:
        """All found inputs, from checked q and k [batch, heads, tokens, dim] and given inputs in declared order.

        Kernels need tensors that `serves` or `check` of `runtime/backends/triton_backend.py` lets pass.
        """
        names = self.names
        values = {names[each.name]: as_value(each, x) for each, x in zip(self.mask.given, inputs, strict=True)}
        values |= self.curves(q.device)
        module = self.kernel_module if by_kernels else self.module
        if by_kernels:
            check(q, k)
            q, k = computable(q), computable(k)
        try:
            kernel = without_choice("route_kernel", self.mask.name, q.device) if by_kernels else nullcontext()
            with on(q.device), kernel:
                found = module.find(q.detach(), k.detach(), values)
        except module.OutsideGroups as error:
            name, value, count = error.args
            raise AttnError(GroupRange(name=name, value=value, count=count)) from None
        return [
            as_given(each, found[names[each.name]]).expand(self.shape(each, q)).contiguous() for each in self.declared
        ]

    def blank(self, q: Tensor) -> list[Tensor]:
        """Tensors like those found, with anything in them."""
        return [q.new_empty(self.shape(each, q), dtype=DTYPES[each.type]) for each in self.declared]

    def shape(self, declared: Input, q: Tensor) -> list[int]:
        return [q.shape[0] if each.kind is DimensionKind.BATCH else each.size or 0 for each in declared.dimensions]
