"""A few pairs of tokens of two spaces, on which most questions are settled without a search."""

from collections.abc import Iterator
from functools import cached_property
from itertools import product

import numpy as np

from maskdsl.analysis.indices.axis_expressions import AxisExpressions
from maskdsl.analysis.tiles.interval_program import Column, compile_program
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Space
from maskdsl.ir.expressions import Batch, Constant, Coordinate, Expression, Head, Side
from maskdsl.ir.facts.intervals import Array, point
from maskdsl.ir.facts.route_candidates import bounded

Cell = tuple[int, ...]
MOST_SAMPLED = 8
"""The most heads that pairs are taken from."""


def corners(space: Space) -> Iterator[Cell]:
    """The cells of a space with the first or the last index on each axis."""
    return product(*(dict.fromkeys((0, length - 1)) for length in space.lengths))


@dataclass(frozen=True, eq=False)
class PairSamples:
    """Queries in the corners of their space and near its middle, each with keys near it, in corners and in the middle,
    in every head (of many the first).
    """

    cells: AxisExpressions
    heads: int

    @property
    def spaces(self) -> tuple[Space, Space]:
        """The space of the queries, and that of the keys."""
        return self.cells.positions[Side.QUERY][1], self.cells.positions[Side.KEY][1]

    @cached_property
    def values(self) -> dict[Expression, Array]:
        """The index on each axis, and the head, of every pair."""
        query_space, key_space = self.spaces
        queries = [*corners(query_space), tuple(length // 2 for length in query_space.lengths)]
        pairs = [(query, key) for query in queries for key in _keys(query, key_space)]
        heads = range(min(self.heads, MOST_SAMPLED))
        rows = np.array([(head, *query, *key) for head in heads for query, key in pairs], dtype=np.int64)
        leaves: list[Expression] = [Head()]
        leaves += (Coordinate(Side.QUERY, axis.name) for axis in query_space.axes)
        leaves += (Coordinate(Side.KEY, axis.name) for axis in key_space.axes)
        return dict(zip(leaves, rows.T, strict=True))

    def hold(self, relation: Expression) -> Array:
        """Of each pair, whether a relation of the mask holds or may hold, where inputs decide."""
        leaves = list(self.values)

        def column(node: Expression) -> Column | None:
            if not isinstance(node, Coordinate | Head | Batch):
                return None
            return Column(Side.TOKEN, leaves.index(node))

        possible = bounded(self.cells.over(relation, None), True, self.cells.unknown)
        program = compile_program(possible, self.cells.tables, column)
        result = program.run(lambda each: point(self.values[leaves[each.index]])).low
        return np.broadcast_to(result, self.values[Head()].shape)

    def attending(self, relation: Expression) -> set[tuple[int, Cell]]:
        """The heads and cells of sampled queries that attend a sampled key, or may."""
        columns = [self.values[leaf][self.hold(relation)] for leaf in list(self.values)[: 1 + len(self.spaces[0].axes)]]
        return {(int(head), tuple(map(int, cell))) for head, *cell in zip(*columns, strict=True)}


def query_values(space: Space, head: int, cell: Cell) -> dict[Expression, Constant]:
    """The head and the index on each axis of one query, by what reads them."""
    indices = (Coordinate(Side.QUERY, axis.name) for axis in space.axes)
    leaves: list[Expression] = [Head(), *indices]
    return {leaf: Constant(value) for leaf, value in zip(leaves, (head, *cell), strict=True)}


def _keys(query: Cell, space: Space) -> Iterator[Cell]:
    """Cells for keys of a query: its own and those beside it, if there are such, the corners, and the middle."""
    yield from corners(space)
    yield tuple(length // 2 for length in space.lengths)
    if len(query) != len(space.lengths):
        return
    for moved, step in product(range(len(query)), (-1, 0, 1)):
        beside = tuple(index + step * (axis == moved) for axis, index in enumerate(query))
        if all(0 <= index < length for index, length in zip(beside, space.lengths, strict=True)):
            yield beside
