# hole: header
"""The selections of a pattern's routes, in plain torch: the skeleton, of a pattern without routes."""
# end

import torch

# hole: imports
# end

MOST_SCORES = 2**24  # in memory at once


# hole: pattern
# end
class OutsideGroups(ValueError):
    """A token's group is not below the number of groups: (name of the coordinate, group, number of groups).

    For pools behind these the name of the pooled space.
    """


class Groups:
    """The groups of one side's tokens: `numbers` [batch or 1, heads or 1, tokens], in [0, count).

    Tokens where `has` is false have no group. Without numbers each token is a group of its own.

    Raises `OutsideGroups` for other numbers, on the CPU; on a GPU, where that would wait for the device, such tokens
    have no group.
    """

    def __init__(self, count, name="", numbers=None, has=None):
        self.count, self.numbers, self.exists = count, numbers, None
        if numbers is None:
            return
        numbers = numbers if numbers.dim() == 3 else numbers.expand(1, 1, -1)
        inside = (numbers >= 0) & (numbers < count)
        inside = inside if has is None else inside & has
        if numbers.device.type == "cpu":
            outside = numbers[~inside if has is None else ~inside & has]
            if outside.numel():
                raise OutsideGroups(name, int(outside[0]), count)
        # Tokens without a group get the number `count`.
        self.numbers = numbers.masked_fill(~inside, count)
        positions = torch.arange(numbers.shape[-1], device=numbers.device).expand_as(numbers)
        last = torch.full((*numbers.shape[:-1], count + 1), numbers.shape[-1], device=numbers.device)
        first = last.scatter_reduce(-1, self.numbers, positions, "amin")[..., :count]
        self.exists = first < numbers.shape[-1]
        self.positions = first.clamp(max=numbers.shape[-1] - 1)

    def first(self, values):
        """The values [batch or 1, heads or 1, tokens] of each group's first token, [batch or 1, heads or 1, groups]."""
        if self.numbers is None:
            return values
        values = values if values.dim() == 3 else values.expand(1, 1, -1)
        leading = torch.broadcast_shapes(values.shape[:-1], self.positions.shape[:-1])
        return values.expand(*leading, -1).gather(-1, self.positions.expand(*leading, -1))


def on_device(x, device):
    """x on the device. What is elsewhere is a single number on the host; `full` needs no copy, so no wait."""
    return x if x.device == device else torch.full((), x.item(), dtype=x.dtype, device=device)


def pooled(x, groups, kind, among=None, heads=None):
    """Pools x [batch, heads, tokens, dim] by group: [batch, heads, groups, dim], zeros for groups without tokens.

    `kind` is "mean", "sum", "root" (the sum over the root of the count) or "max". `among`, bool, selects tokens.
    `heads` holds a number for each head; heads of equal number are pooled together.
    """
    batch, count, tokens, dim = x.shape
    numbers = torch.arange(tokens, device=x.device) if groups.numbers is None else groups.numbers
    if among is not None:
        numbers = torch.where(on_device(among, x.device), numbers, groups.count)
    numbers = numbers.expand(1, 1, -1) if numbers.dim() < 3 else numbers
    result = x.new_full((batch, count, groups.count + 1, dim), -torch.inf if kind == "max" else 0)
    sizes = x.new_zeros(*numbers.shape[:2], groups.count + 1)
    sizes = sizes.scatter_add(2, numbers, x.new_ones(()).expand(numbers.shape)).expand(batch, count, -1)
    if kind == "max":
        result = result.scatter_reduce(2, numbers.unsqueeze(-1).expand_as(x), x, "amax")
    elif numbers.shape[:2] == (1, 1):  # index_add adds whole rows: several times as fast
        result = result.index_add(2, numbers[0, 0], x)
    else:
        result = result.scatter_add(2, numbers.unsqueeze(-1).expand_as(x), x)
    return finished(result[:, :, : groups.count], sizes[:, :, : groups.count], kind, heads)


