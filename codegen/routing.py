# hole: header
"""What a pattern finds in queries and keys, in plain torch: the skeleton of routes, which here find nothing."""
# end

import torch

# hole: imports
# end

MOST_SCORES = 2**24  # held at once


# hole: pattern
# end
class OutsideGroups(ValueError):
    """A token's group, by name and number, is not below the number of groups."""


class Groups:
    """The groups of one side's tokens: `numbers` [batch or 1, heads or 1, tokens], from 0 and below `count`.

    Where `has` is false a token has none. Without numbers each token is a group, or groups are numbers alone.
    """

    def __init__(self, count, name="", numbers=None, has=None):
        self.count, self.numbers, self.exists = count, numbers, None
        if numbers is None:
            return
        numbers = numbers if numbers.dim() == 3 else numbers.expand(1, 1, -1)
        inside = (numbers >= 0) & (numbers < count)
        inside = inside if has is None else inside & has
        if numbers.device.type == "cpu":  # a GPU is not waited for: there such tokens have no group
            outside = numbers[~inside if has is None else ~inside & has]
            if outside.numel():
                raise OutsideGroups(name, int(outside[0]), count)
        # Tokens without a group go into one behind all others.
        self.numbers = numbers.masked_fill(~inside, count)
        positions = torch.arange(numbers.shape[-1], device=numbers.device).expand_as(numbers)
        last = torch.full((*numbers.shape[:-1], count + 1), numbers.shape[-1], device=numbers.device)
        first = last.scatter_reduce(-1, self.numbers, positions, "amin")[..., :count]
        self.exists = first < numbers.shape[-1]
        self.positions = first.clamp(max=numbers.shape[-1] - 1)

    def first(self, values):
        """The value of each group's first token."""
        if self.numbers is None:
            return values
        values = values if values.dim() == 3 else values.expand(1, 1, -1)
        leading = torch.broadcast_shapes(values.shape[:-1], self.positions.shape[:-1])
        return values.expand(*leading, -1).gather(-1, self.positions.expand(*leading, -1))


def placed(x, device):
    """On the device: a single number of the host, which pairs of another device may share, without a copy."""
    return x if x.device == device else torch.full((), x.item(), dtype=x.dtype, device=device)


def pooled(x, groups, kind, among=None, heads=None):
    """One vector a group of tokens: x [batch, heads, tokens, dim] gives [batch, heads, groups, dim].

    Those of heads of an equal number in `heads` are pooled together. Groups without any token get zeros.
    """
    batch, count, tokens, dim = x.shape
    numbers = torch.arange(tokens, device=x.device) if groups.numbers is None else groups.numbers
    if among is not None:
        numbers = torch.where(placed(among, x.device), numbers, groups.count)
    numbers = numbers.expand(1, 1, -1) if numbers.dim() < 3 else numbers
    result = x.new_full((batch, count, groups.count + 1, dim), -torch.inf if kind == "max" else 0)
    sizes = x.new_zeros(*numbers.shape[:2], groups.count + 1)
    sizes = sizes.scatter_add(2, numbers, x.new_ones(()).expand(numbers.shape)).expand(batch, count, -1)
    if kind == "max":
        result = result.scatter_reduce(2, numbers.unsqueeze(-1).expand_as(x), x, "amax")
    elif numbers.shape[:2] == (1, 1):  # whole rows are added several times as fast
        result = result.index_add(2, numbers[0, 0], x)
    else:
        result = result.scatter_add(2, numbers.unsqueeze(-1).expand_as(x), x)
    return finished(result[:, :, : groups.count], sizes[:, :, : groups.count], kind, heads)


def finished(result, sizes, kind, heads=None):
    """What is pooled, from sums or maxima [batch, heads, groups, dim] and their numbers [batch, heads, groups]."""
    if heads is not None:
        members = [[other for other, number in enumerate(heads) if number == own] for own in heads]
        parts = [torch.stack([result[:, head] for head in own]) for own in members]
        result = torch.stack([part.amax(dim=0) if kind == "max" else part.sum(dim=0) for part in parts], dim=1)
        sizes = torch.stack([sum(sizes[:, head] for head in own) for own in members], dim=1)
    empty = sizes == 0
    if kind in ("mean", "root"):
        sizes = sizes.clamp(min=1) if kind == "mean" else sizes.clamp(min=1).sqrt()
        result = result / sizes.unsqueeze(-1)
    return result.masked_fill(empty.unsqueeze(-1), 0)


