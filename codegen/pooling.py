"""Helpers of generated modules that pool queries or keys. Plain torch; autograd differentiates it."""

import torch


def in_boxes(x, lengths, box, value):
    """Tokens of a grid, [batch, heads, tokens, dim], with each axis of the grid split in two: box, offset in the box.

    Boxes that the border cuts are padded with `value`.
    """
    x = x.unflatten(2, lengths)
    missing = [-length % side for length, side in zip(lengths, box, strict=True)]
    if any(missing):
        ends = [end for count in reversed(missing) for end in (0, count)]
        x = torch.nn.functional.pad(x, (0, 0, *ends), value=value)
    for axis, side in reversed(list(enumerate(box, start=2))):
        x = x.unflatten(axis, (-1, side))
    return x


class BoxPools:
    """Pools of the tokens of a grid: `total` and `largest` are [batch, heads, boxes, dim]."""

    def __init__(self, lengths, box):
        self.lengths, self.box = lengths, box
        self.in_box = [3 + 2 * axis for axis in range(len(box))]

    def total(self, x, dtype=None):
        """The sum of each box, in `dtype`."""
        return in_boxes(x, self.lengths, self.box, 0).sum(dim=self.in_box, dtype=dtype).flatten(2, -2)

    def largest(self, x, lowest):
        """The maximum of each box; `lowest` is no more than any x. Tokens that attain it share its gradient evenly."""
        return in_boxes(x, self.lengths, self.box, lowest).amax(dim=self.in_box).flatten(2, -2)


class GroupPools:
    """Pools of the tokens with equal numbers; tokens with others than 0 to `count` - 1 are in none.

    `numbers` are integers [batch or 1, 1, tokens] or [tokens]; `total` and `largest` as in `BoxPools`.
    """

    def __init__(self, numbers, count):
        self.count, self.numbers = count, pool_numbers(numbers, count)

    def rows(self, x):
        """x as [batch x tokens, heads x dim], with the row of a table [batch x (count + 1), ...] for each."""
        batch = x.shape[0]
        starts = torch.arange(batch, device=x.device).unsqueeze(-1) * (self.count + 1)
        return x.transpose(1, 2).flatten(2).flatten(0, 1), (self.numbers + starts).flatten(), batch * (self.count + 1)

    def table(self, rows, x):
        """A table as [batch, heads, pools, dim]; x gives the other sizes."""
        return rows.view(len(x), self.count + 1, *x.shape[1::2])[:, :-1].transpose(1, 2)

    def total(self, x, dtype=None):
        """The sum of each group, in `dtype`, with the same bits in every run."""
        x = x.expand(*torch.broadcast_shapes(x.shape[:1], self.numbers.shape[:1]), -1, -1, -1)
        rows, index, count = self.rows(x if dtype is None else x.to(dtype))
        sums = rows.new_zeros(count, rows.shape[1]).index_put((index,), rows, accumulate=True)
        return self.table(sums, x)

    def largest(self, x, lowest):
        """The maximum of each group, `lowest` of none. Tokens that attain it share its gradient evenly."""
        rows, index, count = self.rows(x)
        blank = rows.new_full((count, rows.shape[1]), lowest)
        index = index.unsqueeze(-1).expand_as(rows)
        return self.table(blank.scatter_reduce(0, index, rows, "amax", include_self=False), x)


def pooled(x, count, pools, kind, weighted):
    """The "mean", "max" or "min" of each pool over its tokens, and how many given tokens each is made of.

    x is [batch, heads, tokens, dim]; a token stands for `count` given tokens, integers [batch or 1, 1, tokens, 1], and
    is zero where that is none; so are the results, which have pools for tokens. `weighted`: counts may exceed 1. Means
    are computed and returned in float32 at least.
    """
    total = pools.total(count)
    if kind == "mean":
        dtype = torch.promote_types(x.dtype, torch.float32)
        weighed = x.to(dtype) * count if weighted else x
        return pools.total(weighed, dtype) / total.clamp(min=1), total
    tokens = (x if kind == "max" else -x).masked_fill(count == 0, -torch.inf)
    # A maximum divides its gradient by the tokens equal to it: by 0 for NaN, which a sum passes on as well.
    unknown = tokens.isnan()
    known = pools.largest(tokens.masked_fill(unknown, -torch.inf), -torch.inf)
    is_unknown = pools.total(unknown.long()) > 0
    values = torch.where(is_unknown, pools.total(tokens), known)
    return (values if kind == "max" else -values).masked_fill(total == 0, 0), total


def pool_numbers(numbers, count):
    """The pool of each token, [batch or 1, tokens], from its number, [batch or 1, 1, tokens] or [tokens].

    `count`, the number of pools, stands for none.
    """
    numbers = numbers.expand(1, 1, -1) if numbers.dim() < 3 else numbers
    return torch.where((numbers >= 0) & (numbers < count), numbers, count)[:, 0]


def box_numbers(lengths, box, device):
    """The number of the box of each token of a grid, [tokens], both row-major."""
    numbers = torch.zeros((), dtype=torch.int64, device=device)
    for length, side in zip(lengths, box, strict=True):
        cells = torch.arange(length, device=device) // side
        numbers = numbers.unsqueeze(-1) * -(-length // side) + cells
    return numbers.flatten()


def pool_facts(facts, numbers, count, end):
    """The first, the last and the number of given tokens in each pool, integers [batch or 1, pools], from its tokens'.

    `numbers` are those of `pool_numbers`, and `end` is the number of given tokens. Pools without tokens have first 0,
    last -1 and count 0.
    """
    first, last, size = torch.broadcast_tensors(*facts, numbers)[:3]
    numbers = torch.where(size > 0, numbers, count)
    blank = first.new_zeros(len(numbers), count + 1)
    size = blank.scatter_add(1, numbers, size)[:, :-1]
    first = (blank + end).scatter_reduce(1, numbers, first, "amin")[:, :-1]
    last = (blank - 1).scatter_reduce(1, numbers, last, "amax")[:, :-1]
    return first.masked_fill(size == 0, 0), last, size
