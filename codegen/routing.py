# hole: header
"""The selections of a pattern's routes, in plain torch: the skeleton, of a pattern without routes."""
# end

import torch

# hole: imports
# end

NOTHING = {"max": -torch.inf, "min": torch.inf}  # the neutral elements of pools that are no sums
MEMBERS = {}  # what `Tokens.sharing` found


# hole: pattern
# end
class OutsideGroups(ValueError):
    """A token's group is not below the number of groups: (name of the coordinate, group, number of groups).

    For pools behind these the name of the pooled space.
    """


class Groups:
    """The groups of one side's tokens: `numbers` [batch or 1, heads or 1, tokens], in [0, count).

    Tokens where `has` is false have no group. Without numbers each token is a group of its own; if there is one group,
    it has all. With a `span` groups overlap: a token of number n is in the groups n, n - 1, ..., `span` of them.

    Raises `OutsideGroups` for other numbers, on the CPU; on a GPU, where that would wait for the device, such tokens
    have no group.
    """

    def __init__(self, count, name="", numbers=None, has=None, span=1):
        self.count, self.numbers, self.exists, self.span = count, numbers, None, span
        if numbers is None:
            return
        numbers = numbers if numbers.dim() == 3 else numbers.expand(1, 1, -1)
        if has is not None:
            numbers, has = torch.broadcast_tensors(numbers, has)
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
        for behind in range(1, span):
            first = torch.minimum(
                first, torch.nn.functional.pad(first[..., behind:], (0, min(behind, count)), value=2**62)
            )
        self.exists = first < numbers.shape[-1]
        self.positions = first.clamp(max=numbers.shape[-1] - 1)

    def all_numbers(self, tokens, device):
        """The group of each token, once for each group that it is in, [batch or 1, heads or 1, tokens * span]."""
        if self.numbers is None:
            numbers = (
                torch.arange(tokens, device=device) if self.count > 1 else torch.zeros(tokens, dtype=int, device=device)
            )
            return numbers.expand(1, 1, -1)
        return with_overlaps(self.numbers, self.count, self.span)

    def first(self, values):
        """The values [batch or 1, heads or 1, tokens] of each group's first token, [batch or 1, heads or 1, groups]."""
        if self.numbers is None:
            return values
        values = values if values.dim() == 3 else values.expand(1, 1, -1)
        leading = torch.broadcast_shapes(values.shape[:-1], self.positions.shape[:-1])
        return values.expand(*leading, -1).gather(-1, self.positions.expand(*leading, -1))


def with_overlaps(numbers, count, span):
    """Group numbers [..., tokens] and those of the `span` - 1 groups before: [..., tokens * span]; `count` for none."""
    behind = [numbers - step for step in range(span)]
    lost = [(numbers == count) | (each < 0) for each in behind]
    return torch.cat([each.masked_fill(no, count) for each, no in zip(behind, lost, strict=True)], dim=-1)


class Tokens:
    """The tokens of one side: their vectors x [batch, heads, tokens, dim], and their coordinates by name."""

    def __init__(self, x, coordinates, inputs):
        self.x, self.heads, self.dtype, self.device = x, x.shape[1], x.dtype, x.device
        self.inputs, self.coordinates, self.values = inputs, coordinates, coordinates(device=x.device, **inputs)

    @property
    def read(self):
        """What functions of tokens read."""
        return {**self.inputs, **self.values}

    def each(self):
        """A group for each token."""
        return Groups(self.x.shape[2])

    def groups(self, count, name, declared, has=None, span=1):
        """The groups by the coordinate `name`, which is `declared` under another."""
        return Groups(count, declared, self.values[name], has, span)

    def first(self, groups):
        """The coordinates of each group's first token."""
        return {name: groups.first(each) for name, each in self.values.items()}

    def coarser(self, groups, coarse):
        """The number of the coarser group of each group; None if there is one."""
        return None if coarse.numbers is None else groups.first(coarse.numbers).clamp(max=coarse.count - 1)

    def pooled(self, vectors, groups, kind, among=None, heads=None):
        """Vectors of tokens, which the function `vectors` makes, pooled by group; those `among` alone, another one."""
        return pooled(vectors(self), groups, kind, among and among(**self.read), heads)

    def sharing(self, source, target, most=None, name=None):
        """The groups of `source` that share tokens with each group of `target`, `most` of them, if that is known.

        Those with a `name` are the same in every call: found once for each device.
        """
        tokens, key = self.x.shape[2], (name, self.coordinates, self.device)
        if name is None:
            return sharing(source, target, tokens, self.device, most)
        if key not in MEMBERS:
            MEMBERS[key] = sharing(source, target, tokens, self.device, most)
        return MEMBERS[key]


