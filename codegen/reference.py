# hole: header
"""Dense attention in plain torch: the skeleton of the reference backend, in which every query attends every key."""
# end

import torch


# hole: pattern
def token_coordinates(device, **_):
    """The coordinates that pairs read, in declared order: [batch or 1, heads or 1, tokens] or fewer axes."""
    return {}


def allowed(**_):
    """Whether the query attends the key."""
    return torch.tensor(True)


# end
def pair_values(queries, keys, inputs):
    """The arguments of pair functions, broadcasting to [batch, heads, queries, keys]."""
    queries = {f"q_{name}": value.unsqueeze(-1) for name, value in queries.items()}
    keys = {f"k_{name}": value.unsqueeze(-2) for name, value in keys.items()}
    return {**inputs, **queries, **keys}


def attended(q, count, inputs):
    """The arguments of pair functions, and the pairs that attend, bool [batch, heads, queries, keys], of `count` keys.

    `inputs` are the pattern's inputs by name; per-token inputs are [batch or 1, heads or 1, tokens].
    """
    batch, heads, length, _ = q.shape
    inputs = {
        **inputs,
        "batch": torch.arange(batch, device=q.device)[:, None, None],
        "head": torch.arange(heads, device=q.device)[:, None],
    }
    # hole: coordinates
    queries = keys = token_coordinates(device=q.device, **inputs)
    # end
    inputs["batch"], inputs["head"] = inputs["batch"][..., None], inputs["head"][..., None]
    values = pair_values(queries, keys, inputs)
    return values, allowed(**values).to(q.device).expand(batch, heads, length, count)


def multiplied(x, y):
    """x [batch, heads, rows, n] times y [batch, key heads, n, m], which query heads share: [batch, heads, rows, m]."""
    rows = x.shape[1] * x.shape[2] // y.shape[1]
    return (x.reshape(len(x), y.shape[1], rows, x.shape[3]) @ y).view(*x.shape[:3], y.shape[3])


# hole: guarded
# end
def attention(q, k, v, inputs, clean=True):
    """Output and log-sum-exp of every query, all tensors [batch, heads, tokens, head dim] in declared order.

    `inputs` are those of `attended`. Unless `clean`, no tensor is copied, results have no gradients, and the output is
    right if it is finite: NaN of keys that are not attended may be in it.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    _, heads, _, dim = q.shape
    given, k, v = q, k.to(dtype), v.to(dtype)
    q = q.to(dtype)
    # hole: attends
    _, attends = attended(q, k.shape[2], inputs)
    # end
    if clean:  # queries and keys without any pair are zeroed: 0 * NaN would reach others
        unattended = ~attends.any(dim=-2).unsqueeze(-1)
        k, v = (x.repeat_interleave(heads // x.shape[1], dim=1).masked_fill(unattended, 0) for x in (k, v))
        q = q.masked_fill(~attends.any(dim=-1, keepdim=True), 0)
    s = multiplied(q, k.transpose(-1, -2))
    # hole: score
    s = s * dim**-0.5
    # end
    # hole: softmax
    s = s.masked_fill(~attends, -torch.inf)
    m_i = s.detach().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(dtype).min)
    p = torch.exp(s - m_i)
    l_i = p.sum(dim=-1, keepdim=True)
    empty = l_i == 0
    l_i = l_i.masked_fill(empty, 1)
    p = p / l_i
    # end
    # hole: weight
    # end
    # hole: results
    lse = (l_i.log() + m_i).masked_fill(empty, -torch.inf).squeeze(-1)
    return multiplied(p, v).masked_fill(empty, 0).to(given.dtype), lse
    # end
