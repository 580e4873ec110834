"""The columns of one side in laid-out order, and their bounds on blocks of tokens: the tiles' own, coarser, finer."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from maskdsl.analysis.tiles.intervals import Array, Interval, point

_PARTS = 8
"""A block is cut into so many parts at each level below the tile's."""
_SMALLEST = 16
"""Blocks up to this size are not cut but looked at token by token."""

Bounds = tuple[Interval, ...]
"""Of every column, on the nodes of one level."""
Points = tuple[Array, ...]
"""Of every column, its values at some tokens of every node of one level: [nodes, tokens]."""


@dataclass(frozen=True, eq=False)
class Tree:
    """Level 0 has the blocks of tiles; each level above joins two nodes; levels -1, -2, ... cut them in equal parts.

    So that all parts are equal, a ragged block or part repeats its last token. That changes no bound and no answer
    to "does any pair" or "do all pairs"; for counting, `real` tells the repetitions.
    """

    columns: tuple[Array, ...]
    length: int
    sizes: tuple[int, ...]
    """Tokens of a node at level 0, -1, -2, ..."""
    positions: Array | None
    """int64 [nodes of the lowest level, tokens]: the token at each place; None where that is 0, 1, 2, ..."""
    real: Array | None
    """bool, of the same shape: the place is no repetition. None where none is."""
    count: int
    """Blocks, the nodes of level 0."""

    @staticmethod
    def of(columns: tuple[Array, ...], length: int, block: int) -> "Tree":
        sizes = [min(block, length)]
        while sizes[-1] > _SMALLEST:
            sizes.append(-(-sizes[-1] // _PARTS))
        count = -(-length // sizes[0])
        if length % sizes[0] == 0 and all(large % small == 0 for large, small in pairwise(sizes)):
            return Tree(columns, length, tuple(sizes), None, None, count)
        begin = np.arange(count) * sizes[0]
        end = np.minimum(begin + sizes[0], length)
        for large, small in pairwise(sizes):
            begin = begin[..., None] + np.arange(0, large, small)
            end = np.minimum(begin + small, end[..., None])
        token = begin[..., None] + np.arange(sizes[-1])
        real = (token < end[..., None]).reshape(-1, sizes[-1])
        last = np.broadcast_to(end[..., None] - 1, token.shape)
        positions = np.minimum(token, last).reshape(-1, sizes[-1])
        return Tree(columns, length, tuple(sizes), positions, real, count)

    @property
    def bottom(self) -> int:
        """The lowest level."""
        return 1 - len(self.sizes)

    @property
    def top(self) -> int:
        """The level of the root."""
        return (self.count - 1).bit_length()

    def parts(self, level: int) -> int:
        """Children that a node of a level has on the level below; itself alone at the bottom."""
        if level > 0:
            return 2
        return -(-self.sizes[-level] // self.sizes[1 - level]) if level > self.bottom else 1

    def nodes(self, level: int) -> int:
        """How many there are at a level; those below the bottom are the same as at the bottom."""
        if level >= 0:
            return -(-self.count >> level)
        return self.nodes(level + 1) * self.parts(level + 1)

    def weights(self, level: int) -> Array:
        """int64 [nodes]: the tokens of each node of level 0 or below, without repetitions."""
        if self.real is None:
            return np.full(self.nodes(level), self.length // self.nodes(level))
        return np.asarray(np.count_nonzero(self.real.reshape(self.nodes(level), -1), axis=1))

    def bounds(self, level: int) -> Bounds:
        level = max(level, self.bottom)
        return self.upper[level] if level >= 0 else self.lower[level]

    @cached_property
    def points(self) -> Points:
        """Each column at the places of each node of the lowest level."""
        if self.positions is None:
            return tuple(column.reshape(-1, self.sizes[-1]) for column in self.columns)
        return tuple(column[self.positions] for column in self.columns)

    @cached_property
    def upper(self) -> tuple[Bounds, ...]:
        """Levels 0, 1, ... up to the root."""
        levels = [self.cut(self.count)]
        for _ in range(self.top):
            levels.append(tuple(_pair_up(interval) for interval in levels[-1]))
        return tuple(levels)

    @cached_property
    def lower(self) -> tuple[Bounds, ...]:
        """Levels ..., -2, -1. Only maps with tiles that stay open need them."""
        return tuple(self.cut(self.nodes(level)) for level in range(self.bottom, 0))

    def cut(self, nodes: int) -> Bounds:
        """Bounds on so many equal parts of all places."""
        parts = [column.reshape(nodes, -1) for column in self.points]
        return tuple(
            point(part[:, 0]) if part.shape[1] == 1 else Interval(part.min(axis=1), part.max(axis=1)) for part in parts
        )


def _pair_up(interval: Interval) -> Interval:
    """Bounds on every two nodes; a last one without a partner stays alone."""
    low, high = interval.low, interval.high
    if len(low) % 2:
        low, high = np.append(low, low[-1]), np.append(high, high[-1])
    return Interval(np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2]))