def shared_by(heads, key_heads):
    """The key head of each query head."""
    return [head * key_heads // heads for head in range(heads)]


def of_heads(k, heads):
    """Keys as each query head sees them."""
    return k if k.shape[1] == heads else k.repeat_interleave(heads // k.shape[1], dim=1)


def select(shape, queries, keys, values, products, score, candidates, choose, whole=False):
    """Which key groups each query group selects: bool [batch, heads, query groups, key groups], some rows at a time.

    `queries` and `keys` are pairs (groups, their coordinates by name), `products` pairs of vectors by name. With
    `whole`, all groups of a head are chosen from together.
    """
    (query_groups, query_values), (key_groups, key_values) = queries, keys
    batch, heads = shape
    device = values["head"].device
    values = {**values, "batch": values["batch"].unsqueeze(-1), "head": values["head"].unsqueeze(-1)}
    table = torch.empty(batch, heads, query_groups.count, key_groups.count, dtype=torch.bool, device=device)
    step = query_groups.count if whole else max(1, MOST_SCORES // max(1, batch * heads * key_groups.count))
    columns = {f"k_{name}": key_groups.first(value).unsqueeze(-2) for name, value in key_values.items()}
    columns["k_group"] = torch.arange(key_groups.count, device=device)
    lines = {f"q_{name}": query_groups.first(value).unsqueeze(-1) for name, value in query_values.items()}
    for start in range(0, query_groups.count, step):
        rows = slice(start, start + step)
        part = table[:, :, rows]
        read = {**values, **columns, **{name: value[..., rows, :] for name, value in lines.items()}}
        read |= {name: one[:, :, rows] @ other.transpose(-1, -2) for name, (one, other) in products.items()}
        read["s"] = next((read[name] for name in products), torch.zeros((), device=device))
        s = placed(score(**read), device)
        fits = placed(candidates(**read), device)
        if query_groups.exists is not None:
            fits = fits & query_groups.exists[..., rows, None]
        if key_groups.exists is not None:
            fits = fits & key_groups.exists[..., None, :]
        # What is no candidate has the score minus infinity, and so has what is none. Sums are cheaper than choices.
        s = s + torch.zeros(fits.shape, dtype=s.dtype, device=device).masked_fill_(~fits, -torch.inf)
        s = s.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).expand(part.shape)
        if whole:
            part.copy_(choose(s.flatten(-2), read).view(part.shape))
        else:
            part.copy_(choose(s, read))
    return table


def best(score, count):
    """The `count` highest scores of each row, but none of minus infinity; ties to the lower number."""
    columns = score.shape[-1]
    if isinstance(count, int):
        if count <= 4:
            return best_few(score, count)
        most, count = min(count, columns), torch.full((), count, device=score.device)
    else:  # a GPU is not waited for
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
    if score.device.type == "cpu" and not bool(tied.any()):  # a GPU is not waited for
        return chosen
    above = chosen & (score > least)
    equal = chosen & (score == least)
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= room))


def best_few(score, count):
    """The same one by one: `max` gives the first of equal ones."""
    chosen = torch.zeros(score.shape, dtype=torch.bool, device=score.device)
    score = score.clone()
    for _ in range(min(count, score.shape[-1])):
        highest, position = score.max(dim=-1, keepdim=True)
        chosen.scatter_(-1, position, (highest > -torch.inf) | chosen.gather(-1, position))
        score.scatter_(-1, position, -torch.inf)
    return chosen


def heaviest(score, mass):
    """The fewest whose share of the softmax of their row reaches `mass`, but none of minus infinity.

    From the highest score down, ties to the lower number.
    """
    ordered, positions = score.double().sort(dim=-1, descending=True, stable=True)
    fitting = ordered > -torch.inf
    highest = ordered[..., :1]  # infinite ones have equal shares
    weights = torch.where(fitting, torch.where(ordered == highest, 0, ordered - highest).exp(), 0)
    before = weights.cumsum(dim=-1) - weights
    chosen = fitting & (before < mass * weights.sum(dim=-1, keepdim=True))
    return torch.zeros_like(chosen).scatter(-1, positions, chosen)


def nearest(x, rows):
    """The row nearest to each vector: x [batch, heads, tokens, dim], rows [heads, clusters, dim]. NaN is far away."""
    products = x @ rows.transpose(-1, -2)
    distances = rows.square().sum(dim=-1).unsqueeze(-2) - 2 * products
    return distances.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf).argmin(dim=-1)


def members(x, rows, size, present=None):
    """Which rows chose a vector, a bit for each: every row takes the `size` vectors of the largest product.

    Only those `present`, bool [batch, heads, tokens], if that is said.
    """
    products = rows @ x.transpose(-1, -2)
    products = products.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if present is not None:
        products = products.masked_fill(~present.unsqueeze(-2), -torch.inf)
    chosen = best(products, size)
    return (chosen.long() << torch.arange(rows.shape[-2], device=x.device).unsqueeze(-1)).sum(dim=-2)


def ranks(*keys):
    """The place of each token sorted by keys, the first one foremost, ties in order."""
    keys = torch.broadcast_tensors(*keys)
    order = torch.arange(keys[0].shape[-1], device=keys[0].device).expand(keys[0].shape)
    for key in reversed(keys):
        order = order.gather(-1, key.gather(-1, order).argsort(dim=-1, stable=True))
    return order.argsort(dim=-1)


@torch.no_grad()
def find(q, k, inputs):
    """All that is found, by the name of its input. q and k are [batch, heads, tokens, dim] in declared order."""
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
    # hole: found
    # end
    return {name: value for name, value in inputs.items() if name not in given}
