# hole: header
"""The selections of a pattern's routes, in plain torch: the skeleton, of a pattern without routes."""
# end

import torch

# hole: imports
# end

MOST_SCORES = 2**24  # in memory at once
OF_ALL_HEADS = ("batch", "key_of_all_heads")  # where the pairs of several heads compete
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
    rows = table[tuple(index.clamp(0, size - 1) for index, size in zip(indices, table.shape[:-1], strict=True))]
    return rows.reshape(*(1,) * (4 - rows.dim()), *rows.shape)


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


class Scored:
    """The scores of pairs of groups, some query groups at a time.

    `queries` and `keys` are pairs (`Groups`, `Tokens`). `products` are pairs of vectors by name,
    or tables of products of one side. `score` and `candidates` are functions of pairs of groups. `wider` are other
    scores, and the members of their groups on both sides (`sharing`): a pair is a candidate if a pair of members is.
    `heads` is their number where scores tell heads apart beside products that are the same in several.
    """

    def __init__(self, queries, keys, values, products, score, candidates, wider=None, heads=1):
        (self.queries, query_tokens), (self.keys, key_tokens) = queries, keys
        self.device = values["head"].device
        self.values = {**values, "batch": values["batch"].unsqueeze(-1), "head": values["head"].unsqueeze(-1)}
        firsts = query_tokens.first(self.queries), key_tokens.first(self.keys)
        self.columns = {f"k_{name}": each.unsqueeze(-2) for name, each in firsts[1].items()}
        self.columns["k_group"] = torch.arange(self.keys.count, device=self.device)
        rows = {f"q_{name}": each.unsqueeze(-1) for name, each in firsts[0].items()}
        self.of_queries = {name: each if each.dim() == 4 else each.expand(1, 1, -1, 1) for name, each in rows.items()}
        self.products, self.score, self.candidates, self.wider = products, score, candidates, wider
        self.heads = heads

    def read(self, rows):
        """What scores read, for these query groups."""
        read = {**self.values, **self.columns, **{name: taken(each, rows) for name, each in self.of_queries.items()}}
        for name, each in self.products.items():
            read[name] = multiplied(taken(each[0], rows), each[1]) if isinstance(each, tuple) else taken(each, rows)
        heads = max([self.heads, *(read[name].shape[1] for name in self.products)])
        read |= {name: whole_heads(read[name], heads) for name in self.products if read[name].shape[1] > 1}
        read["s"] = next((read[name] for name in self.products), torch.zeros((), device=self.device))
        return read

    def eligible(self, rows, read=None):
        """Which pairs are candidates, bool [batch or 1, heads or 1, rows or 1, key groups or 1]."""
        if self.wider is None:
            eligible = on_device(self.candidates(**(self.read(rows) if read is None else read)), self.device)
            eligible = eligible[(None,) * (4 - eligible.dim())]
        else:
            scored, *members = self.wider
            eligible = of_members(lambda rows: (scored.eligible(rows),), rows, *members)[0].any(dim=-1)
        if self.queries.exists is not None:
            eligible = eligible & taken(self.queries.exists.unsqueeze(-1), rows)
        return eligible if self.keys.exists is None else eligible & self.keys.exists.unsqueeze(-2)

    def rows(self, rows):
        """Scores and candidates of these query groups, [batch, heads or fewer, rows, key groups]."""
        read = self.read(rows)
        s, eligible = on_device(self.score(**read), self.device), self.eligible(rows, read)
        count = len(range(self.queries.count)[rows]) if isinstance(rows, slice) else rows.shape[-1]
        shape = torch.broadcast_shapes(s.shape, eligible.shape, (len(self.values["batch"]), 1, count, self.keys.count))
        return s.expand(shape), eligible.expand(shape)


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
    most = max(1, int(torch.where(is_new, column + 1, 0).max())) if most is None else most
    table = torch.full((len(pairs), (target.count + 1) * most), -1, device=device)  # the last row is for no pair
    rows = torch.where(is_new, groups, target.count)
    table.scatter_(1, rows * most + column.clamp(max=most - 1), members)
    return table.unflatten(1, (-1, most))[:, :-1].unflatten(0, leading)


