# hole: header
"""What sinks and factors make of the results of attention: the skeleton, in which there are none."""
# end

import torch


# hole: pattern
def query_coordinates(device, **_):
    """The coordinates of queries that sinks and factors read: [batch or 1, heads or 1, tokens] or fewer axes."""
    return {}


# end
def at(values, rows):
    """Per-token values at `rows`, a triple of indices: [batch, heads, queries], from [batch, heads, tokens]."""
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    if rows is None:
        return values
    batch, head, token = rows
    return values[batch if values.shape[0] > 1 else 0, head if values.shape[1] > 1 else 0, token]


def finished(out, lse, inputs, rows=None):
    """The output [batch, heads, queries, dim] and log-sum-exp [batch, heads, queries] of all, from those of the keys.

    A sink is a key with a value of zero. `inputs` are the pattern's inputs by name, in declared order; per-token inputs
    are [batch or 1, heads or 1, tokens]. `rows` are the batch entry and the declared position of each query, integers
    that broadcast to [batch, heads, queries]; None if all queries come as declared. `lse` may be empty where there are
    no sinks.
    """
    batch, heads = out.shape[:2]
    head = torch.arange(heads, device=out.device)[:, None]
    entry = torch.arange(batch, device=out.device)[:, None, None]
    inputs = {**inputs, "head": head, "batch": entry}
    # hole: coordinates
    queries = query_coordinates(device=out.device, **inputs)
    # end
    if rows is not None:
        rows = rows[0], head, rows[1]
        inputs["batch"] = rows[0]
    # hole: finish
    assert not queries, "nothing reads them"
    # end
    return out, lse
