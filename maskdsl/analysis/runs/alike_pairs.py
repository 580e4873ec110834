"""Pairs of nodes that attend alike: whose columns are alike inside of the nodes, and differ in nothing that decides.

Of packed documents all tiles on the diagonal that lie in a document are one, and so are all that see the same first
keys of a document from further on. Exact: columns count as alike only if they are constant in a node or rise by one
from token to token, or if the node is the same; and what a comparison sees is left out only where it is decided.
"""

from functools import cached_property, partial

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.descent import Problem, chunks
from maskdsl.analysis.tiles.interval_program import Column
from maskdsl.analysis.tiles.translations import Form, Seen, seen_forms
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import PAIR, Side

_SEED = 1
_LEAST = 1 << 6
"""Fewer pairs are not compared."""
_MANY = 0.75
"""If a larger share of pairs differs, all are solved."""
_MOST_COLUMNS = 62


@dataclass(frozen=True, eq=False)
class AlikePairs:
    """Finds pairs of nodes that attend alike, in the trees of a problem."""

    problem: Problem

    def distinct(self, level: int, rows: Array, columns: Array) -> tuple[Array, Array] | None:
        """Some of these pairs, by number, and for each pair which of those it is like; None if all may differ."""
        if self._seen is None or len(rows) < _LEAST:
            return None
        some = [self._keys(level, rows[chunk], columns[chunk]) for chunk in chunks(len(rows), self.problem.chunk())]
        keys = [np.concatenate(each) for each in zip(*some, strict=True)]
        random = np.random.default_rng(_SEED)
        hashes = np.zeros(len(rows), dtype=np.int64)
        for each in keys:
            hashes += each * random.integers(1, 1 << 62)
        _, chosen, which = np.unique(hashes, return_index=True, return_inverse=True)
        if len(chosen) > _MANY * len(rows) or any(
            (each[chosen][which] != each).any() for each in keys
        ):  # two of one hash
            return None
        return chosen, which

    def _keys(self, level: int, rows: Array, columns: Array) -> list[Array]:
        """int64 [pairs] each: of pairs where all of them are equal, the same token pairs attend."""
        assert self._seen is not None
        nodes = {Side.QUERY: rows, Side.KEY: columns}
        query_level, key_level = (max(level, self._tree(side).bottom) for side in PAIR)
        keys = [self._inside(Side.QUERY, query_level)[rows], self._inside(Side.KEY, key_level)[columns]]
        load = partial(self.problem.pick, query_level, key_level, rows, columns)
        steps = self.problem.program.values(load, self._seen.compared)
        for number, form in self._seen.compared.items():
            low, high = (np.broadcast_to(each, len(rows)) for each in (steps[number].low, steps[number].high))
            keys += [low + 2 * high.astype(np.int64), np.where(low == high, 0, self._sum(form, level, nodes))]
        floats = [((column, 1),) for column in self._floats]
        return keys + [self._sum(form, level, nodes) for form in (*self._seen.others, *floats)]

    @cached_property
    def _seen(self) -> Seen | None:
        return seen_forms(self.problem.program)

    @cached_property
    def _floats(self) -> list[Column]:
        """Columns of floats. Their differences are not exact, so that they are compared by themselves."""
        return [
            Column(side, number)
            for side in PAIR
            for number, column in enumerate(self._tree(side).columns)
            if column.dtype.kind == "f"
        ]

    def _sum(self, form: Form, level: int, nodes: dict[Side, Array]) -> Array:
        """int64 [pairs]: a sum of the first values of these nodes; the bits of floats."""
        total = np.zeros(len(nodes[Side.QUERY]), dtype=np.int64)
        for column, times in form:
            tree = self._tree(column.side)
            first = tree.column(column.index, max(level, tree.bottom))[:, 0][nodes[column.side]]
            if first.dtype.kind == "f":
                first = first.view(f"i{first.itemsize}")
            total += times * first
        return total

    def _tree(self, side: Side) -> Tree:
        return self.problem.query if side is Side.QUERY else self.problem.key

    def _inside(self, side: Side, level: int) -> Array:
        if (side, level) not in self._known:
            self._known[side, level] = _inside(self._tree(side), level, self._rising[side])
        return self._known[side, level]

    @cached_property
    def _known(self) -> dict[tuple[Side, int], Array]:
        return {}

    @cached_property
    def _rising(self) -> dict[Side, tuple[bool, ...]]:
        """Which columns rise by one from token to token throughout."""
        return {side: tuple(map(_rises, self._tree(side).columns)) for side in PAIR}


def _rises(column: Array) -> bool:
    return column.dtype.kind == "i" and all(bool((np.diff(some) == 1).all()) for some in (column[:_LEAST], column))


def _inside(tree: Tree, level: int, rising: tuple[bool, ...]) -> Array:
    """int64 [nodes]: in bits, which columns rise inside of each node.

    A node with other columns, or that repeats a token, has a negative number that no other has.
    """
    nodes = tree.nodes(level)
    made = np.zeros(nodes, dtype=np.int64)
    differs = np.full(nodes, len(tree.columns) > _MOST_COLUMNS)
    if tree.real is not None:
        differs |= ~tree.real.reshape(nodes, -1).all(axis=1)
    for number, (column, bounds) in enumerate(zip(tree.columns, tree.bounds(level), strict=True)):
        moving = bounds.low != bounds.high
        if column.dtype.kind == "i" and not rising[number]:
            some = np.flatnonzero(bounds.high - bounds.low == tree.sizes[-level] - 1)
            even = some[(np.diff(tree.column(number, level)[some]) == 1).all(axis=1)]
            made[even] |= 1 << number
            moving[even] = False  # of a node of one token it is
        elif column.dtype.kind == "i":
            made |= moving.astype(np.int64) << number
            continue
        differs |= moving
    return np.where(differs, -1 - np.arange(nodes), made)
