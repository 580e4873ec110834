# hole: header
"""Attention over tiles in plain torch: the skeleton of the tiled backend, in which every query attends every key."""
# end

# hole: imports
from math import prod
from threading import local

import torch

from maskdsl.codegen.tiles import rows_of, spread, tiles_of

# end

# q, k, v are [units, heads, tokens, dim]; k and v have one head. A tile's are [rows or units, heads, tokens, dim].
#   unit       one key head of one batch entry, with the query heads that share it: its `heads`
#   row        a query block with the runs of keys that it attends, side by side: the columns of its scores
#   group      rows of equal shape, `step` tokens apart: `start, step, rows, size` of the queries, `start, step, size`
#              of each of the `runs`, and the `partial` columns [first, last), in which some pairs do not attend
#   piece      rows with many keys are cut: pieces of a row are merged, as in split-KV
#   tile       some rows of a group for one unit, or one row for several units: computed in one batched product
#   work       pairs (groups, pairs (units, key units)), units being ranges
#   m_i, l_i   per query, the maximum of the scores and the sum of exp(s - m_i)
#   limits     per pair of the partial columns, -inf if it does not attend, else +inf: minimum(s, limit) masks s

LOG2_E = 1.4426950408889634
LARGE = 1024  # a log-sum-exp beyond it has an error of more than 2**-14 in float32

# hole: tiles
# end
# hole: pattern
MASK_READS = set()
CHANGES_SCORES = False


def token_coordinates(device, **_):
    """The coordinates that pairs read, in declared order: [batch or 1, heads or 1, tokens] or fewer axes."""
    return {}


def allowed(**_):
    """Whether the query attends the key."""
    return torch.tensor(True)


# end
class Problem:
    """The tensors and settings of one call. `queries` and `keys` are coordinates, [units or 1, heads or 1, tokens]."""

    def __init__(self, q, k, v, queries, keys, inputs, work, masks, for_each):
        self.dtype = torch.promote_types(q.dtype, torch.float32)
        self.q, self.k, self.v = q, k.to(self.dtype), v.to(self.dtype)
        self.queries, self.keys, self.inputs = queries, keys, inputs
        self.work, self.masks, self.for_each = work, masks, for_each
        self.heads, self.dim = q.shape[1], q.shape[3]
        self.varying = {"head", "batch", *(f"q_{name}" for name, value in queries.items() if value.shape[0] > 1)}
        self.varying |= {f"k_{name}" for name, value in keys.items() if value.shape[0] > 1}
        self.poisoned = self.overflows = False
        self.scratch = local()

    def buffer(self, name, *shape):
        """Scratch memory for one tile, reused by the thread's next tile: fresh memory costs as much as a product."""
        kept, size = self.scratch.__dict__, prod(shape)
        if name not in kept or kept[name].numel() < size:
            kept[name] = self.q.new_empty(size, dtype=self.dtype)
        return kept[name][:size].view(shape)

    def clean(self, x):
        """x with 0 for what is not finite: 0 * inf would be NaN for pairs that do not attend."""
        return x.nan_to_num(0, 0, 0) if self.poisoned else x

    def pair_values(self, tile, columns):
        """The arguments of pair functions for these columns, broadcasting to [rows, heads, queries, keys]."""
        values = {f"q_{name}": tile.queries(value.unsqueeze(-1)) for name, value in self.queries.items()}
        values |= {f"k_{name}": tile.key_values(value, columns) for name, value in self.keys.items()}
        values |= {name: rows_of(self.inputs[name], tile.units, 0, 0, 1, 1) for name in ("head", "batch")}
        return {**self.inputs, **values}

    # hole: score_values
    def score_values(self, tile):
        """The arguments of functions of scores."""
        return self.pair_values(tile, tile.columns)

    # end
    def exponentials(self, x):
        """Replaces x by exp(x). Those of base two take a third of the time."""
        x.mul_(LOG2_E).exp2_()

    def limits(self, tile):
        """The limits of each range of partial columns: -inf where a pair does not attend, else +inf."""
        if not tile.group.partial:
            return ()
        return self.keep(tile, MASK_READS, self.dtype, lambda: self.find_limits(tile))

    def keep(self, tile, read, kind, make):
        """Tensors of a tile that follow from the values `read`: cached, or made and cached. `kind` tells them apart."""
        units = None if self.varying.isdisjoint(read) else tile.units
        return self.masks.keep((tile.mask_key, self.heads, units, self.q.device, kind), make)

    def find_limits(self, tile):
        columns = tile.group.partial
        attends = allowed(**self.pair_values(tile, columns))
        if bool((attends == attends[:1]).all()):
            attends = attends[:1]
        widths = [last - first for first, last in columns]
        attends = attends.expand(*attends.shape[:-1], sum(widths))
        limits = torch.full_like(attends, torch.inf, dtype=self.dtype).masked_fill_(~attends, -torch.inf)
        return [each.contiguous() for each in limits.split(widths, dim=-1)]

    def products(self, tile, queries):
        """The scaled products of queries and keys, [rows, heads, queries, keys]."""
        s = self.buffer("scores", len(queries), self.heads, tile.size, tile.width)
        for run, span in tile.spans:
            multiply(span_of(s, span), queries, tile.keys(self.k, run).transpose(1, 2), 0, self.scale)
        return s

    def exclude(self, s, limits, columns):
        """Masks the scores of pairs that do not attend with -inf, in place."""
        if self.poisoned:
            return block(s, limits, columns, -torch.inf)
        for (first, last), limit in zip(columns, limits, strict=True):
            masked = s[..., first:last]
            torch.minimum(masked, limit, out=masked)
        return s

    # hole: scale
    @property
    def scale(self):
        return self.dim**-0.5

    # end


