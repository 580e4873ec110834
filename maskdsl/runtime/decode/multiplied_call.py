"""Partial calls whose scores read products of vectors: the same call on a mask that is given the products."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskdsl.runtime.compiled_mask import Bound
from maskdsl.runtime.decode.paging import CallPositions, all_keys, gathered_pages, normalized, present_keys
from maskdsl.runtime.kernels.product_finder import like_keys


class MultipliedCall(NamedTuple):
    """A partial call of a mask that is given the products."""

    compiled: Bound
    q: Tensor
    k: Tensor
    v: Tensor
    inputs: Sequence[Tensor]
    positions: CallPositions


def multiplied(
    compiled: Bound, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], positions: CallPositions
) -> MultipliedCall:
    """The partial call with its products computed. Gradients flow back to q, k and the inputs."""
    starts, lengths, table = normalized(compiled, q, k, positions)
    kernels = compiled.for_products_by_row
    keys, _ = all_keys(compiled, k, lengths, table, inputs)
    rows = starts.long()[:, None] + torch.arange(q.shape[2], device=q.device)
    values = dict(zip((each.name for each in compiled.plan.mask.unmultiplied), inputs, strict=True))
    products = compiled.product_finder.find(q, keys, values, rows)
    given = given_inputs(kernels, {**values, **products.tables}, starts)
    if products.k is keys:
        return MultipliedCall(kernels, products.q, k, v, given, positions)
    present = present_keys(compiled, k, lengths, table)
    values_of_keys = like_keys(gathered_pages(v, table, present), products.k)
    if table is None:
        return MultipliedCall(kernels, products.q, products.k, values_of_keys, given, positions)
    size = k.shape[2]
    pages = -(-present.shape[1] // size)
    new_table = torch.arange(len(q) * pages, device=q.device, dtype=torch.int32).view(len(q), pages)
    new_table = new_table.masked_fill(table[:, :pages] < 0, -1)
    k, v = (_in_pages(x, size) for x in (products.k, values_of_keys))
    return MultipliedCall(kernels, products.q, k, v, given, positions._replace(page_table=new_table))


def given_inputs(kernels: Bound, values: Mapping[str, Tensor], starts: Tensor) -> list[Tensor]:
    """The inputs of a mask made by `products_by_row`: the last one is the position of each entry's first query."""
    *others, _ = kernels.plan.mask.inputs
    return [*(values[each.name] for each in others), starts]


def _in_pages(x: Tensor, size: int) -> Tensor:
    """Keys or values [batch, heads, keys, dim] as pages [batch * pages, heads, page size, dim]."""
    x = pad(x, (0, 0, 0, -x.shape[2] % size))
    batch, heads, keys, dim = x.shape
    return x.reshape(batch, heads, keys // size, size, dim).transpose(1, 2).flatten(0, 1)
