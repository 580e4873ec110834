"""The functions that a generated module of routes scores pairs of groups by, and selects among them: in plain torch."""

import torch

from maskdsl.codegen.routing import NOTHING, multiplied, on_device, taken, whole_heads

MOST_SCORES = 2**24  # in memory at once
OF_ALL_HEADS = ("batch", "key_of_all_heads")  # where the pairs of several heads compete


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


def select(scored, heads, always, choose, per="query", by_head=False):
    """The key groups that each query group selects: bool [batch, heads or fewer, query groups, key groups].

    `always` is a function of pairs of groups, or None; `choose` one of scores, of what is selected always, and of what
    scores read, for pairs that compete (`per`), differently in each head if `by_head`. Scores of at most MOST_SCORES
    pairs are in memory at once.
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
        if by_head or per in OF_ALL_HEADS:
            sizes = (batch, heads, *sizes[2:])
            s = whole_heads(s, heads) if s.dim() == 4 else s
        shape = torch.broadcast_shapes(s.shape, eligible.shape, sizes, () if forced is None else forced.shape)
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