def span_of(s, span):
    """A view of the scores of one run: [rows, heads, queries, keys] to [rows, heads * queries, keys of the run]."""
    s = s.flatten(1, 2)
    return s if span.stop - span.start == s.shape[2] else s[:, :, span]


def multiply(target, a, b, beta, alpha=1):
    """target = beta * target + alpha * a @ b, in place; a `b` that all rows share is multiplied once."""
    if b.shape[0] == 1 and target.stride(0) == target.shape[1] * target.stride(1):
        flat = target.view(-1, target.shape[2])
        flat.addmm_(a.reshape(-1, a.shape[2]), b[0], beta=beta, alpha=alpha)
    else:
        target.baddbmm_(a, b.expand(len(a), -1, -1), beta=beta, alpha=alpha)


def add_transposed(target, a, b, alpha=1):
    """target += alpha * a^T @ b, in place; a target that all rows share gets their sum."""
    if target.shape[0] == 1:
        target[0].addmm_(a.reshape(-1, a.shape[2]).t(), b.reshape(-1, b.shape[2]), alpha=alpha)
    else:
        target.baddbmm_(a.transpose(1, 2), b, alpha=alpha)


def block(s, limits, columns, value):
    """Fills a value in for pairs that do not attend, in place; unlike `minimum` it replaces NaN too."""
    for (first, last), limit in zip(columns, limits, strict=True):
        s[..., first:last].masked_fill_(limit < 0, value)
    return s


def forward(problem, wants_lse):
    """Output [units, heads, tokens, dim] and log-sum-exp [units, heads, tokens, 1]; None if it was not computed."""
    # hole: wants_sums
    wants_sums = wants_lse
    # end
    out, m_i, l_i = attended(problem, wants_sums)
    # hole: factor
    # end
    # hole: lse
    return out, None if m_i is None else m_i + l_i.log()
    # end


def attended(problem, wants_sums):
    """The results of `run_forward`, also of q, k and v that are not finite."""
    problem.poisoned = problem.overflows = not is_finite(problem.q, problem.k, problem.v)
    out, m_i, l_i = run_forward(problem, problem.clean(problem.v), wants_sums)
    if not CHANGES_SCORES and not problem.overflows and not is_finite(out):  # finite factors, infinite products
        problem.overflows = True
        out, m_i, l_i = run_forward(problem, problem.v, wants_sums)
    if problem.poisoned:  # NaN for those queries that attend a value that is not finite
        # Different numbers, so that weights of both signs do not cancel.
        numbers = torch.arange(1, problem.v.shape[2] + 1, dtype=problem.dtype, device=out.device)
        poison = problem.v.isfinite().logical_not() * numbers.sqrt()[:, None]
        out.masked_fill_(run_forward(problem, poison, wants_sums)[0] != 0, torch.nan)
    return out, m_i, l_i


def is_finite(*tensors):
    return all(bool(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()) for x in tensors)


