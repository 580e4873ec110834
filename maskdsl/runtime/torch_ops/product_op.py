"""The operator `maskdsl::multiply`: attention that multiplies other vectors, in calls with all queries.

It computes products of vectors, and calls `maskdsl::attention` with them as inputs. A backward pass computes the
products again under autograd, and not the attention: see `gather_ops.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskdsl.ir.expressions import Side
from maskdsl.runtime.base.validate import check_inputs, check_sizes, check_tensors, check_values
from maskdsl.runtime.compiled.compiled_mask import Bound, find, register
from maskdsl.runtime.kernels.product_finder import Products
from maskdsl.runtime.torch_ops.gather_ops import Attend, define
from maskdsl.runtime.torch_ops.masses import attend_masses


def attend_multiplied(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], handle: str) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp of a call with all queries; `inputs` are those known before products."""
    out, lse = _MULTIPLY(q, k, v, inputs, [], None, handle)
    return out, lse


def _multiply(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    page_size: int | None,
    handle: str,
) -> tuple[Tensor, Tensor]:
    """The `Gather` of `maskdsl::multiply`."""
    compiled = find(handle).bound(q.shape[2], k.shape[2])
    mask = compiled.plan.mask
    check_multiplied(compiled, q, k, v, inputs)
    kernels = compiled.for_products
    values = dict(zip((each.name for each in mask.unmultiplied), inputs, strict=True))
    kernel, read = compiled.default_kernel, compiled.default_kernel.values(inputs, q.device)
    q, k, v = (kernel.all_tokens(side, x, read) for side, x in ((Side.QUERY, q), (Side.KEY, k), (Side.KEY, v)))
    products = compiled.product_finder.find(q, k, v, values)
    values |= products.tables
    register(kernels)
    given = [values[each.name] for each in kernels.plan.mask.inputs]
    out, lse = attend(products.q, products.k, products.v, given, kernels.handle)
    for number, term in enumerate(mask.values):
        weighed = compiled.weighed(number)
        register(weighed)
        values[term.name] = blank_masses(products, out, number)
        given = [values[each.name] for each in weighed.plan.mask.inputs]
        ones = products.k.new_ones(*products.k.shape[:3], 1)
        masses, _ = attend_masses(term.name, lse.detach())(products.q, products.k, ones, given, weighed.handle)
        out = compiled.product_finder.with_rows(out, masses, products.rows[number])
    return out, lse


def check_multiplied(compiled: Bound, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
    """Checks a call with all tokens. Raises `AttnError`."""
    mask = compiled.plan.mask
    check_tensors(q, k, v, "declared")
    check_sizes(compiled.plan, q, k, v)
    check_inputs(mask.unmultiplied, inputs, q)
    check_values(mask.passed, inputs[: len(mask.passed)])
    if compiled.checks_reads:
        compiled.open_reads.check(inputs, q.shape[0])


def blank_masses(products: Products, out: Tensor, number: int) -> Tensor:
    """A table of masses of zero, [batch, heads, queries, entries of windows], in float32 at least."""
    sizes = products.rows[number].shape[3:-1]
    return products.q.new_zeros(*products.q.shape[:3], *sizes, dtype=torch.promote_types(out.dtype, torch.float32))


_MULTIPLY = define("multiply", _multiply)
