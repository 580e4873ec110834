"""Trees of token blocks: the bounds of one side's columns over tile blocks, and over coarser and finer ones."""

from functools import cached_property
from itertools import pairwise

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.facts.intervals import Array, Interval, point

_CHILDREN = 8
"""Children of a node at the levels of tile blocks and below."""
_SMALLEST = 16
"""Blocks up to this size are not split but evaluated token by token."""

_TRIED = 64
"""Blocks whose tokens are compared first."""
_MOST = 2.0**53
"""Floats hold whole numbers up to this one."""

Bounds = tuple[Interval, ...]
"""The bounds of every column over the nodes of one level."""
Points = tuple[Array, ...]
"""The values of every column at some tokens of every node of one level: [nodes, tokens]."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of blocks of tokens, in memory order. Level 0 has the blocks of tiles.

    A node of a higher level has two children; at level 0 and below, nodes are split into equal children. To make all
    nodes of a level equally long, a ragged block repeats its last token. Repetitions change no bound, and no answer to
    "does any pair attend" or "do all"; for counting, `real` marks them.
    """

    columns: tuple[Array, ...]
    length: int
    sizes: tuple[int, ...]
    """Tokens of a node at level 0, -1, -2, ..."""
    positions: Array | None
    """int64 [nodes of the lowest level, tokens]: the position of each token; None if positions are 0, 1, 2, ..."""
    real: Array | None
    """bool, of the same shape: false for repetitions. None if there are none."""
    count: int
    """The number of blocks, the nodes of level 0."""

    @staticmethod
    def of(columns: tuple[Array, ...], length: int, block: int) -> "Tree":
        """The tree of `length` tokens with these columns, [length] each, and blocks of `block` tokens."""
        sizes = [min(block, max(length, 1))]
        while sizes[-1] > _SMALLEST:
            sizes.append(-(-sizes[-1] // _CHILDREN))
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

    def blocks(self, first: int, end: int) -> "Tree":
        """The tree of some blocks, up to `end`."""
        tokens = slice(first * self.sizes[0], min(end * self.sizes[0], self.length))
        return Tree.of(tuple(each[tokens] for each in self.columns), max(tokens.stop - tokens.start, 0), self.sizes[0])

    @cached_property
    def distinct(self) -> "Tree":
        """The tree of the different tokens of each block; this one, if some block has mostly different ones.

        Every block has as many tokens as the one with the most different ones: the others repeat their last.
        """
        some = self._codes(slice(None, None, self.count // _TRIED + 1))
        if some is None or 2 * _most_different(some) > self.sizes[0]:
            return self
        codes = self._codes(slice(None))
        most = self.sizes[0] if codes is None else _most_different(codes)
        if codes is None or 2 * most > self.sizes[0]:
            return self
        order = np.argsort(codes, axis=1)
        codes = np.take_along_axis(codes, order, axis=1)
        number = np.zeros_like(order)
        np.cumsum(codes[:, 1:] != codes[:, :-1], axis=1, out=number[:, 1:])
        block = np.arange(self.count)
        positions = np.broadcast_to(order[:, -1:], (self.count, most)).copy()
        positions[block[:, None], number] = order
        tokens = block[:, None], positions
        columns = tuple(self.column(each, 0)[tokens].reshape(-1) for each in range(len(self.columns)))
        return Tree.of(columns, self.count * most, most)

    def _codes(self, some: slice) -> Array | None:
        """int64 [some blocks, tokens]: numbers that are equal within a block for tokens of equal columns.

        [blocks, 1] if all tokens of each block are alike. None if numbers would be too large.
        """
        codes: Array = np.zeros((len(range(self.count)[some]), 1), dtype=np.int64)
        size = 1.0
        for number, interval in enumerate(self.bounds(0)):
            low, high = interval.low[some], interval.high[some]
            if (low == high).all():
                continue
            if low.dtype.kind == "f":
                return None
            low = low.astype(np.int64)
            most = (high.astype(np.float64) - low).max()
            size *= most + 1
            if size > _MOST:
                return None
            codes = codes * (int(most) + 1) + (self.column(number, 0)[some] - low[:, None])
        return codes

    @property
    def bottom(self) -> int:
        """The lowest level, zero or negative."""
        return 1 - len(self.sizes)

    @property
    def top(self) -> int:
        """The level of the root."""
        return (self.count - 1).bit_length()

    def children(self, level: int) -> int:
        """Children of a node of this level; 1 at the bottom and below."""
        if level > 0:
            return 2
        return -(-self.sizes[-level] // self.sizes[1 - level]) if level > self.bottom else 1

    def nodes(self, level: int) -> int:
        """The number of nodes of a level; levels below the bottom have those of the bottom."""
        if level >= 0:
            return -(-self.count >> level)
        return self.nodes(level + 1) * self.children(level + 1)

    def weights(self, level: int) -> Array:
        """int64 [nodes]: tokens of each node of level 0 or below, without repetitions."""
        if self.real is None:
            return np.full(self.nodes(level), self.length // max(self.nodes(level), 1))
        return np.asarray(np.count_nonzero(self.real.reshape(self.nodes(level), -1), axis=1))

    def column(self, number: int, level: int) -> Array:
        """[nodes, tokens]: the values of a column at all tokens of the nodes of level 0 or below."""
        return np.asarray(self.points[number].reshape(self.nodes(level), -1))

    def bounds(self, level: int) -> Bounds:
        """The bounds of every column over the nodes of a level; cached."""
        level = max(level, self.bottom)
        return self.upper[level] if level >= 0 else self.lower[level]

    @cached_property
    def points(self) -> Points:
        """The values of every column at all tokens of the nodes of the lowest level, [nodes, tokens]."""
        if self.positions is None:
            return tuple(column.reshape(-1, self.sizes[-1]) for column in self.columns)
        return tuple(column[self.positions] for column in self.columns)

    @cached_property
    def upper(self) -> tuple[Bounds, ...]:
        """Bounds at levels 0, 1, ... up to the root."""
        levels = [self.split(self.count)]
        for _ in range(self.top):
            levels.append(tuple(_pair_up(interval) for interval in levels[-1]))
        return tuple(levels)

    @cached_property
    def lower(self) -> tuple[Bounds, ...]:
        """Bounds at levels ..., -2, -1; needed only for tiles that stay open."""
        levels = [self.split(self.nodes(self.bottom))] if self.bottom else []
        for level in range(self.bottom + 1, 0):
            levels.append(tuple(_together(interval, self.nodes(level)) for interval in levels[-1]))
        return tuple(levels)

    def split(self, nodes: int) -> Bounds:
        """Bounds over `nodes` equal nodes."""
        return tuple(_bounds(column.reshape(nodes, -1)) for column in self.points)


@dataclass(frozen=True, eq=False, kw_only=True)
class Nodes(Interval):
    """The bounds of a column over some nodes of one level of a tree."""

    tree: Tree
    column: int
    level: int
    nodes: Array

    def at(self, level: int) -> "Nodes":
        """The same column at another level, for all nodes."""
        nodes = np.arange(self.tree.nodes(level))
        return Nodes(nodes, nodes, tree=self.tree, column=self.column, level=level, nodes=nodes)


def _bounds(values: Array) -> Interval:
    """The bounds of each row."""
    if values.shape[1] == 1:
        return point(values[:, 0])
    flat, first = values.reshape(-1), np.arange(0, values.size, values.shape[1])
    return Interval(np.minimum.reduceat(flat, first), np.maximum.reduceat(flat, first))  # faster than by axis


def _together(interval: Interval, nodes: int) -> Interval:
    """Bounds over so many equal groups of adjacent nodes."""
    return Interval(interval.low.reshape(nodes, -1).min(axis=1), interval.high.reshape(nodes, -1).max(axis=1))


def _most_different(codes: Array) -> int:
    """The number of different values in the row that has the most."""
    ordered = np.sort(codes, axis=1)
    return int(np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1).max(initial=0)) + 1


def _pair_up(interval: Interval) -> Interval:
    """Bounds over every two adjacent nodes; a last odd node stays alone."""
    low, high = interval.low, interval.high
    if len(low) % 2:
        low, high = np.append(low, low[-1]), np.append(high, high[-1])
    return Interval(np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2]))
