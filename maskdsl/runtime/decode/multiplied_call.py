"""Partial calls that multiply other vectors: the same call on a mask that is given the products of vectors."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode.paging import CallPositions, all_keys, normalized, present_keys
from maskdsl.runtime.kernels.product_finder import Products


class MultipliedCall(NamedTuple):
    """A partial call of a mask that is given the products."""

    compiled: Bound
    q: Tensor
    k: Tensor
    v: Tensor
    inputs: Sequence[Tensor]
    positions: CallPositions
    products: Products
    values: Mapping[str, Tensor]
    """All inputs but the last by name."""
    present: Tensor | None = None
    """Where k and v have pooled keys already: bool [batch, keys], the keys that exist."""


def multiplied(
    compiled: Bound, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], positions: CallPositions
) -> MultipliedCall:
    """The partial call with its products computed. Gradients flow back to q, k, v and the inputs."""
    starts, lengths, table = normalized(compiled, q, k, positions)
    kernels = compiled.for_products_by_row
    (keys, present), (key_values, _) = (all_keys(compiled, x, lengths, table, inputs) for x in (k, v))
    rows = starts.long()[:, None] + torch.arange(q.shape[2], device=q.device)
    values = dict(zip((each.name for each in compiled.plan.mask.unmultiplied), inputs, strict=True))
    products = compiled.product_finder.find(q, keys, key_values, values, rows)
    values |= products.tables
    given = given_inputs(kernels, values, starts)
    if products.k is keys and products.v is key_values:
        return MultipliedCall(kernels, products.q, k, v, given, positions, products, values)
    if compiled.plan.mask.keys.is_pooled:  # what is multiplied is a function of pools, and no pool of functions
        made = products.q, products.k, products.v
        return MultipliedCall(kernels, *made, given, positions, products, values, present)
    if table is not None:
        present = present_keys(compiled, k, lengths, table)
        positions = positions._replace(page_table=_page_table(table, k.shape[2], present.shape[1]))
        k, v = (_in_pages(x, k.shape[2]) for x in (products.k, products.v))
    else:
        k, v = products.k, products.v
    return MultipliedCall(kernels, products.q, k, v, given, positions, products, values)


def given_inputs(kernels: Bound, values: Mapping[str, Tensor], starts: Tensor) -> list[Tensor]:
    """The inputs of a mask made by `products_by_row`: the last one is the position of each entry's first query."""
    *others, _ = kernels.plan.mask.inputs
    return [*(values[each.name] for each in others), starts]


def _page_table(table: Tensor, size: int, keys: int) -> Tensor:
    """The table of pages that lie entry by entry, -1 where there was none."""
    batch, pages = len(table), -(-keys // size)
    made = torch.arange(batch * pages, device=table.device, dtype=torch.int32).view(batch, pages)
    return made.masked_fill(table[:, :pages] < 0, -1)


def _in_pages(x: Tensor, size: int) -> Tensor:
    """Keys or values [batch, heads, keys, dim] as pages [batch * pages, heads, page size, dim]."""
    x = pad(x, (0, 0, 0, -x.shape[2] % size))
    batch, heads, keys, dim = x.shape
    return x.reshape(batch, heads, keys // size, size, dim).transpose(1, 2).flatten(0, 1)
