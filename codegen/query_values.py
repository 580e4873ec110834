# hole: header
"""The sinks and the factor of each query in plain torch: the skeleton, in which there are none."""
# end

import torch

from maskdsl.codegen.functions import guarded

# hole: pattern
QUERY_FUNCTIONS = ()


def coordinates_of_queries(device, **_):
    """The coordinates of queries that sinks and the factor read: [batch or 1, heads or 1, tokens] or fewer axes."""
    return {}


# end
def query_values(q, inputs, positions=None, counted=None):
    """The scores of the sinks, then the factor of the output, of each query: [batch, heads, queries], float32 or wider.

    q is [batch, heads, queries, dim]. `inputs` are the pattern's inputs by name, in declared order; per-token inputs
    are [batch or 1, heads or 1, tokens]. `positions` are the declared positions of the queries in laid-out order,
    [batch or 1, heads or 1, queries]; None for the same order. `counted` says, for each result, which queries have a
    gradient: others send none to what it reads, whatever its derivative is.
    """
    batch, heads, length, _ = q.shape
    inputs = {
        **inputs,
        "batch": torch.arange(batch, device=q.device)[:, None, None],
        "head": torch.arange(heads, device=q.device)[:, None],
    }
    queries = coordinates_of_queries(device=q.device, **inputs)

    def laid_out(values):
        values = values.view(*(1,) * (3 - values.dim()), *values.shape)
        return values if positions is None else torch.take_along_dim(values, positions, dim=-1)

    values = {**inputs, **{f"q_{name}": laid_out(value) for name, value in queries.items()}}
    results, s = [], q.new_zeros((), dtype=torch.promote_types(q.dtype, torch.float32))
    for number, function in enumerate(QUERY_FUNCTIONS):
        known = values if counted is None else guarded(values, inputs, counted[number])
        results.append(function(s, **known).to(q.device).expand(batch, heads, length))
    return results


def query_gradients(q, inputs, positions, wanted, grads):
    """The gradients of the `wanted` inputs, by name, from those of the results of `query_values`."""
    leaves = {name: inputs[name].detach().requires_grad_() for name in wanted}
    with torch.enable_grad():
        values = query_values(q, {**inputs, **leaves}, positions, [grad != 0 for grad in grads])
    pairs = [(value, grad.to(value.dtype)) for value, grad in zip(values, grads, strict=True) if value.requires_grad]
    if not pairs:
        return {}
    values, grads = zip(*pairs, strict=True)
    named = torch.autograd.grad(values, [*leaves.values()], grads, materialize_grads=True)
    return dict(zip(leaves, named, strict=True))