def run_forward(problem, v, wants_sums):
    """Output [units, heads, tokens, dim], m_i and l_i [units, heads, tokens, 1]; None if they were not computed.

    A query without keys, or with scores of -inf only, has m_i = -inf and l_i = 1.
    """
    out = v.new_empty(*problem.q.shape[:3], v.shape[3])
    pieces = 1 + max((group.piece for groups, _ in problem.work for group in groups), default=0)
    m_i, l_i = v.new_empty(2, *problem.q.shape[:3], 1) if wants_sums or pieces > 1 else (None, None)
    for piece in range(pieces):  # tiles of one piece write to different queries
        rows = ((group, pairs) for groups, pairs in problem.work for group in groups if group.piece == piece)
        tiles = (tile for group, pairs in rows for tile in tiles_of(group, pairs, problem.heads))
        problem.for_each(lambda tile: forward_tile(problem, tile, v, out, m_i, l_i), tiles)
    # hole: gathered_forward
    # end
    # hole: sinks
    # end
    return out, m_i, l_i


def forward_tile(problem, tile, v, out, m_i, l_i):
    """Writes the output of a tile's queries, or merges it with that of earlier pieces of their keys."""
    target, wants_sums = tile.queries(out), m_i is not None
    if not tile.width:
        target.zero_()
        if wants_sums:
            tile.queries(m_i).fill_(-torch.inf)
            tile.queries(l_i).fill_(1)
        return
    queries = tile.queries(problem.q).flatten(1, 2).to(problem.dtype)
    s = problem.products(tile, queries)
    limits, columns = problem.limits(tile), tile.group.partial
    # hole: score
    # end
    # hole: softmax
    problem.exclude(s, limits, columns)
    may_be_empty = CHANGES_SCORES or problem.overflows or tile.has_empty_rows
    tile_m = s.amax(dim=-1, keepdim=True) if wants_sums or may_be_empty else None
    p = torch.softmax(s, dim=-1, out=s)
    tile_l = p.amax(dim=-1, keepdim=True).reciprocal_() if wants_sums else None
    # end
    # hole: weight
    # end
    direct = problem.heads == 1 and not tile.group.piece
    result = target if direct else out.new_empty(target.shape)
    for n, (run, span) in enumerate(tile.spans):
        multiply(result.flatten(1, 2), span_of(p, span), tile.keys(v, run), beta=n > 0)
    # hole: result
    if may_be_empty:
        empty = tile_m == -torch.inf
        result.masked_fill_(empty, 0)
        tile_l = tile_l.masked_fill_(empty, 1) if wants_sums else None
    if tile.group.piece:
        tile_m, tile_l = merge(target, result, (tile.queries(m_i), tile.queries(l_i)), tile_m, tile_l)
    elif not direct:
        target.copy_(result)
    if wants_sums:
        tile.queries(m_i).copy_(tile_m)
        tile.queries(l_i).copy_(tile_l)
    # end


# hole: merge
def merge(target, result, earlier, tile_m, tile_l):
    """Merges the output of one more piece of the keys into `target`; returns m_i and l_i of all pieces so far."""
    m_i = torch.maximum(earlier[0], tile_m)
    empty = m_i == -torch.inf
    old = (earlier[1] * (earlier[0] - m_i).exp_()).masked_fill_(empty, 0)
    new = (tile_l * (tile_m - m_i).exp_()).masked_fill_(empty, 0)
    l_i = (old + new).masked_fill_(empty, 1)
    target.mul_(old / l_i).add_(result.mul_(new / l_i))
    return m_i, l_i


# end
def backward(problem, dots, lse, grad_out, grad_lse, gradients):
    """dQ, dK and dV, shaped as q, k and v; those of float inputs are added to `gradients`, by (source, name).

    `dots` is rowsum(out * grad_out).
    """
    # hole: normalizers
    empty = lse == -torch.inf
    problem.overflows = bool(empty.any())
    if problem.overflows:  # rows without keys have no gradient, even if theirs is NaN
        grad_out, grad_lse, dots = (x.masked_fill(empty, 0) for x in (grad_out, grad_lse, dots))
    delta = dots - grad_lse
    problem.poisoned = not is_finite(problem.q, problem.k, problem.v, delta)
    norms = normalizers(problem, lse, empty)
    if problem.poisoned:  # a gradient that is not finite makes NaN of its row: 0 * inf would reach masked pairs
        norms[0].masked_fill_(grad_out.isfinite().all(dim=-1, keepdim=True).logical_not_(), torch.nan)
        grad_out = problem.clean(grad_out)
    # end
    # hole: sink_gradients
    # end
    grads = tuple(x.new_zeros(x.shape, dtype=problem.dtype) for x in (problem.q, problem.k, problem.v))

    def work(tiles):
        for tile in tiles:
            backward_tile(problem, tile, norms, delta, grad_out, grads, gradients)

    if len(problem.k) >= min(torch.get_num_threads(), 8):  # one thread a key unit: no two add to the same keys
        problem.for_each(work, (backward_tiles(problem, [unit]) for unit in range(len(problem.k))))
    else:
        work(backward_tiles(problem, range(len(problem.k))))
    # hole: gathered_backward
    # end
    return grads


