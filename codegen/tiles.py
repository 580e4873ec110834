"""Which tiles the skeleton `tiled.py` computes, and where they are; every generated tiled module holds all of it.

The words are explained on top of `tiled.py`.
"""

from itertools import accumulate

import torch

CACHED = 2**19
"""About how many scores are computed at once: few enough to stay in the processor's cache."""


class Tile:
    """Where a tile's queries, keys and scores are."""

    def __init__(self, group, units, key_units, first, rows, offset, size):
        self.group, self.units, self.key_units = group, units, key_units
        self.first, self.rows, self.size = first, rows, size
        self.start = group.start + first * group.step + offset
        ends = list(accumulate(run.size for run in group.runs))
        self.spans = [(run, slice(end - run.size, end)) for run, end in zip(group.runs, ends, strict=True)]
        self.width = ends[-1] if ends else 0
        self.columns = [(0, self.width)]

    @property
    def position(self):
        """What the tile's mask depends on, but for the units."""
        return self.start, self.first, self.rows, self.size, self.group.step, self.group.runs, self.group.partial

    @property
    def has_empty_rows(self):
        """Whether there may be queries that attend no key of this tile."""
        return sum(last - first for first, last in self.group.partial) == self.width

    def queries(self, x):
        """A view of the queries' part of x [units or 1, heads or 1, tokens, dim]."""
        return rows_of(x, self.units, self.start, self.group.step, self.rows, self.size)

    def keys(self, x, run):
        """A view of the part of x [key units, 1, tokens, dim] that belongs to one run: [rows, keys, dim]."""
        return self.run_of(x, self.key_units, run).squeeze(1)

    def run_of(self, x, units, run):
        return rows_of(x, units, run.start + self.first * run.step, run.step, self.rows, run.size)

    def key_values(self, x, columns):
        """What x [units or 1, heads or 1, tokens] holds for the keys of these columns, side by side."""
        parts = []
        for run, span in self.spans:
            values = self.run_of(x.unsqueeze(-1), self.units, run)
            for first, last in columns:
                low, high = max(first - span.start, 0), min(last - span.start, run.size)
                if low < high:
                    parts.append(values[:, :, low:high, 0])
        rows = max(part.shape[0] for part in parts)
        return torch.cat([part.expand(rows, -1, -1) for part in parts], dim=-1).unsqueeze(-2)


def rows_of(x, units, start, step, rows, size):
    """Rows of `size` tokens, `step` apart: [units, heads, tokens, dim] to [rows or units, heads, size, dim], a view.

    What all rows or all units share stands once.
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
    """The tiles of a group, row by row, so that units may share masks."""
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
    """Groups whose rows share no keys, so that what a run sends to its keys can be added for all rows at once."""
    steps = [-(-run.size // run.step) for run in group.runs if 0 < run.step < run.size]
    count = max(steps, default=1) if group.rows > 1 else 1
    for n in range(min(count, group.rows)):
        runs = tuple(run._replace(start=run.start + n * run.step, step=run.step * count) for run in group.runs)
        rows = -(-(group.rows - n) // count)
        yield group._replace(start=group.start + n * group.step, step=group.step * count, rows=rows, runs=runs)


class Masks:
    """Masks of tiles, kept as long as they are small altogether. Most tiles of a pattern have equal ones."""

    def __init__(self, in_no_mode, limit=2**26):
        self.in_no_mode, self.kept, self.room = in_no_mode, {}, limit

    def keep(self, position, make):
        """The parts of a tile's mask, which depend on its place alone; made `in_no_mode` of the thread's."""
        parts = self.kept.get(position)
        if parts is None:
            with self.in_no_mode():
                parts = make()
            size = sum(part.numel() * part.element_size() for part in parts)
            if size <= self.room:
                self.room -= size
                self.kept[position] = parts
        return parts
