"""Reference semantics of `draw`: which groups are drawn at random, on NumPy arrays.

`drawn` takes time for each pair of groups; `analysis/tiles/draws.py` finds the same, in time of what is drawn.
"""

from collections.abc import Iterable
from dataclasses import field
from functools import cached_property

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Batch, Coordinate, Expression, Head, InSpace, Leaf, Score, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.given_lists import hold
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Array
from maskdsl.ir.routes import Draw
from maskdsl.ir.values.drawing import permuted
from maskdsl.ir.values.fixed_random import random_integers


@dataclass(frozen=True, eq=False)
class DrawOfHead:
    """A draw in one head."""

    mask: MaskIR
    draw: Draw
    head: int
    tables: dict[Leaf, Array] = field(default_factory=dict)

    @cached_property
    def count(self) -> int:
        """The number of groups that each query group draws, if there are as many candidates."""
        return int(self.of_head(self.draw.count))

    @cached_property
    def words(self) -> Array:
        """int64 [query groups]: the words of their permutations."""
        numbers = (self.of_head(each) for each in self.draw.numbers)
        seed = np.asarray(self.draw.seed)
        return random_integers(seed, *numbers, np.arange(self.draw.queries.count))

    def of_head(self, expression: Expression) -> Array:
        """The value of an expression over the head."""
        return np.asarray(evaluate(expression, lambda _: np.asarray(self.head), {}))

    def first(self, side: Side) -> Array:
        """int64 [groups]: the first token of each group of a side; -1 for groups without tokens."""
        sequence, grouping = self.mask.sequences[side], self.draw.grouping(side)
        assert grouping.by is not None
        has = np.concatenate([np.full(each.size, sequence.has(each, grouping.by)) for each in sequence.spaces])
        tokens = np.flatnonzero(has)[::-1]
        first = np.full(grouping.count, -1)
        first[self.coordinates(side).values(grouping.by)[tokens]] = tokens
        return first

    @cached_property
    def exists(self) -> Array:
        """bool [key groups]: which of them have tokens."""
        return np.asarray(self.first(Side.KEY) >= 0)

    @cached_property
    def asks(self) -> Array:
        """bool [query groups]: which of them have tokens."""
        return np.asarray(self.first(Side.QUERY) >= 0)

    def coordinates(self, side: Side) -> Coordinates:
        """The coordinates of one side's tokens."""
        return Coordinates(self.mask, self.mask.sequences[side], {}, 0, self.head)

    def table(self, node: Coordinate | InSpace) -> Array:
        """[groups]: a coordinate, or membership in a space, of the first token of each group."""
        if node not in self.tables:
            tokens = self.coordinates(node.side)
            values = tokens.values(node.name) if isinstance(node, Coordinate) else tokens.member(node.space)
            self.tables[node] = values[self.first(node.side)]
        return self.tables[node]

    def candidates(self, query: Array, key: Array) -> Array:
        """bool: which pairs of query groups and key groups, which broadcast, are candidates."""

        def leaf(node: Leaf) -> Array:
            match node:
                case Head():
                    return np.asarray(self.head)
                case Coordinate(side=side) | InSpace(side=side):
                    return self.table(node)[query if side is Side.QUERY else key]
                case Batch() | Score():
                    raise AssertionError(f"candidates of a draw read {node}")

        with np.errstate(all="ignore"):
            value = evaluate(self.draw.candidates, leaf, {})
        return np.broadcast_to(value, np.broadcast_shapes(query.shape, key.shape))


def heads_of(mask: MaskIR, draw: Draw) -> range:
    """The heads that draw for themselves; one where all draw alike."""
    declared = mask.input(draw.name)
    assert declared is not None
    return range(mask.heads if len(declared.dimensions) > 2 else 1)


def held_draws(mask: MaskIR, draw: Draw, rows: Iterable[tuple[Array, Array]]) -> Array:
    """The tensor of the table, from the query groups and key groups that are drawn in each head."""
    declared = mask.input(draw.name)
    assert declared is not None
    starts, columns = [], []
    for row, column in rows:
        order = np.lexsort((column, row))
        starts.append(np.searchsorted(row[order], np.arange(draw.queries.count + 1)))
        columns.append(column[order])
    most = max(map(len, columns))
    padded = [np.append(each, np.full(most - len(each), -1)) for each in columns]
    lists = np.stack(starts), np.stack(padded)
    return hold(declared, lists if len(declared.dimensions) > 2 else (lists[0][0], lists[1][0])).tensor


def drawn(mask: MaskIR, draw: Draw) -> Array:
    """The tensor of the table that a draw computes."""
    return held_draws(mask, draw, (_drawn_in(DrawOfHead(mask, draw, head)) for head in heads_of(mask, draw)))


def _drawn_in(draw: DrawOfHead) -> tuple[Array, Array]:
    rows, columns = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    keys = draw.draw.keys.count
    for group in np.flatnonzero(draw.asks):
        order = permuted(np.arange(keys), draw.words[group], keys)
        fits = draw.exists[order] & draw.candidates(np.asarray(group), order)
        columns.append(order[fits][: max(draw.count, 0)])
        rows.append(np.full(len(columns[-1]), group))
    return np.concatenate(rows), np.concatenate(columns)
