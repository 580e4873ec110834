# hole: header
"""Rows of single queries that gather their keys by list: the skeleton, which modules of sparse inputs hold."""
# end

import torch

GATHERED = 2**17
"""Elements of keys that a tile gathers, about: they stay in the processor's cache."""

# A tile's tensors are those of `tiled.py`, of one query a row: scores are [rows, heads, 1, keys].


class GatheredRows:
    """Queries at `rows` [rows], their keys at `keys` [rows, most], and which of these are `real`; all if it is None."""

    piece, runs = -1, ()

    def __init__(self, rows, keys, real):
        self.rows, self.keys, self.real = rows, keys, real
        self.partial = () if real is None else ((0, keys.shape[1]),)


class GatheredTile:
    """Some of these rows for one unit, and the copies of their queries, keys and scores."""

    def __init__(self, group, unit, key_unit, first, count):
        self.group, self.unit, self.key_unit = group, unit, key_unit
        self.units = range(unit, unit + 1)
        self.rows, self.keys = group.rows[first : first + count], group.keys[first : first + count]
        self.real = None if group.real is None else group.real[first : first + count]
        self.size, self.width = 1, self.keys.shape[1]
        self.columns, self.mask_key = [(0, self.width)], None

    def limits(self, dtype):
        """As `Problem.limits`: -inf where there is no key."""
        if self.real is None:
            return ()
        limits = torch.full(self.real.shape, torch.inf, dtype=dtype, device=self.real.device)
        return [limits.masked_fill_(~self.real, -torch.inf)[:, None, None, :]]

    def of_unit(self, x):
        """x [units or 1, ...] of this unit."""
        return x[self.unit if x.shape[0] > 1 else 0]

    def queries(self, x):
        """The queries of x [units or 1, heads or 1, tokens, dim]: [rows, heads or 1, 1, dim]."""
        return self.of_unit(x).index_select(1, self.rows).transpose(0, 1).unsqueeze(2)

    def set_queries(self, x, values):
        """Writes values [rows, heads, 1, dim] to the queries of x."""
        self.of_unit(x).index_copy_(1, self.rows, values.squeeze(2).transpose(0, 1).to(x.dtype))

    def gather(self, x):
        """The keys of x [key units, 1, tokens, dim]: [rows, keys, dim]."""
        return x[self.key_unit, 0].index_select(0, self.keys.reshape(-1)).view(*self.keys.shape, -1)

    def add_gathered(self, x, values):
        """Adds values [rows, keys, dim] to the keys of x."""
        x[self.key_unit, 0].index_add_(0, self.keys.reshape(-1), values.reshape(-1, values.shape[2]))

    def key_values(self, x, columns):
        """The values of x [units or 1, heads or 1, tokens] for the keys: [rows, heads or 1, 1, keys]."""
        values = self.of_unit(x)
        values = values.index_select(1, self.keys.reshape(-1)).view(len(values), *self.keys.shape)
        return values.transpose(0, 1).unsqueeze(2)

    def add_to_queries(self, gradient, grad):
        self.of_unit(gradient).index_add_(1, self.rows, grad[:, :, 0, 0].t().to(gradient.dtype))

    def add_to_keys(self, gradient, grad):
        grad = grad.squeeze(2).transpose(0, 1).flatten(1)
        self.of_unit(gradient).index_add_(1, self.keys.reshape(-1), grad.to(gradient.dtype))


def gathered_tiles(problem, key_units):
    """The tiles of these key units."""
    for groups, pairs in problem.work:
        for group in (each for each in groups if each.piece < 0):
            count = max(1, GATHERED // (group.keys.shape[1] * max(problem.dim, 1)))
            for units, keys in pairs:
                for unit, key_unit in zip(units, keys, strict=True):
                    if key_unit in key_units:
                        for first in range(0, len(group.rows), count):
                            yield GatheredTile(group, unit, key_unit, first, count)


def gathered_scores(problem, tile, queries):
    """The scaled products of queries and keys."""
    s = torch.bmm(queries.squeeze(2), tile.gather(problem.k).transpose(1, 2))
    return s.mul_(problem.scale).unsqueeze(2)


def forward_gathered(problem, tile, v, out, m_i, l_i):
    """Writes the output of a tile's queries."""
    s = gathered_scores(problem, tile, tile.queries(problem.q).to(problem.dtype))
    limits, columns = tile.limits(problem.dtype), tile.group.partial
    # hole: score
    # end
    # hole: softmax
    problem.exclude(s, limits, columns)
    tile_m = s.amax(dim=-1, keepdim=True)
    empty = tile_m == -torch.inf
    p = torch.softmax(s, dim=-1)
    tile_l = p.amax(dim=-1, keepdim=True).reciprocal_().masked_fill_(empty, 1)
    # end
    # hole: weight
    # end
    result = torch.bmm(p.squeeze(2), tile.gather(v)).unsqueeze(2)
    # hole: result
    tile.set_queries(out, result.masked_fill_(empty, 0))
    if m_i is not None:
        tile.set_queries(m_i, tile_m)
        tile.set_queries(l_i, tile_l)
    # end


def backward_gathered(problem, tile, norms, delta, grad_out, grads, gradients):
    """Recomputes the scores of a tile and adds its contributions to dQ, dK and dV."""
    queries, grad_tile = (tile.queries(x).to(problem.dtype) for x in (problem.q, grad_out))
    s = gathered_scores(problem, tile, queries)
    limits, columns = tile.limits(problem.dtype), tile.group.partial
    # hole: score_graph
    # end
    # hole: probabilities
    p = problem.exclude(s, limits, columns)
    absent = p == -torch.inf if problem.poisoned else None
    for norm in norms:
        p.sub_(tile.queries(norm))
    problem.exponentials(p)
    if absent is not None:
        p.masked_fill_(absent, 0)
    # end
    ds = torch.bmm(grad_tile.squeeze(2), problem.clean(tile.gather(problem.v)).transpose(1, 2)).unsqueeze(2)
    weighted = p
    # hole: weight_graph
    # end
    tile.add_gathered(grads[2], torch.bmm(weighted.squeeze(2).transpose(1, 2), grad_tile.squeeze(2)))
    # hole: slope
    ds.sub_(tile.queries(delta)).mul_(p)
    if absent is not None:
        ds.masked_fill_(absent, 0)
        queries = problem.clean(queries)
    # end
    # hole: score_gradient
    # end
    ds = ds.squeeze(2)
    result = torch.bmm(ds, problem.clean(tile.gather(problem.k))).mul_(problem.scale)
    tile.set_queries(grads[0], result.unsqueeze(2))
    tile.add_gathered(grads[1], torch.bmm(ds.transpose(1, 2), queries.squeeze(2)).mul_(problem.scale))