def finished(result, sizes, kind, heads=None):
    """The pooled vectors, from sums or maxima [batch, heads, groups, dim] and token counts [batch, heads, groups]."""
    if heads is not None:
        pools = [[other for other, number in enumerate(heads) if number == pool] for pool in heads]
        stacked = [torch.stack([result[:, head] for head in pool]) for pool in pools]
        result = torch.stack([each.amax(dim=0) if kind == "max" else each.sum(dim=0) for each in stacked], dim=1)
        sizes = torch.stack([sum(sizes[:, head] for head in pool) for pool in pools], dim=1)
    empty = sizes == 0
    if kind in ("mean", "root"):
        sizes = sizes.clamp(min=1) if kind == "mean" else sizes.clamp(min=1).sqrt()
        result = result / sizes.unsqueeze(-1)
    return result.masked_fill(empty.unsqueeze(-1), 0)


def shared_by(heads, key_heads):
    """The key head of each query head."""
    return [head * key_heads // heads for head in range(heads)]


def of_heads(k, heads):
    """Keys [batch, key heads, tokens, dim] repeated for the query heads that share them."""
    return k if k.shape[1] == heads else k.repeat_interleave(heads // k.shape[1], dim=1)


def select(shape, queries, keys, values, products, score, candidates, choose, whole=False):
    """The key groups that each query group selects: bool [batch, heads, query groups, key groups].

    `queries` and `keys` are pairs (`Groups`, coordinates of tokens by name), `products` pairs of vectors by name.
    `score` and `candidates` are functions of pairs of groups, `choose` of scores. With `whole`, `choose` gets all
    scores of a head at once. Scores of at most MOST_SCORES pairs are in memory at once.
    """
    (query_groups, query_values), (key_groups, key_values) = queries, keys
    batch, heads = shape
    device = values["head"].device
    values = {**values, "batch": values["batch"].unsqueeze(-1), "head": values["head"].unsqueeze(-1)}
    table = torch.empty(batch, heads, query_groups.count, key_groups.count, dtype=torch.bool, device=device)
    step = query_groups.count if whole else max(1, MOST_SCORES // max(1, batch * heads * key_groups.count))
    column_values = {f"k_{name}": key_groups.first(value).unsqueeze(-2) for name, value in key_values.items()}
    column_values["k_group"] = torch.arange(key_groups.count, device=device)
    row_values = {f"q_{name}": query_groups.first(value).unsqueeze(-1) for name, value in query_values.items()}
    for start in range(0, query_groups.count, step):
        rows = slice(start, start + step)
        chunk = table[:, :, rows]
        read = {**values, **column_values, **{name: value[..., rows, :] for name, value in row_values.items()}}
        read |= {name: one[:, :, rows] @ other.transpose(-1, -2) for name, (one, other) in products.items()}
        read["s"] = next((read[name] for name in products), torch.zeros((), device=device))
        s = on_device(score(**read), device)
        eligible = on_device(candidates(**read), device)
        if query_groups.exists is not None:
            eligible = eligible & query_groups.exists[..., rows, None]
        if key_groups.exists is not None:
            eligible = eligible & key_groups.exists[..., None, :]
        # Pairs that are no candidates, and those with a score of NaN, get -inf. Adding is cheaper than torch.where.
        s = s + torch.zeros(eligible.shape, dtype=s.dtype, device=device).masked_fill_(~eligible, -torch.inf)
        s = s.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).expand(chunk.shape)
        if whole:
            chunk.copy_(choose(s.flatten(-2), read).view(chunk.shape))
        else:
            chunk.copy_(choose(s, read))
    return table


def best(score, count):
    """The `count` highest scores of each row, as a mask; none of -inf, ties to the lower index."""
    columns = score.shape[-1]
    if isinstance(count, int):
        if count <= 4:
            return best_one_by_one(score, count)
        most, count = min(count, columns), torch.full((), count, device=score.device)
    else:  # `count.max()` would wait for a GPU
        most = min(int(count.max()), columns) if score.device.type == "cpu" else columns
    count = count.clamp(0, columns)
    if most <= 0:
        return torch.zeros_like(score, dtype=torch.bool)
    highest = score.topk(min(most + 1, columns), dim=-1).values
    positions = torch.stack([count - 1, count], dim=-1).clamp(0, highest.shape[-1] - 1)
    positions = positions.flatten(-2) if count.dim() > 1 else positions
    least, following = highest.gather(-1, positions.expand(*score.shape[:-1], 2)).unbind(dim=-1)
    least, following = least.unsqueeze(-1), following.unsqueeze(-1)
    chosen = (score >= least) & (score > -torch.inf) & (count > 0)
    tied = (least == following) & (least > -torch.inf) & (count < columns)
    if score.device.type == "cpu" and not bool(tied.any()):  # would wait for a GPU
        return chosen
    above = chosen & (score > least)
    equal = chosen & (score == least)
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= room))