# hole: find_normalizers
def normalizers(problem, lse, empty):
    """What is subtracted from scores, one after the other, so that p = exp(s): usually the log-sum-exp alone.

    A large log-sum-exp has lost low bits of log(l_i), so then m_i and log(l_i) are computed again, apart. +inf makes
    p = 0 in rows without keys.
    """
    if not bool((lse.abs() > LARGE).logical_and_(~empty).any()):
        return (lse.masked_fill(empty, torch.inf),)
    _, m_i, l_i = run_forward(problem, problem.v[..., :1], True)  # one dim of v, as its output is not used
    return m_i.masked_fill(empty, torch.inf), l_i.log()


# end
def backward_tiles(problem, key_units):
    """The tiles of these key units, in groups whose rows share no keys."""
    for groups, pairs in problem.work:
        if len(key_units) < len(problem.k):
            singles = ((units[n : n + 1], keys[n : n + 1]) for units, keys in pairs for n in range(len(keys)))
            pairs = [single for single in singles if single[1].start in key_units]
        for group in groups:
            for rows in spread(group) if group.runs and pairs else ():
                yield from tiles_of(rows, pairs, problem.heads)


def backward_tile(problem, tile, norms, delta, grad_out, grads, gradients):
    """Recomputes the scores of a tile and adds its contributions to dQ, dK and dV."""
    queries = tile.queries(problem.q).flatten(1, 2).to(problem.dtype)
    grad_tile = tile.queries(grad_out).flatten(1, 2).to(problem.dtype)
    s = problem.products(tile, queries)
    limits, columns = problem.limits(tile), tile.group.partial
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
    ds = problem.buffer("ds", *p.shape)
    for run, span in tile.spans:
        values = problem.clean(tile.keys(problem.v, run)).transpose(1, 2)
        multiply(span_of(ds, span), grad_tile, values, beta=0)
    weighted = p
    # hole: weight_graph
    # end
    for run, span in tile.spans:
        add_transposed(tile.keys(grads[2], run), span_of(weighted, span), grad_tile)
    # hole: slope
    ds.sub_(tile.queries(delta)).mul_(p)
    if absent is not None:
        ds.masked_fill_(absent, 0)
        queries = problem.clean(queries)
    # end
    # hole: score_gradient
    # end
    result = torch.zeros_like(queries)
    for run, span in tile.spans:
        run_ds = span_of(ds, span)
        multiply(result, run_ds, problem.clean(tile.keys(problem.k, run)), beta=1, alpha=problem.scale)
        add_transposed(tile.keys(grads[1], run), run_ds, queries, alpha=problem.scale)
    tile.queries(grads[0]).add_(result.view(*p.shape[:3], -1))


# hole: leaves
# end
# hole: gathered
# end
def problem_of(q, k, v, inputs, work, masks, heads, for_each, layout):
    """The problem of one call; its arguments are those of `attention`."""
    batch, query_heads = q.shape[:2]
    unit_heads = query_heads // heads
    inputs = {
        **inputs,
        "batch": torch.arange(batch, device=q.device)[:, None, None],
        "head": torch.arange(query_heads, device=q.device)[:, None],
    }
    # hole: coordinates
    queries = keys = token_coordinates(device=q.device, **inputs)
    # end
    shape = batch, unit_heads, heads
    queries = {name: unit_values(laid_out(value, layout[0]), *shape) for name, value in queries.items()}
    keys = {name: unit_values(laid_out(value, layout[1]), *shape) for name, value in keys.items()}
    inputs["head"] = inputs["head"].view(1, unit_heads, heads).expand(*shape).reshape(-1, heads, 1, 1)
    inputs["batch"] = inputs["batch"].expand(batch, unit_heads, 1).reshape(-1, 1, 1, 1)
    q, k, v = units(q, heads), units(k, 1), units(v, 1)
    return Problem(q, k, v, queries, keys, inputs, work, masks, for_each)


