"""What a pattern finds in queries and keys: its generated modules, and how they are called."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from types import ModuleType

import torch
from torch import Tensor

from maskdsl.diagnostics import AttnError
from maskdsl.emit.routing import emit_routing
from maskdsl.emit.triton_selection import emit_selection
from maskdsl.errors.inputs import GroupRange
from maskdsl.ir.mask import DimensionKind, Input
from maskdsl.ir.ops import Type
from maskdsl.plan import KernelPlan
from maskdsl.runtime.choice import without_choice
from maskdsl.runtime.modules import load_module
from maskdsl.runtime.state import States
from maskdsl.runtime.triton import check, computable, on
from maskdsl.runtime.values import as_given, as_value

DTYPES = {Type.BOOL: torch.bool, Type.INT: torch.int64}


class Finder:
    """The generated modules of a plan's routes, in plain torch and in Triton, and how they are called."""

    def __init__(self, plan: KernelPlan, states: States) -> None:
        self.plan = plan
        self.states = states

    @cached_property
    def source(self) -> str:
        return emit_routing(self.plan)

    @cached_property
    def module(self) -> ModuleType:
        return load_module(self.source, f"{self.plan.mask.name}_routing")

    @cached_property
    def kernel_source(self) -> str:
        return emit_selection(self.plan)

    @cached_property
    def kernel_module(self) -> ModuleType:
        return load_module(self.kernel_source, f"{self.plan.mask.name}_selection")

    @property
    def declared(self) -> list[Input]:
        """The inputs that are found."""
        return [each for each in self.plan.mask.inputs if each not in self.plan.mask.given]

    def find(self, q: Tensor, k: Tensor, inputs: Sequence[Tensor], by_kernels: bool = False) -> list[Tensor]:
        """All found inputs, from checked q and k [batch, heads, tokens, dim] and given inputs in declared order.

        Kernels need tensors that `serves` or `check` of `runtime/triton.py` lets pass.
        """
        names = self.plan.input_identifiers
        values = {names[each.name]: as_value(each, x) for each, x in zip(self.plan.mask.given, inputs, strict=True)}
        values |= self.states.find(self.plan, {}, q.shape[0]).curves(q.device)
        module = self.kernel_module if by_kernels else self.module
        if by_kernels:
            check(q, k)
            q, k = computable(q), computable(k)
        try:
            kernel = without_choice("route_kernel", self.plan, q.device) if by_kernels else nullcontext()
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
