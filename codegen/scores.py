"""The functions that a generated module of routes scores pairs of groups by, and selects among them: in plain torch."""

import torch

from maskdsl.codegen.routing import NOTHING, multiplied, on_device, taken, whole_heads
from maskdsl.codegen.selectors import best_columns

MOST_SCORES = 2**24  # in memory at once
MOST_IN_CACHE = 2**20  # on a CPU
OF_ALL_HEADS = ("batch", "key_of_all_heads")  # where the pairs of several heads compete


class Scored:
    """The scores of pairs of groups, some query groups at a time.

    `queries` and `keys` are pairs (`Groups`, `Tokens`). `products` are pairs of vectors by name, or tables of products
    of one side. `candidates` is a function of pairs of groups. The `terms` that add up to the score are such functions,
    each with the names of the products that it reads. `wider` are other scores, and the members of their groups on both
    sides (`sharing`): a pair is a candidate if a pair of members is.
    `heads` is their number where scores tell heads apart beside products that are the same in several. Where heads
    share what they select, only the first of each are scored: `first` is their number.
    """

    def __init__(self, queries, keys, values, products, terms, candidates, wider=None, heads=1, first=None):
        (self.queries, query_tokens), (self.keys, key_tokens) = queries, keys
        self.device, head = values["head"].device, values["head"].unsqueeze(-1)
        self.first = len(head) if first is None else first
        self.values = {**values, "batch": values["batch"].unsqueeze(-1), "head": head[:: len(head) // self.first]}
        firsts = [
            {name: self.of_first(each) for name, each in tokens.first(groups).items()}
            for groups, tokens in ((self.queries, query_tokens), (self.keys, key_tokens))
        ]
        self.exists = [
            each.exists if each.exists is None else self.of_first(each.exists) for each in (self.queries, self.keys)
        ]
        self.columns = {f"k_{name}": each.unsqueeze(-2) for name, each in firsts[1].items()}
        self.columns["k_group"] = torch.arange(self.keys.count, device=self.device)
        rows = {f"q_{name}": each.unsqueeze(-1) for name, each in firsts[0].items()}
        self.of_queries = {name: each if each.dim() == 4 else each.expand(1, 1, -1, 1) for name, each in rows.items()}
        self.terms, self.candidates, self.wider = terms, candidates, wider
        self.products = {
            name: tuple(map(self.of_first, each)) if isinstance(each, tuple) else self.of_first(each)
            for name, each in products.items()
        }
        vectors = [x for each in self.products.values() for x in (each if isinstance(each, tuple) else (each,))]
        self.heads = max([heads, *(each.shape[1] for each in vectors)])
        self.values["s"] = torch.zeros((), dtype=query_tokens.dtype, device=self.device)

    def of_first(self, x):
        """x, [batch or 1, heads or fewer, ...] or without heads, of the first of the heads that share a selection."""
        return whole_heads(x, self.first) if x.dim() > 2 and x.shape[1] > self.first else x

    def read(self, rows):
        """What scores read of these query groups, but for products; `s` has the type of scores."""
        return {**self.values, **self.columns, **{name: taken(each, rows) for name, each in self.of_queries.items()}}

    def product(self, name, rows):
        """The products of these query groups, [batch or 1, heads or 1, rows or 1, key groups or 1]."""
        each = self.products[name]
        table = multiplied(taken(each[0], rows), each[1]) if isinstance(each, tuple) else taken(each, rows)
        return whole_heads(table, self.heads) if table.shape[1] > 1 else table

    def score(self, rows, read):
        """The sum of the terms. Only the products of one term are in memory at a time."""
        total, is_new = None, False
        for term, names in self.terms:
            s = on_device(term(**read, **{name: self.product(name, rows) for name in names}), self.device)
            if total is None:
                total = s
            elif is_new and total.shape == torch.broadcast_shapes(total.shape, s.shape):
                total.add_(s)
            else:
                total, is_new = total + s, True
        return total

    def eligible(self, rows, read=None):
        """Which pairs are candidates, bool [batch or 1, heads or 1, rows or 1, key groups or 1]."""
        if self.wider is None:
            eligible = on_device(self.candidates(**(self.read(rows) if read is None else read)), self.device)
            eligible = eligible[(None,) * (4 - eligible.dim())]
        else:
            scored, *members = self.wider
            eligible = of_members(lambda rows: (scored.eligible(rows),), rows, *members)[0].any(dim=-1)
        return self.existing(eligible, rows)

    def existing(self, x, rows):
        """x, bool of pairs of groups, for those that have tokens alone."""
        queries, keys = self.exists
        x = x if queries is None else x & taken(queries.unsqueeze(-1), rows)
        return x if keys is None else x & keys.unsqueeze(-2)

    def rows(self, rows):
        """Scores and candidates of these query groups, [batch, heads or fewer, rows, key groups]."""
        read = self.read(rows)
        s, eligible = self.score(rows, read), self.eligible(rows, read)
        count = len(range(self.queries.count)[rows]) if isinstance(rows, slice) else rows.shape[-1]
        shape = torch.broadcast_shapes(s.shape, eligible.shape, (len(self.values["batch"]), 1, count, self.keys.count))
        return s.expand(shape), eligible.expand(shape)


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
    count = counted(eligible)
    if kind in NOTHING:
        s = torch.where(eligible, s, NOTHING[kind])
        s = s.amax(dim=-1) if kind == "max" else s.amin(dim=-1)
    else:
        s = torch.where(eligible, s, 0).sum(dim=-1)
        s = s / count if kind == "mean" else s
    return torch.where(count > 0, s, torch.nan), count > 0


def counted(x):
    """How many of the last dimension are true. If it is expanded, all of them are alike."""
    return x.sum(dim=-1) if x.stride(-1) else x[..., 0] * x.shape[-1]


def extremes(s, eligible, groups, kind):
    """The largest or least scores of pairs with the tokens of each group, as `together`: [..., tokens] to groups."""
    shape = torch.broadcast_shapes(s.shape, groups.numbers.unsqueeze(2).shape)
    numbers, s, eligible = (x.expand(shape) for x in (groups.numbers.unsqueeze(2), s, eligible))
    sizes = (*shape[:-1], groups.count + 1)  # the last one is for tokens without a group
    some = s.new_zeros(sizes).scatter_reduce(-1, numbers, eligible.to(s.dtype), "amax") > 0
    s = torch.where(eligible, s, NOTHING[kind])
    undefined = s.new_zeros(sizes).scatter_reduce(-1, numbers, s.isnan().to(s.dtype), "amax") > 0
    s = s.new_full(sizes, NOTHING[kind]).scatter_reduce(-1, numbers, s, f"a{kind}")
    return s.masked_fill(undefined | ~some, torch.nan)[..., : groups.count], some[..., : groups.count]


def shares(s):
    """The shares of a softmax over the last dimension; zeros where all scores are minus infinity. Overwrites s."""
    limit = torch.finfo(s.dtype).max
    return s.nan_to_num_(nan=-torch.inf, posinf=limit, neginf=-torch.inf).softmax(dim=-1).nan_to_num_(nan=0.0)


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
    groups, members of the key groups), ("tokens", "max" or "min", the key groups that tokens are gathered to) or
    ("heads", kind, whether those of a key head are put together, or all).
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
        if kind == "tokens":
            pool, groups = options
            return extremes(*self.rows(rows, number - 1), groups, pool)
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
            s = torch.where(shared, s, -torch.inf)
            return by_extent(shares, per, s), eligible.expand(s.shape)
        fitting = eligible & ~s.isnan()
        s = by_extent(largest if kind == "max" else least, per, torch.where(fitting, s, NOTHING[kind]))
        some = by_extent(largest, per, fitting.to(torch.uint8)) > 0
        return torch.where(some, s, torch.nan), eligible


def rows_at_once(pairs, device, least=1):
    """How many rows of so many pairs are scored at once: MOST_SCORES pairs, or what the cache of a CPU holds.

    There `least` rows are, even if the cache does not hold their scores.
    """
    most = max(1, MOST_SCORES // max(1, pairs))
    return most if device.type != "cpu" else min(most, max(least, MOST_IN_CACHE // max(1, pairs)))


def table_of(scored, steps, heads, key_heads, query_groups):
    """The table of scores after their steps, float [batch, heads or fewer, query groups, key groups]; NaN for none.

    Few rows are in memory at once, where no step needs all.
    """
    made = Steps(scored, steps, heads, key_heads)
    pairs = len(scored.values["batch"]) * heads * scored.keys.count * -(-scored.queries.count // query_groups)
    step = rows_at_once(pairs, scored.device)
    tables = []
    for start in range(0, query_groups, step):
        s, eligible = made.rows(slice(start, min(start + step, query_groups)), len(steps))
        tables.append(torch.where(eligible, s, torch.nan))
    return torch.cat(tables, dim=2)


def selected_scores(scored, heads, rows, read, always=None, per="query", by_head=False):
    """The scores that a selector compares for these query groups, and what it selects always; None for nothing.

    Both are [batch, heads or fewer, rows, key groups]. Pairs that are no candidates have -inf, and those with a score
    of NaN. See `select`.
    """
    s, eligible = scored.score(rows, read), scored.eligible(rows, read)
    forced = None if always is None else scored.existing(on_device(always(**read), s.device), rows)
    sizes = (len(scored.values["batch"]), 1, rows.stop - rows.start, scored.keys.count)
    if by_head or per in OF_ALL_HEADS:
        sizes = (sizes[0], heads, *sizes[2:])
        s = whole_heads(s, heads) if s.dim() == 4 else s
    shape = torch.broadcast_shapes(s.shape, eligible.shape, sizes, () if forced is None else forced.shape)
    others = {"nan": -torch.inf, "posinf": torch.inf, "neginf": -torch.inf}
    if s.device.type == "cpu" and 8 * eligible.numel() < s.numel() and bool(eligible.all()):
        s = s.nan_to_num(**others)  # a pass less
    else:
        s = torch.where(eligible, s, -torch.inf).nan_to_num_(**others)
    return s.expand(shape), None if forced is None else forced.expand(shape)


def select(scored, heads, always, choose, per="query", by_head=False):
    """The key groups that each query group selects: bool [batch, heads or fewer, query groups, key groups].

    `always` is a function of pairs of groups, or None; `choose` one of scores, of what is selected always, and of what
    scores read, for pairs that compete (`per`), differently in each head if `by_head`. Few rows are in memory at once.
    """
    query_count, key_count = scored.queries.count, scored.keys.count
    batch = len(scored.values["batch"])
    step = query_count if per != "query" else rows_at_once(batch * heads * key_count, scored.device)
    table = None
    for start in range(0, query_count, step):
        rows = slice(start, min(start + step, query_count))
        read = scored.read(rows)
        s, forced = selected_scores(scored, heads, rows, read, always, per, by_head)
        forced = None if forced is None else competing(forced, per)
        chosen = as_pairs(choose(competing(s, per), forced, read), per, s.shape)
        if table is None:
            table = chosen.new_empty(batch, s.shape[1], query_count, key_count)
        table[:, :, rows] = chosen
    return table


def select_list(scored, heads, count):
    """The `count` best keys of each query, as the tensor of a sparse input: [batch, heads or fewer, entries].

    It holds the number of rows, the steps of a search in a row, where the keys of each row start, and the keys. Few
    rows of scores are in memory at once.
    """
    batch, query_count, key_count = len(scored.values["batch"]), scored.queries.count, scored.keys.count
    # Products of fewer rows with single keys would take longer than to leave the cache.
    step, most = rows_at_once(batch * heads * key_count, scored.device, least=64), query_count * count
    held, before = None, 0
    for start in range(0, query_count, step):
        rows = slice(start, min(start + step, query_count))
        s, _ = selected_scores(scored, heads, rows, scored.read(rows))
        if held is None:
            held = torch.full((batch, s.shape[1], 3 + query_count + most), -1, device=s.device)
            held[..., 0], held[..., 1], held[..., 2] = query_count, count.bit_length(), 0
        keys = best_columns(s, count)
        real = keys < key_count
        ends = before + real.sum(dim=-1).cumsum(dim=-1)
        keys, real = keys.flatten(2), real.flatten(2)
        slot = before + real.cumsum(dim=-1) - 1
        # What is no key is written to the end, from the last slot on.
        number = torch.arange(start * count, rows.stop * count, device=s.device)
        slot = torch.where(real, slot, most + slot - number)
        held[..., 3 + start : 3 + rows.stop] = ends
        held[..., 3 + query_count :].scatter_(2, slot, keys.masked_fill(~real, -1))
        before = ends[..., -1:]
    return held