def of_members(find, rows, query_members, key_members):
    """The pairs of members of pairs of groups: tensors [batch, heads, rows, key groups, pairs], false for none.

    `find` gives tensors [..., rows, key groups] for query groups, the last one bool.
    """
    if query_members is None:
        pairs = [each.unsqueeze(3) for each in find(rows)]
    else:
        members = taken(query_members, rows)
        shape = members.shape[2:]
        pairs = [
            each.unflatten(2, shape) if each.shape[2] > 1 else each.unsqueeze(3)
            for each in find(members.flatten(2).clamp(min=0))
        ]
        pairs[-1] = pairs[-1] & (members >= 0).unsqueeze(-1)
    if key_members is None:
        return [each.transpose(3, 4) for each in pairs]
    index, count, most = key_members.clamp(min=0).flatten(2), *key_members.shape[2:]
    pairs = [columns(each, index).unflatten(4, (count, most)).transpose(3, 4).flatten(4) for each in pairs]
    real = (key_members >= 0).unsqueeze(2)
    return [*pairs[:-1], pairs[-1] & real.repeat(1, 1, 1, 1, pairs[-1].shape[-1] // most)]


def columns(x, index):
    """The columns of x [batch, heads, rows, members, key groups] at an index [batch or 1, heads or 1, columns]."""
    if x.shape[-1] == 1:
        return x.expand(*x.shape[:-1], index.shape[-1])
    if index.shape[:2] == (1, 1):
        return x[..., index[0, 0]]
    leading = torch.broadcast_shapes(x.shape[:2], index.shape[:2])
    return x.expand(*leading, *x.shape[2:]).gather(4, index[:, :, None, None].expand(*leading, *x.shape[2:4], -1))


def together(s, eligible, kind):
    """Scores of several pairs as one, along the last dimension, and whether any is a candidate; NaN where none is."""
    count = eligible.sum(dim=-1)
    if kind in NOTHING:
        s = s.masked_fill(~eligible, NOTHING[kind])
        s = s.amax(dim=-1) if kind == "max" else s.amin(dim=-1)
    else:
        s = s.masked_fill(~eligible, 0).sum(dim=-1)
        s = s / count if kind == "mean" else s
    return s.masked_fill(count == 0, torch.nan), count > 0


def shares(s):
    """The shares of a softmax over the last dimension; zeros where all scores are minus infinity."""
    limit = torch.finfo(s.dtype).max
    return s.nan_to_num(nan=-torch.inf, posinf=limit, neginf=-torch.inf).softmax(dim=-1).nan_to_num(nan=0.0)


def competing(x, per):
    """x [batch, heads, query groups, key groups] with the pairs that compete along the last dimension."""
    match per:
        case "key":
            return x.transpose(-1, -2)
        case "head":
            return x.flatten(2)
        case "key_of_all_heads":
            return x.permute(0, 3, 1, 2).flatten(2)
        case "batch":
            return x.flatten(1)
        case _:
            return x


def as_pairs(x, per, shape):
    """x as pairs of groups, [batch, heads, query groups, key groups], from what `competing` makes of them."""
    match per:
        case "key":
            return x.transpose(-1, -2)
        case "key_of_all_heads":
            return x.view(shape[0], shape[3], *shape[1:3]).permute(0, 2, 3, 1)
        case _:
            return x.view(shape)


def by_extent(function, per, x):
    """A function along the last dimension, of the pairs that compete."""
    return as_pairs(function(competing(x, per)), per, x.shape)


def largest(x):
    """The largest of a row, at each of its places."""
    return x.amax(dim=-1, keepdim=True).expand_as(x).contiguous()


def least(x):
    """The least of a row, at each of its places."""
    return x.amin(dim=-1, keepdim=True).expand_as(x).contiguous()


class Steps:
    """Scores after their steps, some query groups at a time.

    A step is ("softmax", extent, condition or None), ("max" or "min", extent), ("gather", kind, members of the query
    groups, members of the key groups) or ("heads", kind, whether those of a key head are put together, or all).
    """

    def __init__(self, scored, steps, heads, key_heads):
        self.scored, self.steps, self.heads, self.key_heads = scored, steps, heads, key_heads
        self.known = {}

    def rows(self, rows, number):
        """Scores and candidates of these query groups after so many steps."""
        if number == 0:
            return self.scored.rows(rows)
        kind, *options = self.steps[number - 1]
        if kind == "gather":
            pool, *members = options
            pairs = of_members(lambda rows: self.rows(rows, number - 1), rows, *members)
            return together(*pairs, pool)
        if kind == "heads":
            pool, by_key_head = options
            groups = self.key_heads if by_key_head else 1
            pairs = (whole_heads(each, self.heads) for each in self.rows(rows, number - 1))
            return together(*(each.unflatten(1, (groups, -1)).movedim(2, -1) for each in pairs), pool)
        if options[0] == "query":
            return self.compared(*self.rows(rows, number - 1), kind, *options, rows=rows)
        if number not in self.known:
            self.known[number] = self.compared(*self.rows(slice(None), number - 1), kind, *options, rows=slice(None))
        return tuple(taken(each, rows) for each in self.known[number])

    def compared(self, s, eligible, kind, per, among=None, rows=None):
        """Shares of a softmax, or the extreme of all, over the pairs that compete."""
        if per in OF_ALL_HEADS:
            s, eligible = whole_heads(s, self.heads), whole_heads(eligible, self.heads)
        if kind == "softmax":
            shared = eligible if among is None else eligible & on_device(among(**self.scored.read(rows)), s.device)
            shape = torch.broadcast_shapes(s.shape, shared.shape)
            shared = shared.expand(shape)
            return by_extent(shares, per, s.expand(shape).masked_fill(~shared, -torch.inf)), eligible.expand(shape)
        fitting = eligible & ~s.isnan()
        s = by_extent(largest if kind == "max" else least, per, s.masked_fill(~fitting, NOTHING[kind]))
        some = by_extent(largest, per, fitting.to(torch.uint8)) > 0
        return s.masked_fill(~some, torch.nan), eligible


def table_of(scored, steps, heads, key_heads, query_groups):
    """The table of scores after their steps, float [batch, heads or fewer, query groups, key groups]; NaN for none.

    Scores of at most MOST_SCORES pairs are in memory at once, where no step needs all.
    """
    made = Steps(scored, steps, heads, key_heads)
    pairs = len(scored.values["batch"]) * heads * scored.keys.count * -(-scored.queries.count // query_groups)
    step = max(1, MOST_SCORES // max(1, pairs))
    tables = []
    for start in range(0, query_groups, step):
        s, eligible = made.rows(slice(start, min(start + step, query_groups)), len(steps))
        tables.append(s.masked_fill(~eligible, torch.nan))
    return torch.cat(tables, dim=2)


def select(scored, heads, always, choose, per="query"):
    """The key groups that each query group selects: bool [batch, heads or fewer, query groups, key groups].

    `always` is a function of pairs of groups, or None; `choose` one of scores, of what is selected always, and of what
    scores read, for pairs that compete (`per`). Scores of at most MOST_SCORES pairs are in memory at once.
    """
    query_count, key_count = scored.queries.count, scored.keys.count
    batch = len(scored.values["batch"])
    step = query_count if per != "query" else max(1, MOST_SCORES // max(1, batch * heads * key_count))
    table = None
    for start in range(0, query_count, step):
        rows = slice(start, min(start + step, query_count))
        read = scored.read(rows)
        s, eligible = on_device(scored.score(**read), scored.device), scored.eligible(rows, read)
        forced = None if always is None else on_device(always(**read), s.device)
        sizes = (batch, 1, rows.stop - rows.start, key_count)
        shape = torch.broadcast_shapes(s.shape, eligible.shape, sizes, () if forced is None else forced.shape)
        if per in OF_ALL_HEADS:
            shape = (batch, heads, *shape[2:])
        # Pairs that are no candidates, and those with a score of NaN, get -inf. Adding is cheaper than torch.where.
        s = s + torch.zeros(eligible.shape, dtype=s.dtype, device=s.device).masked_fill_(~eligible, -torch.inf)
        s = s.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).expand(shape)
        if forced is not None:
            for side, view in ((scored.queries, -1), (scored.keys, -2)):
                if side.exists is not None:
                    exists = side.exists.unsqueeze(view)
                    forced = forced & (taken(exists, rows) if view == -1 else exists)
            forced = competing(forced.expand(shape), per)
        chosen = as_pairs(choose(competing(s, per), forced, read), per, shape)
        if table is None:
            table = chosen.new_empty(batch, shape[1], query_count, key_count)
        table[:, :, rows] = chosen
    return table


def argument(value, per):
    """The argument of a selector for the rows of pairs that compete, from its values for pairs of groups."""
    if not isinstance(value, torch.Tensor) or value.dim() < 2 or per == "query":
        return value
    match per:
        case "key":
            return value.transpose(-1, -2)
        case "key_of_all_heads":
            return value[..., :1, :, :].select(-3, 0).transpose(-1, -2) if value.dim() > 2 else value.transpose(-1, -2)
        case _:
            return value[..., :1, 0]


def chosen_best(s, count, forced):
    """The forced pairs, and the `count` best of the others less their number."""
    if forced is None:
        return best(s, count)
    room = (count - forced.sum(dim=-1, keepdim=True)).clamp(min=0)
    return forced | best(s.masked_fill(forced, -torch.inf), room)


def best(score, count):
    """The `count` highest scores of each row, as a mask; none of -inf, ties to the lower index."""
    columns = score.shape[-1]
    if isinstance(count, int):
        if count <= 4:
            return best_one_by_one(score, count)
        most, count = min(count, columns), torch.full((), count, device=score.device)
    else:  # `count.max()` would wait for a GPU
        most = min(int(count.max()), columns) if count.numel() and score.device.type == "cpu" else columns
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


def heaviest(score, mass, forced=None, weighs=False, reach=True):
    """The fewest scores of this share of the weights of their row, as a mask: from the highest down; none of -inf.

    Weights are exponentials, or (`weighs`) the scores, zero where these are negative; all scores are taken if no weight
    is positive. `forced` ones are taken first. Without `reach`: the most that stay within the share, at least one. Ties
    go to the lower index.
    """
    ordered, positions = score.double().sort(dim=-1, descending=True, stable=True)
    fitting = ordered > -torch.inf
    m_i = ordered[..., :1]  # scores of +inf weigh the same
    weights = ordered.clamp(min=0) if weighs else torch.where(ordered == m_i, 0, ordered - m_i).exp()
    weights = torch.where(fitting, weights, 0)
    whole = weights.sum(dim=-1, keepdim=True)
    others, first = weights, torch.zeros_like(whole)
    if forced is not None:
        taken_first = forced.gather(-1, positions)
        first = torch.where(taken_first, weights, 0).sum(dim=-1, keepdim=True)
        others, fitting = torch.where(taken_first, 0, weights), fitting & ~taken_first
    after = first + others.cumsum(dim=-1)
    if reach:
        chosen = fitting & (after - others < mass * whole)
    else:
        leading = fitting & (fitting.cumsum(dim=-1) == 1)
        chosen = fitting & (after <= mass * whole)
        chosen |= leading if forced is None else leading & ~forced.any(dim=-1, keepdim=True)
    chosen = torch.where(whole > 0, chosen, fitting)
    result = torch.zeros_like(chosen).scatter(-1, positions, chosen)
    return result if forced is None else result | forced


def above(score, threshold, forced):
    """The scores that exceed the threshold, and the forced ones."""
    return score > threshold if forced is None else (score > threshold) | forced


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
