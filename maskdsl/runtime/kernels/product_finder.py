"""Computes products of vectors before attention: tables that scores read, and what attention multiplies and adds up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.selection import PooledInPart
from maskdsl.base.errors.calls.vectors import VectorLength
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.products_module import emit_products
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.values.token_vectors import TableRow, Vector, vector_leaves
from maskdsl.runtime.base.call_cache import CallStates, Curves, curves_of
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.module_cache import load_module

MOST_PRODUCTS = 2**27
"""The most products of tokens with entries of tables that a call computes at once: 512 MiB of float32."""
_FEWEST_TOKENS = 128


def tokens_at_once(mask: MaskIR, side: Side, q: Tensor, tokens: int) -> int | None:
    """How many of a side's tokens a call takes at a time, so that products take memory linear in n; None for all.

    What needs all tokens takes all: routes, pools, and other normalizations than by query.
    """
    windows = [each.windows for each in mask.products if each.per is side]
    windows += [each.windows for each in mask.values] if side is Side.QUERY else []
    entries = sum(prod(each.count for each in of_product) for of_product in windows)
    needs_all = mask.routed or mask.pooled_vectors or mask.keys.is_pooled or mask.queries.is_pooled
    a_token = q.shape[0] * q.shape[1] * entries
    if needs_all or mask.normalize is not Normalize.BY_QUERY or a_token * tokens <= MOST_PRODUCTS:
        return None
    return max(_FEWEST_TOKENS, MOST_PRODUCTS // 4 // a_token)


class Products(NamedTuple):
    """What a call computes of its vectors. Gradients flow back to them."""

    tables: Mapping[str, Tensor]
    """The products by declared name, [batch, heads, ...]."""
    q: Tensor
    """What attention multiplies, [batch, heads, queries, dims]."""
    k: Tensor
    """[batch, key heads, keys, dims]; as many heads as queries have, if they are not the given keys."""
    v: Tensor
    """[batch, key heads, keys, dim], with as many heads as k."""
    rows: Sequence[Tensor]
    """The vectors of each value term, [batch or 1, heads or 1, queries or 1, entries of windows, dim]."""


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

    def find(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Mapping[str, Tensor],
        positions: Tensor | None = None,
        first_key: int = 0,
    ) -> Products:
        """The products of q [batch, heads, queries, dim], and k and v [batch, key heads, keys, dim] with pooled keys.

        `inputs` are those known before, by declared name. `positions`, int64 [batch, queries], are declared ones; None
        for all queries. Keys are those of the pattern from `first_key` on. Raises `VectorLength`, and
        `PooledInPart` where some of the tokens are pooled.
        """
        names, mask = self.plan.input_identifiers, self.plan.mask
        if positions is not None and mask.pooled_vectors:
            raise AttnError(PooledInPart(pattern=mask.name, span=mask.span))
        _check_lengths(mask, q.shape[-1], v.shape[-1])
        values = {names[each.name]: as_value(each, inputs[each.name]) for each in mask.unmultiplied}
        values |= self.curves(q.device)
        tables, query, key, value, rows = self.module.find(q, k, v, positions, values, first_key)
        if key.shape[1] != value.shape[1]:
            key, value = (_of_heads(x, q.shape[1]) for x in (key, value))
        return Products({each.name: tables[names[each.name]] for each in mask.products}, query, key, value, rows)

    def with_rows(self, out: Tensor, masses: Tensor, rows: Tensor) -> Tensor:
        """The output with the rows of a value term, by their masses [batch, heads, queries, entries of windows]."""
        result: Tensor = self.module.with_rows(out, masses, rows)
        return result


def _of_heads(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _check_lengths(mask: MaskIR, dim: int, value_dim: int) -> None:
    """Raises `VectorLength` where an integer that a pattern declares is not the head dim that it meets in a call."""
    products = [(each.left, each.right) for each in mask.products] + [(each.query, each.key) for each in mask.pairs]
    for vectors in products:
        leaves = [leaf for each in vectors for leaf in vector_leaves(each)]
        if len({_length(mask, each, dim) for each in leaves}) > 1:
            _check_rows(mask, leaves, dim, dim, "q and k")
    values = (each for each in (mask.key_value, *(term.vector for term in mask.values)) if each is not None)
    _check_rows(mask, [leaf for each in values for leaf in vector_leaves(each)], dim, value_dim, "v")


def _check_rows(mask: MaskIR, leaves: Iterable[Vector], dim: int, expected: int, whose: str) -> None:
    for each in leaves:
        if isinstance(each, TableRow) and _length(mask, each, dim) != expected:
            declared, length = mask.input(each.input), _length(mask, each, dim)
            assert declared is not None
            raise AttnError(VectorLength(name=each.input, found=length, whose=whose, dim=expected, span=declared.span))


def _length(mask: MaskIR, vector: Vector, dim: int) -> int:
    """The length of a vector in a call whose q and k have this head dim."""
    if not isinstance(vector, TableRow):
        return dim
    declared = mask.input(vector.input)
    assert declared is not None
    last = declared.dimensions[-1]
    return dim if last.kind is DimensionKind.DIM else last.size or 0
