# hole: header
"""The products of vectors that scores read, in plain torch: the skeleton, of a pattern without any."""
# end

import torch

# Vectors are [batch or 1, heads or 1, tokens or 1, entries of windows, dim], in float32 at least.


class Multiply(torch.autograd.Function):
    """a @ b^T. What is not finite reaches no gradient of what does not read it: there 0 * NaN would be NaN."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b.transpose(-1, -2)

    @staticmethod
    def backward(ctx, grad):
        a, b = (x.nan_to_num(0, 0, 0) for x in ctx.saved_tensors)
        grad_a = (grad @ b).sum_to_size(a.shape) if ctx.needs_input_grad[0] else None
        grad_b = (grad.transpose(-1, -2) @ a).sum_to_size(b.shape) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b


class Times(torch.autograd.Function):
    """vector * factor. What is not finite reaches no gradient of the other one where none arrives."""

    @staticmethod
    def forward(ctx, vector, factor):
        ctx.save_for_backward(vector, factor)
        return vector * factor

    @staticmethod
    def backward(ctx, grad):
        vector, factor = ctx.saved_tensors
        nothing = grad == 0
        grad_vector = (grad * factor).masked_fill(nothing, 0).sum_to_size(vector.shape)
        return grad_vector, (grad * vector).masked_fill(nothing, 0).sum_to_size(factor.shape)


class Finite(torch.autograd.Function):
    """The vectors of queries. Those without mass send no gradient that is not finite."""

    @staticmethod
    def forward(ctx, x, without_mass):
        ctx.save_for_backward(without_mass)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        (without_mass,) = ctx.saved_tensors
        return grad.masked_fill(without_mass & grad.isfinite().logical_not(), 0), None


def of_each(a, b):
    """The product of two vectors of every token: [batch or 1, heads or 1, tokens or 1]."""
    if b.shape[-2] == 1:
        return Multiply.apply(a, b).squeeze(-1)
    if a.shape[-2] == 1:
        return Multiply.apply(b, a).squeeze(-1)
    return Multiply.apply(a.unsqueeze(-2), b.unsqueeze(-2)).flatten(-3)


def of_all(a, b):
    """The products of every token's vector, or every entry of a, with every entry of b: [..., tokens or entries of a].

    b has one token, and so has a if it has entries.
    """
    sizes = a.shape[2:-1] if a.dim() == 4 else a.shape[3:-1]
    products = Multiply.apply(a.flatten(2, -2), b.flatten(2, -2))
    return products.unflatten(-1, b.shape[3:-1]).unflatten(2, sizes)


def rows(table, indices, windows, dtype):
    """The vectors of a table at an index for each of its dimensions but the last; NaN for an index outside.

    An index is [batch or 1, heads or 1, tokens or 1] or fewer axes; or None for a dimension that is kept, of which
    `windows` has the first entry and the number of entries.
    """
    kept = [axis for axis, index in enumerate(indices) if index is None]
    for axis, window in zip(kept, windows, strict=True):
        table = table.narrow(axis, *window)
    chosen = [axis for axis in range(len(indices)) if axis not in kept]
    table = table.permute(*chosen, *kept, table.dim() - 1).to(dtype)
    if not chosen:
        return table[None, None, None]
    given = [torch.as_tensor(index, device=table.device) for index in indices if index is not None]
    given = [index.view(*(1,) * (3 - index.dim()), *index.shape) for index in given]
    sizes = table.shape[: len(given)]
    inside = [(index >= 0) & (index < size) for index, size in zip(given, sizes, strict=True)]
    result = table[tuple(index.clamp(0, size - 1) for index, size in zip(given, sizes, strict=True))]
    inside = torch.stack(torch.broadcast_tensors(*inside)).all(dim=0)
    return torch.where(inside[(...,) + (None,) * (result.dim() - 3)], result, torch.nan)


def of_groups(x, numbers, count, kind, among=None, shared=None):
    """The pooled vector of the group of each token, [batch, heads, tokens, dim]; zeros for tokens without one.

    `numbers` are the groups of tokens, [batch or 1, heads or 1, tokens] or fewer axes, of which those in [0, count)
    exist. `among`, bool likewise, says which tokens are pooled; heads of equal `shared` are pooled together.
    """
    batch, heads, tokens, dim = x.shape
    numbers = numbers.expand(batch, heads, tokens)
    exists = (numbers >= 0) & (numbers < count)
    members = exists if among is None else exists & among
    index = torch.where(members, numbers, count).unsqueeze(-1)
    sizes = x.new_zeros(batch, heads, count + 1, 1).scatter_add(2, index, x.new_ones(batch, heads, tokens, 1))
    index = index.expand(-1, -1, -1, dim)
    if kind == "max":
        pooled = x.new_full((batch, heads, count + 1, dim), -torch.inf).scatter_reduce(2, index, x, "amax")
    else:
        pooled = x.new_zeros(batch, heads, count + 1, dim).scatter_add(2, index, x)
    if shared is not None:
        alike = [[other for other, number in enumerate(shared) if number == pool] for pool in shared]
        stacked = [torch.stack([pooled[:, head] for head in pool]) for pool in alike]
        pooled = torch.stack([each.amax(dim=0) if kind == "max" else each.sum(dim=0) for each in stacked], dim=1)
        sizes = torch.stack([sum(sizes[:, head] for head in pool) for pool in alike], dim=1)
    if kind in ("mean", "root"):
        pooled = pooled / (sizes if kind == "mean" else sizes.sqrt()).clamp(min=1)
    pooled = pooled.masked_fill(sizes == 0, 0)
    pooled = torch.cat([pooled[:, :, :count], pooled.new_zeros(batch, heads, 1, dim)], dim=2)
    return pooled.gather(2, torch.where(exists, numbers, count).unsqueeze(-1).expand(-1, -1, -1, dim))


def shared_by(heads, key_heads):
    """The key head of each query head."""
    return [head * key_heads // heads for head in range(heads)]


def numbers_of(values, heads):
    """A number for each head."""
    return torch.as_tensor(values).flatten().expand(heads).tolist()


def times(vector, factor):
    """The vector of every token times its factor."""
    factor = torch.as_tensor(factor, device=vector.device, dtype=vector.dtype)
    factor = factor.view(*(1,) * (3 - factor.dim()), *factor.shape)
    return Times.apply(vector, factor.view(*factor.shape, *(1,) * (vector.dim() - 3)))


def with_rows(out, masses, rows):
    """The output [batch, heads, queries, dim] and, for every query, the sum of rows by their masses.

    `masses` are [batch, heads, queries, entries of windows]. A row that is not finite counts where it has mass. Masses
    of a query that are zero may still have gradients, as weights of its keys may cancel.
    """
    rows = rows.flatten(3, -2) if rows.dim() > 4 else rows.unsqueeze(3)
    masses = masses.flatten(3) if masses.dim() > 3 else masses.unsqueeze(-1)
    broken = rows.isfinite().all(dim=-1).logical_not()
    clean = rows.nan_to_num(0, 0, 0)
    if rows.shape[2] == 1:
        total = masses @ clean[:, :, 0]
        poisoned = (masses != 0).to(masses.dtype) @ broken[:, :, 0].unsqueeze(-1).to(masses.dtype)
    else:
        total = masses * clean[:, :, :, 0]
        poisoned = (masses != 0) & broken
    without_mass = (masses == 0).all(dim=-1, keepdim=True)
    return (out + Finite.apply(total.masked_fill(poisoned != 0, torch.nan), without_mass)).to(out.dtype)


def of_heads(k, heads):
    """Keys [batch, key heads, tokens, dim] repeated for the query heads that share them."""
    return k if k.shape[1] == heads else k.repeat_interleave(heads // k.shape[1], dim=1)


def at(values, positions):
    """Per-token values [batch or 1, heads or 1, tokens], from these or fewer axes, at positions [batch, tokens]."""
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    if positions is None:
        return values
    positions = positions.clamp(0, values.shape[-1] - 1)[:, None]
    return torch.take_along_dim(values.expand(len(positions), -1, -1), positions, dim=-1)


def joined(vectors, x):
    """The vectors of a side side by side, in the type of x, [batch, heads, tokens, dims]."""
    vectors = [each.expand(*x.shape[:-1], -1) for each in vectors]
    return torch.cat(vectors, dim=-1).to(x.dtype)


# hole: pattern
def token_coordinates(device, **_):
    """The coordinates that vectors read, in declared order: [batch or 1, heads or 1, tokens] or fewer axes."""
    return {}


def products(q, k, v, dtype, **_):
    """The products by name; what attention multiplies and adds up, None for the given ones; rows of values."""
    return {}, None, None, None, []


# end
def find(q, k, v, positions, inputs, first_key=0):
    """The products by name, [batch, heads, ...], the queries, keys and values of attention, and the rows of values.

    q is [batch, heads, queries, dim] at declared positions [batch, queries], None for all; k is [batch, key heads,
    keys, dim], the keys of the pattern from `first_key` on, and v likewise. `inputs` are the pattern's inputs by name.
    Keys and values come with as many heads as queries, if they are others than the given ones.
    """
    batch, heads, _, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    inputs = {
        **inputs,
        "batch": torch.arange(batch, device=q.device)[:, None, None],
        "head": torch.arange(heads, device=q.device)[:, None],
    }
    # hole: coordinates
    queries = keys = token_coordinates(device=q.device, **inputs)
    # end
    queries = {f"q_{name}": at(value, positions) for name, value in queries.items()}
    last_key = first_key + k.shape[2]
    keys = {f"k_{name}": at(value, None)[..., first_key:last_key] for name, value in keys.items()}
    tables, query_vectors, key_vectors, value, value_rows = products(q, k, v, dtype, **{**inputs, **queries, **keys})
    tables = {name: product.expand(batch, heads, *product.shape[2:]) for name, product in tables.items()}
    query = q if query_vectors is None else joined(query_vectors, q)
    key = k if key_vectors is None else joined(key_vectors, of_heads(k, heads))
    value = v if value is None else joined([value], of_heads(v, heads))
    return tables, query, key, value, value_rows
