"""Computes products of vectors before attention: the tables that scores read, and what attention multiplies."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.products_module import emit_products
from maskdsl.runtime.base.call_cache import CallStates, Curves, curves_of
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.module_cache import load_module


class Products(NamedTuple):
    """What a call computes of its vectors. Gradients flow back to them."""

    tables: Mapping[str, Tensor]
    """The products by declared name, [batch, heads, ...]."""
    q: Tensor
    """What attention multiplies, [batch, heads, queries, dims]."""
    k: Tensor
    """[batch, key heads, keys, dims]; as many heads as queries have, if they are not the given keys."""


@dataclass(frozen=True, eq=False)
class ProductFinder:
    """Computes the products of one plan."""

    plan: KernelPlan
    curves: Curves

    @staticmethod
    def of(plan: KernelPlan, states: CallStates) -> "ProductFinder":
        """For a plan and its call states."""
        return ProductFinder(plan, curves_of(plan, states))

    @cached_property
    def module(self) -> ModuleType:
        """The generated module, loaded."""
        return load_module(emit_products(self.plan), f"{self.plan.mask.name}_products")

    def find(self, q: Tensor, k: Tensor, inputs: Mapping[str, Tensor], positions: Tensor | None = None) -> Products:
        """The products of q [batch, heads, queries, dim] and k [batch, key heads, keys, dim], pooled keys included.

        `inputs` are those known before, by declared name. `positions`, int64 [batch, queries], are declared ones; None
        for all queries. Keys are the first ones of the pattern.
        """
        names, mask = self.plan.input_identifiers, self.plan.mask
        values = {names[each.name]: as_value(each, inputs[each.name]) for each in mask.unmultiplied}
        values |= self.curves(q.device)
        tables, query, key = self.module.find(q, k, positions, values)
        return Products({each.name: tables[names[each.name]] for each in mask.products}, query, key)


def like_keys(v: Tensor, k: Tensor) -> Tensor:
    """Values with as many heads as the keys."""
    return v if v.shape[1] == k.shape[1] else v.repeat_interleave(k.shape[1] // v.shape[1], dim=1)
