"""What draws of a mask select, found when it is bound: in time of what is drawn, not of all pairs of groups.

A query group walks along its permutation until it has enough candidates. Those with few candidates would walk far:
their candidates are listed, as runs of full tiles of one group, and sorted by their positions in the permutation.
"""

from dataclasses import replace
from math import isqrt

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, ranges
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import Axis, CoordinateDefinition, Given, Sequence, Space
from maskdsl.ir.expressions import PAIR, Constant, Coordinate, Expression, Head, InSpace, Side, substitute
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.scoring.draw_meaning import DrawOfHead, heads_of, held_draws
from maskdsl.ir.routes import Draw, DrawnLists
from maskdsl.ir.values.drawing import permuted, positions_of

_STEPS = 8
"""The first steps along the permutations, for each group that is drawn."""


def with_draws(mask: MaskIR) -> MaskIR:
    """The mask with what each of its draws selects."""
    if mask.branches:
        return replace(mask, branches=tuple(map(with_draws, mask.branches)))
    if not any(isinstance(each, Draw) for each in mask.routed):
        return mask
    return replace(mask, routed=tuple(_known(mask, each) if isinstance(each, Draw) else each for each in mask.routed))


def _known(mask: MaskIR, draw: Draw) -> Draw:
    heads = (DrawOfHead(mask, draw, head) for head in heads_of(mask, draw))
    held = held_draws(mask, draw, map(_selected, heads))
    return replace(draw, lists=DrawnLists(held.shape, held.astype(np.int64).tobytes()))


def _selected(draw: DrawOfHead) -> tuple[Array, Array]:
    """The query groups and key groups that are drawn in one head."""
    rows = np.flatnonzero(draw.asks) if draw.count > 0 else np.zeros(0, dtype=np.int64)
    walk, keys = _Walk(draw, rows), draw.draw.keys.count
    walk.go(min(keys, _STEPS * (draw.count + 1)))
    if not len(walk.rows) or walk.position == keys:
        return walk.taken()
    mask, inputs = _of_groups(draw)
    (runs,) = (each.full for each in tiles(mask, (1, 1), inputs).head_classes)
    is_listed = runs.counts[walk.rows] <= draw.count + isqrt(draw.count * keys)
    listed, walk.rows = walk.rows[is_listed], walk.rows[~is_listed]
    walk.go(keys)
    row, column = walk.taken()
    others = ~np.isin(row, listed)
    rows, columns = _listed(draw, listed, runs)
    return np.concatenate([row[others], rows]), np.concatenate([column[others], columns])


class _Walk:
    """Query groups that walk along their permutations, all at the same position, until they have enough candidates."""

    def __init__(self, draw: DrawOfHead, rows: Array) -> None:
        self.draw, self.rows, self.position = draw, rows, 0
        self.need = np.full(draw.draw.queries.count, max(draw.count, 0))
        self.pairs = [(rows[:0], rows[:0])]

    def go(self, position: int) -> None:
        """Walks to this position; those that have enough stay behind."""
        keys = self.draw.draw.keys.count
        while len(self.rows) and self.position < position:
            chosen = permuted(np.asarray(self.position), self.draw.words[self.rows], keys)
            fits = self.draw.exists[chosen] & self.draw.candidates(self.rows, chosen)
            self.pairs.append((self.rows[fits], chosen[fits]))
            self.need[self.rows] -= fits
            self.rows, self.position = self.rows[self.need[self.rows] > 0], self.position + 1

    def taken(self) -> tuple[Array, Array]:
        """The query groups and key groups so far."""
        return np.concatenate([row for row, _ in self.pairs]), np.concatenate([column for _, column in self.pairs])


def _listed(draw: DrawOfHead, rows: Array, runs: Runs) -> tuple[Array, Array]:
    """What these query groups draw, from runs of all candidates."""
    first, last = runs.row_start[rows], runs.row_start[rows + 1]
    run = ranges(first, last)
    row = np.repeat(np.repeat(rows, last - first), runs.end[run] - runs.start[run])
    column = ranges(runs.start[run], runs.end[run])
    row, column = row[draw.exists[column]], column[draw.exists[column]]
    order = np.lexsort((positions_of(column, draw.words[row], draw.draw.keys.count), row))
    row, column = row[order], column[order]
    drawn = np.arange(len(row)) - np.searchsorted(row, row) < draw.count
    return row[drawn], column[drawn]


def _of_groups(draw: DrawOfHead) -> tuple[MaskIR, dict[str, Array]]:
    """The candidates as a mask whose tokens are groups, and what these read of groups as inputs."""
    relation = substitute(draw.draw.candidates, {Head(): Constant(draw.head)})
    inputs: dict[str, Array] = {}
    declared: list[Input] = []
    definitions: dict[Side, list[CoordinateDefinition]] = {side: [] for side in PAIR}
    renamed: dict[Expression, Expression] = {}
    spaces = {side: Space(side.plural, (Axis(side.plural, draw.draw.grouping(side).count),)) for side in PAIR}
    for node in reads(relation).leaves:
        if isinstance(node, Coordinate | InSpace):
            space, name = spaces[node.side], f"read_{len(inputs)}"
            inputs[name] = draw.table(node)
            dimension = Dimension(DimensionKind.TOKENS, space.size, space.name)
            declared.append(Input(name, node.type, (dimension,)))
            definitions[node.side].append(CoordinateDefinition(name, node.type, ((space.name, Given(name)),)))
            renamed[node] = Coordinate(node.side, name, node.type)
    queries, keys = (Sequence((spaces[side],), tuple(definitions[side])) for side in PAIR)
    relation = substitute(relation, renamed)
    return MaskIR("draw", (), 1, queries, keys, False, tuple(declared), (), (), relation), inputs
