"""The tiles of `tiled.py`, as views of its tensors; every generated tiled module holds all of it.

The comment at the top of `tiled.py` defines the words.
"""

from itertools import accumulate

import torch

CACHED = 2**19
"""Scores that a tile has at most, about: they stay in the processor's cache."""


class Tile:
    """Some rows of a group for some units, and the views of its queries, keys and scores."""

    def __init__(self, group, units, key_units, first, rows, offset, size):
        self.group, self.units, self.key_units = group, units, key_units
        self.first, self.rows, self.size = first, rows, size
        self.start = group.start + first * group.step + offset
        ends = list(accumulate(run.size for run in group.runs))
        self.spans = [(run, slice(end - run.size, end)) for run, end in zip(group.runs, ends, strict=True)]
        self.width = ends[-1] if ends else 0
        self.columns = [(0, self.width)]

    @property
    def mask_key(self):
        """What the tile's mask depends on, apart from its units."""
        return self.start, self.first, self.rows, self.size, self.group.step, self.group.runs, self.group.partial

    @property
    def has_empty_rows(self):
        """Whether some queries may attend no key of this tile: all its columns are partial."""
        return sum(last - first for first, last in self.group.partial) == self.width

    def queries(self, x):
        """The queries of x [units or 1, heads or 1, tokens, dim], a view [rows or units, heads or 1, queries, dim]."""
        return rows_of(x, self.units, self.start, self.group.step, self.rows, self.size)

    def keys(self, x, run):
        """The keys of one run of x [key units, 1, tokens, dim], a view [rows or units, keys, dim]."""
        return self.run_of(x, self.key_units, run).squeeze(1)

    def run_of(self, x, units, run):
        return rows_of(x, units, run.start + self.first * run.step, run.step, self.rows, run.size)

    def key_values(self, x, columns):
        """The values of x [units or 1, heads or 1, tokens] for the keys of these columns, concatenated."""
        pieces = []
        for run, span in self.spans:
            values = self.run_of(x.unsqueeze(-1), self.units, run)
            for first, last in columns:
                low, high = max(first - span.start, 0), min(last - span.start, run.size)
                if low < high:
                    pieces.append(values[:, :, low:high, 0])
        rows = max(piece.shape[0] for piece in pieces)
        return torch.cat([piece.expand(rows, -1, -1) for piece in pieces], dim=-1).unsqueeze(-2)

    def add_to_queries(self, gradient, grad):
        """Adds the gradient of `queries` of a value a token."""
        self.queries(gradient.unsqueeze(-1)).add_(grad)

    def add_to_keys(self, gradient, grad):
        """Adds the gradient of `key_values`. Rows have either different keys in a run, or all the same."""
        for run, span in self.spans:
            target = self.run_of(gradient.unsqueeze(-1), self.units, run)
            run_grad = grad.transpose(2, 3)[:, :, span]
            target.add_(run_grad.sum(dim=0, keepdim=True) if target.shape[0] == 1 else run_grad)


def rows_of(x, units, start, step, rows, size):
    """A view of rows of `size` tokens, `step` apart: [units, heads, tokens, dim] to [rows or units, heads, size, dim].

    Its first axis is 1 where all rows or all units share the same tokens.
    """
    per_unit, per_head, per_token, per_item = x.stride()
    count, apart, first = len(units), units.step * per_unit, units.start * per_unit
    if x.shape[0] == 1:
        count, apart, first = 1, 0, 0
    if rows > 1 and step:
        count, apart = rows, step * per_token
    first += x.storage_offset() + start * per_token
    return x.as_strided((count, x.shape[1], size, x.shape[3]), (apart, per_head, per_token, per_item), first)


def tiles_of(group, pairs, heads):
    """The tiles of a group, units innermost, as they may share the mask of a row."""
    width = heads * max(64, sum(run.size for run in group.runs))
    if group.rows >= max(2, len(pairs[0][0])):
        rows = max(1, CACHED // (width * group.size))
        for first in range(0, group.rows, rows):
            for units, key_units in pairs:
                for n in range(len(units)):
                    alone = units[n : n + 1], key_units[n : n + 1]
                    yield Tile(group, *alone, first, min(rows, group.rows - first), 0, group.size)
        return
    size = min(group.size, max(32, min(256, CACHED // (2 * width))))
    count = max(1, CACHED // (width * size))
    for first in range(group.rows):
        for offset in range(0, group.size, size):
            for units, key_units in pairs:
                for n in range(0, len(units), count):
                    together = units[n : n + count], key_units[n : n + count]
                    yield Tile(group, *together, first, 1, offset, min(size, group.size - offset))


def spread(group):
    """The group as groups whose rows share no keys, so that gradients of keys can be added for all rows at once."""
    steps = [-(-run.size // run.step) for run in group.runs if 0 < run.step < run.size]
    count = max(steps, default=1) if group.rows > 1 else 1
    for n in range(min(count, group.rows)):
        runs = tuple(run._replace(start=run.start + n * run.step, step=run.step * count) for run in group.runs)
        rows = -(-(group.rows - n) // count)
        yield group._replace(start=group.start + n * group.step, step=group.step * count, rows=rows, runs=runs)


class Masks:
    """The masks of tiles, cached up to `limit` bytes. Most tiles of a pattern have equal ones.

    `in_no_mode` is a context without autograd or torch modes, in which masks are computed.
    """

    def __init__(self, in_no_mode, limit=2**26):
        self.in_no_mode, self.cached, self.free = in_no_mode, {}, limit

    def keep(self, key, make):
        """The tensors of a tile's mask: cached, or made and cached if there is memory left."""
        masks = self.cached.get(key)
        if masks is None:
            with self.in_no_mode():
                masks = make()
            size = sum(each.numel() * each.element_size() for each in masks)
            if size <= self.free:
                self.free -= size
                self.cached[key] = masks
        return masks