def best_one_by_one(score, count):
    """`best` for a small count, by repeated `max`, which returns the first of equal scores."""
    chosen = torch.zeros(score.shape, dtype=torch.bool, device=score.device)
    score = score.clone()
    for _ in range(min(count, score.shape[-1])):
        highest, position = score.max(dim=-1, keepdim=True)
        chosen.scatter_(-1, position, (highest > -torch.inf) | chosen.gather(-1, position))
        score.scatter_(-1, position, -torch.inf)
    return chosen


def heaviest(score, mass):
    """The fewest scores whose softmax over the row sums to `mass`, as a mask: from the highest down; none of -inf.

    Ties go to the lower index.
    """
    ordered, positions = score.double().sort(dim=-1, descending=True, stable=True)
    fitting = ordered > -torch.inf
    m_i = ordered[..., :1]  # scores of +inf weigh the same
    weights = torch.where(fitting, torch.where(ordered == m_i, 0, ordered - m_i).exp(), 0)
    before = weights.cumsum(dim=-1) - weights
    chosen = fitting & (before < mass * weights.sum(dim=-1, keepdim=True))
    return torch.zeros_like(chosen).scatter(-1, positions, chosen)


def nearest(x, rows):
    """The index of the row nearest to each vector: x [batch, heads, tokens, dim], rows [heads, clusters, dim]."""
    products = x @ rows.transpose(-1, -2)
    distances = rows.square().sum(dim=-1).unsqueeze(-2) - 2 * products
    return distances.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf).argmin(dim=-1)


def members(x, rows, size, present=None):
    """Each row selects the `size` vectors of the largest product; an integer of one bit a row says which selected it.

    x is [batch, heads, tokens, dim], rows [heads, clusters, dim]; only vectors `present`, bool [batch, heads, tokens],
    may be selected.
    """
    products = rows @ x.transpose(-1, -2)
    products = products.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if present is not None:
        products = products.masked_fill(~present.unsqueeze(-2), -torch.inf)
    chosen = best(products, size)
    return (chosen.long() << torch.arange(rows.shape[-2], device=x.device).unsqueeze(-1)).sum(dim=-2)


def ranks(*keys):
    """The rank of each token, sorted by keys, the first key foremost; ties keep their order."""
    keys = torch.broadcast_tensors(*keys)
    order = torch.arange(keys[0].shape[-1], device=keys[0].device).expand(keys[0].shape)
    for key in reversed(keys):
        order = order.gather(-1, key.gather(-1, order).argsort(dim=-1, stable=True))
    return order.argsort(dim=-1)


@torch.no_grad()
def find(q, k, inputs):
    """The selections of all routes by name, as inputs. q and k are [batch, heads, tokens, dim] in declared order."""
    # hole: types
    dtype = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(dtype), k.to(dtype)
    # end
    inputs = {
        **inputs,
        "batch": torch.arange(q.shape[0], device=q.device)[:, None, None],
        "head": torch.arange(q.shape[1], device=q.device)[:, None],
    }
    given = {*inputs}
    # hole: routed
    # end
    return {name: value for name, value in inputs.items() if name not in given}