def attention(q, k, v, inputs, work, masks, heads, for_each, layout=(None, None), wants_lse=True):
    """Output and log-sum-exp of every query, all tensors [batch, heads, tokens, head dim] in laid-out order.

    The log-sum-exp is None unless `wants_lse`. `inputs` are the pattern's inputs by name, in declared order; per-token
    inputs are [batch or 1, heads or 1, tokens]. `work` is the schedule of tiles, `heads` the query heads of a unit.
    `masks`, a `Masks`, is that of earlier calls with the same inputs. `for_each(function, items)` calls a function for
    all items in any order, perhaps on several threads. `layout` is a pair, of queries and of keys: their declared
    positions in laid-out order, None for the same order.
    """
    problem = problem_of(q, k, v, inputs, work, masks, heads, for_each, layout)
    # hole: query_values
    # end
    out, lse = forward(problem, wants_lse)
    return out.to(q.dtype).view(*q.shape[:3], -1), None if lse is None else lse.view(q.shape[:3])


def gradients(
    q, k, v, out, lse, grad_out, grad_lse, inputs, work, masks, heads, for_each, layout=(None, None), wanted=()
):
    """dQ, dK and dV, shaped as q, k and v, and a dict of the gradients of the `wanted` inputs.

    `out` and `lse` are the results of `attention`, `grad_out` and `grad_lse` their gradients; the other arguments are
    those of `attention`. Scores are recomputed tile by tile: nothing of their size is kept.
    """
    leaves = {name: inputs[name].detach().requires_grad_() for name in wanted}
    with torch.enable_grad():
        problem = problem_of(q, k, v, {**inputs, **leaves}, work, masks, heads, for_each, layout)
    sources = {"queries": problem.queries, "keys": problem.keys, "inputs": problem.inputs}
    floats = {(source, name): x for source, values in sources.items() for name, x in values.items() if x.requires_grad}
    grad_floats = {}
    for (source, name), value in floats.items():
        sources[source][name] = value.detach().contiguous()
        grad_floats[source, name] = value.new_zeros(value.shape, dtype=torch.promote_types(value.dtype, torch.float32))
    out, lse, grad_out, grad_lse = (units(x, heads) for x in (out, lse.unsqueeze(-1), grad_out, grad_lse.unsqueeze(-1)))
    dots = (grad_out.to(problem.dtype) * out).sum(dim=-1, keepdim=True)
    # hole: query_values
    # end
    # hole: factor_gradient
    # end
    grads = backward(problem, dots, lse, grad_out, grad_lse, grad_floats)
    grads = [grad.to(x.dtype).reshape(x.shape) for grad, x in zip(grads, (q, k, v), strict=True)]
    grad_inputs = [torch.zeros_like(leaf) for leaf in leaves.values()]
    if floats:  # through coordinates back to the inputs that they are computed from
        ends = [grad.to(value.dtype) for grad, value in zip(grad_floats.values(), floats.values(), strict=True)]
        grad_inputs = torch.autograd.grad([*floats.values()], [*leaves.values()], ends, materialize_grads=True)
    # hole: query_gradients
    # end
    return *grads, dict(zip(leaves, grad_inputs, strict=True))


def units(x, heads):
    """[batch, heads, tokens, dim] to [units, heads of a unit, tokens, dim]."""
    return x.reshape(-1, heads, *x.shape[2:])


def laid_out(values, positions):
    """Per-token values gathered into laid-out order: [batch or 1, heads or 1, tokens], from that or fewer axes."""
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    return values if positions is None else torch.take_along_dim(values, positions, dim=-1)


def unit_values(values, batch, unit_heads, heads):
    """[batch or 1, heads or 1, tokens] to [units or 1, heads of a unit or 1, tokens]."""
    if values.shape[0] == values.shape[1] == 1:
        return values
    if values.shape[1] == 1:
        return values.expand(batch, unit_heads, -1).reshape(batch * unit_heads, 1, -1)
    return values.expand(batch, -1, -1).reshape(batch * unit_heads, heads, -1)