def on_device(x, device):
    """x on the device. What is elsewhere is a single number on the host; `full` needs no copy, so no wait."""
    return x if x.device == device else torch.full((), x.item(), dtype=x.dtype, device=device)


def pooled(x, groups, kind, among=None, heads=None):
    """Pools x [batch, heads, tokens, dim] by group: [batch, heads, groups, dim], zeros for groups without tokens.

    `kind` is "mean", "sum", "root" (the sum over the root of the count), "max" or "min". `among`, bool, selects tokens.
    `heads` holds a number for each head; heads of equal number are pooled together.
    """
    numbers = groups.all_numbers(x.shape[2], x.device)
    batch = numbers.shape[0] if x.shape[0] == 1 else x.shape[0]
    x = x.expand(batch, -1, numbers.shape[2] // groups.span, -1)
    count, dim = x.shape[1], x.shape[3]
    if among is not None:
        among = on_device(among, x.device)
        among = among.repeat(*(1,) * (among.dim() - 1), groups.span) if among.dim() else among
        numbers = torch.where(among, numbers, groups.count)
    x = x if groups.span == 1 else x.repeat(1, 1, groups.span, 1)
    if numbers.shape[1] > count:
        x, count = whole_heads(x, numbers.shape[1]), numbers.shape[1]
    result = x.new_full((batch, count, groups.count + 1, dim), NOTHING.get(kind, 0))
    sizes = x.new_zeros(*numbers.shape[:2], groups.count + 1)
    sizes = sizes.scatter_add(2, numbers, x.new_ones(()).expand(numbers.shape)).expand(batch, count, -1)
    if kind in NOTHING:
        result = result.scatter_reduce(2, numbers.unsqueeze(-1).expand_as(x), x, f"a{kind}")
    elif numbers.shape[:2] == (1, 1):  # index_add adds whole rows: several times as fast
        result = result.index_add(2, numbers[0, 0], x)
    else:
        result = result.scatter_add(2, numbers.unsqueeze(-1).expand_as(x), x)
    return finished(result[:, :, : groups.count], sizes[:, :, : groups.count], kind, heads)


def finished(result, sizes, kind, heads=None):
    """The pooled vectors, from sums or maxima [batch, heads, groups, dim] and token counts [batch, heads, groups].

    Where heads that follow one another are pooled together, as many each time, there is one for each pool.
    """
    if heads is not None:
        result, sizes = (whole_heads(each, len(heads)) for each in (result, sizes))
        pools = [[other for other, number in enumerate(heads) if number == pool] for pool in dict.fromkeys(heads)]
        of_pool = {"max": lambda x: x.amax(dim=1), "min": lambda x: x.amin(dim=1)}.get(kind, lambda x: x.sum(dim=1))
        result = torch.stack([of_pool(torch.stack([result[:, head] for head in pool], dim=1)) for pool in pools], dim=1)
        sizes = torch.stack([sum(sizes[:, head] for head in pool) for pool in pools], dim=1)
        if heads != [number for number in dict.fromkeys(heads) for _ in range(len(heads) // len(pools))]:
            entries = [[*dict.fromkeys(heads)].index(number) for number in heads]  # no runs of one length
            result, sizes = (torch.stack([x[:, entry] for entry in entries], dim=1) for x in (result, sizes))
    empty = sizes == 0
    if kind in ("mean", "root"):
        sizes = sizes.clamp(min=1) if kind == "mean" else sizes.clamp(min=1).sqrt()
        result = result / sizes.unsqueeze(-1)
    return result.masked_fill(empty.unsqueeze(-1), 0)


def shared_by(heads, key_heads):
    """The key head of each query head."""
    return [head * key_heads // heads for head in range(heads)]


def whole_heads(x, heads):
    """x [batch, 1, key heads or heads, ...], an entry for each query head."""
    if x.shape[1] >= heads:  # of query heads that share a key head, the first
        return x[:, :: x.shape[1] // heads]
    return x.expand(-1, heads, *x.shape[2:]) if x.shape[1] == 1 else x.repeat_interleave(heads // x.shape[1], dim=1)


def rows_of(table, *indices):
    """The vectors of an input at indices over groups: [batch, heads, groups, dim], with 1 for what none depends on."""
    indices = [torch.as_tensor(index, device=table.device) for index in indices]
    indices = [index if index.dim() else index.view(1) for index in indices]  # torch waits to read one number
    rows = viewed(table, indices) if table.device.type == "cpu" else None
    if rows is None:
        rows = table[tuple(index.clamp(0, size - 1) for index, size in zip(indices, table.shape[:-1], strict=True))]
    return rows.reshape(*(1,) * (4 - rows.dim()), *rows.shape)


def viewed(table, indices):
    """`table[indices]` as a view, where each index counts up along an axis of its own; None where one does not."""
    slices, axes = [], []
    for index, size in zip(indices, table.shape[:-1], strict=True):
        count = index.numel()
        first = int(index.flatten()[0]) if count else 0
        counts_up = torch.equal(index.flatten(), torch.arange(first, first + count))
        if not counts_up or first < 0 or first + count > size:
            return None
        slices.append(slice(first, first + count) if count != 1 else first)
        axes += [axis for axis in range(-index.dim(), 0) if index.shape[axis] != 1]
    if len(axes) > len({*axes}) or len(axes) != sum(isinstance(each, slice) for each in slices):
        return None
    rows = table[tuple(slices)].permute(*sorted(range(len(axes)), key=axes.__getitem__), -1)
    for axis in range(-1, min(axes, default=0), -1):
        rows = rows if axis in axes else rows.unsqueeze(axis - 1)
    return rows


def multiplied(one, other):
    """The products of vectors [batch, heads, query groups, dim] and [batch, heads, key groups, dim].

    Heads that share keys are one product: keys are not repeated.
    """
    heads, key_heads = one.shape[1], other.shape[1]
    if heads <= key_heads or key_heads == 1:
        return whole_heads(one, max(heads, key_heads)) @ other.transpose(-1, -2)
    shared = one.unflatten(1, (key_heads, -1)).flatten(2, 3) @ other.transpose(-1, -2)
    return shared.unflatten(2, (heads // key_heads, -1)).flatten(1, 2)


def of_one(one, other, heads):
    """The products of vectors of the same groups: [batch, heads or fewer, groups, 1]."""
    if 1 < one.shape[1] != other.shape[1] > 1:
        one, other = whole_heads(one, heads), whole_heads(other, heads)
    return (one * other).sum(dim=-1, keepdim=True)


def taken(x, rows):
    """The rows of x [batch or 1, heads or 1, groups or 1, ...]: a slice, or integers [batch or 1, heads or 1, rows]."""
    if isinstance(rows, slice):
        return x[:, :, rows] if x.shape[2] > 1 else x
    if x.shape[2] == 1:
        return x
    if rows.shape[:2] == (1, 1):
        return x.index_select(2, rows[0, 0])
    leading = torch.broadcast_shapes(x.shape[:2], rows.shape[:2])
    index = rows.view(*rows.shape, *(1,) * (x.dim() - 3)).expand(*leading, -1, *x.shape[3:])
    return x.expand(*leading, *x.shape[2:]).gather(2, index)


def sharing(source, target, tokens, device, most=None):
    """The groups of `source` that share tokens with each group of `target`: [batch or 1, heads or 1, groups, most].

    -1 behind the last one of a group. Where `most`, the largest number of them, is not known, it waits for the device.
    """
    one, other = source.all_numbers(tokens, device), target.all_numbers(tokens, device)
    leading = torch.broadcast_shapes(one.shape[:2], other.shape[:2])
    one = one.expand(*leading, -1).unflatten(-1, (1, source.span, -1)).flatten(0, 1)
    other = other.expand(*leading, -1).unflatten(-1, (target.span, 1, -1)).flatten(0, 1)
    fits = (other < target.count) & (one < source.count)
    pairs = torch.where(fits, other * source.count + one, target.count * source.count).flatten(1).sort(dim=-1).values
    groups, members = pairs // source.count, pairs % source.count
    first = torch.ones_like(groups[:, :1], dtype=torch.bool)
    is_new = torch.cat([first, pairs.diff(dim=-1) != 0], dim=-1)
    starts = torch.cat([first, groups.diff(dim=-1) != 0], dim=-1)
    numbers = is_new.cumsum(dim=-1) - 1
    column = numbers - torch.where(starts, numbers, 0).cummax(dim=-1).values  # of each pair, in the row of its group
    is_new = is_new & (groups < target.count)
    if most is None:
        lengths = torch.where(is_new, column + 1, 0).flatten()
        most = int(torch.nn.functional.pad(lengths, (0, 1), value=1).max())  # at least 1
    table = torch.full((len(pairs), (target.count + 1) * most), -1, device=device)  # the last row is for no pair
    rows = torch.where(is_new, groups, target.count)
    table.scatter_(1, rows * most + column.clamp(max=most - 1), members)
    return table.unflatten(1, (target.count + 1, most))[:, :-1].unflatten(0, leading)


def nearest(x, rows):
    """The index of the row nearest to each vector: x [batch, heads, tokens, dim], rows [heads, clusters, dim]."""
    products = x @ rows.transpose(-1, -2)
    distances = rows.square().sum(dim=-1).unsqueeze(-2) - 2 * products
    return distances.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf).argmin(dim=-1)


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
