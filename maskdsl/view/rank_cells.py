"""The cells of a map by the ranks that compute them, as numbers of colours."""

from collections.abc import Mapping

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.head_classes import ALL, Region
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.distributed.shard_plan import RankPlan
from maskdsl.distributed.token_ranks import TokenRanks
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Array as Values
from maskdsl.view import units
from maskdsl.view.cells import Cells, Scale
from maskdsl.view.palette import RANK_COLOURS, SEVERAL

_SEVERAL_TEAMS = -1


@dataclass(frozen=True, eq=False)
class RankCells:
    """The colours of one map: numbers of `Palette.rank_shades`."""

    cells: Array
    """uint8 [rows, columns]: of the ranks that compute each cell, pale where these receive its keys."""
    queries: Array
    """uint8 [rows]: of the ranks that hold the queries of a row."""
    keys: Array
    """uint8 [columns]: of those that hold the keys of a column."""


@dataclass(frozen=True, eq=False)
class RankColours:
    """The ranks of a plan in the maps of a mask, which may have another order than the plan."""

    plan: RankPlan
    ranks: TokenRanks
    mask: MaskIR
    inputs: Mapping[str, Values]
    """Those that decide the tiles of the mask."""
    region: Region = ALL

    @staticmethod
    def of(
        plan: RankPlan, number: int, mask: MaskIR, inputs: Mapping[str, Values], region: Region = ALL
    ) -> "RankColours":
        """Those of a mask of the layer of this number among `plan.masks`."""
        return RankColours(plan, TokenRanks.of(plan, number), mask, inputs, region)

    def of_cells(self, cells: Cells, scale: Scale, head: int) -> RankCells:
        """The colours of the map of a head: of the ranks that hold most queries of each cell, if there are such."""
        queries = self._laid_out(self.ranks.queries, self.mask.queries, head)[self.region[0]]
        keys = self._laid_out(self.ranks.keys, self.mask.keys, head)[self.region[1]]
        held, read = _most(queries, scale.cell[0]), _most(keys, scale.cell[1])
        team = np.where(self._at_keys(scale, head), read, held[:, None])
        is_local = (team == read) & (team != _SEVERAL_TEAMS)
        attended = cells.full + cells.partial > 0
        numbers = np.where(attended, _numbers(team, is_local), 0).astype(np.uint8)
        return RankCells(numbers, _numbers(held), _numbers(read))

    def words(self) -> str:
        """`8 ranks: zigzag, score 1.02`."""
        return f"{units.count(self.plan.ranks)} ranks: {self.plan.scheme}, score {self.plan.score:.2f}"

    def names(self) -> list[str]:
        """The ranks of each colour."""
        count = min(self.ranks.teams, RANK_COLOURS)
        return [self._name(range(colour, self.ranks.teams, RANK_COLOURS)) for colour in range(count)]

    def note(self, pale: str = "pale") -> str:
        """What ranks of one colour share, and what cells are that are `pale`, or have small letters."""
        pale = f"{pale}: keys are received from other ranks; strips: who holds queries and keys"
        groups = self.ranks.groups
        if groups == 1:
            return pale
        each = units.count(self.ranks.heads // groups)
        return f"{groups} ranks hold tokens together, and each computes {each} heads of them; {pale}"

    def _name(self, teams: range) -> str:
        """`rank 3`, `ranks 8-15`, `ranks 0, 8, ...`."""
        ranks = [units.numbers(self.ranks.ranks_of([team])) for team in teams[:2]]
        several = len(ranks) > 1 or self.ranks.groups > 1
        return f"rank{'s' * several} {', '.join(ranks)}" + ", ..." * (len(teams) > 2)

    def _laid_out(self, values: Array, sequence: Sequence, head: int) -> Array:
        order = Coordinates(self.mask, sequence, self.inputs, 0, head).permutation()
        return values if order is None else values[order]

    def _at_keys(self, scale: Scale, head: int) -> Array:
        """bool [rows, columns]: cells whose queries all travel to the keys, or all those that attend."""
        travels = self._laid_out(self.ranks.travels, self.mask.queries, head)[self.region[0]]
        keys = len(range(*self.region[1].indices(self.mask.keys.length)))
        first = self.region[0].start or 0
        at_keys = np.zeros((-(-len(travels) // scale.cell[0]), -(-keys // scale.cell[1])), dtype=bool)
        for row in np.unique(np.flatnonzero(travels) // scale.cell[0]).tolist():
            low = row * scale.cell[0]
            stays = np.flatnonzero(~travels[low : low + scale.cell[0]]) + low
            at_keys[row] = True
            for some in np.split(stays, np.flatnonzero(np.diff(stays) != 1) + 1):
                if len(some):
                    rows = slice(first + int(some[0]), first + int(some[-1]) + 1)
                    at_keys[row] &= ~self._touched((rows, self.region[1]), scale.cell[1], head)
        return at_keys

    def _touched(self, region: Region, width: int, head: int) -> Array:
        """bool [columns]: whether any query of a region attends a key of a column of cells."""
        block = region[0].stop - region[0].start, width
        return np.asarray(tiles(self.mask, block, self.inputs, region=region).classes(head)[0] > 0)


def _numbers(team: Array, is_local: Array | bool = True) -> Array:
    colour = 1 + team % RANK_COLOURS + np.where(is_local, 0, RANK_COLOURS)
    return np.where(team == _SEVERAL_TEAMS, SEVERAL, colour).astype(np.uint8)


def _most(team: Array, size: int) -> Array:
    """int64 [cells]: the team of more than half of the `size` tokens of each cell, or `_SEVERAL_TEAMS`."""
    starts = np.arange(0, len(team), size)
    cell = np.arange(len(team)) // size
    by_cell = team[np.lexsort((team, cell))]
    counts = np.diff(np.append(starts, len(team)))
    middle = by_cell[starts + counts // 2].astype(np.int64)
    alike = np.add.reduceat((team == middle[cell]).astype(np.int64), starts)
    return np.where(2 * alike > counts, middle, _SEVERAL_TEAMS)
