"""What is known of a mask with a table of choices before a call: tiles that a choice decides, and all other panels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.block_map import EMPTY, FULL
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.expressions import Coordinate, InSpace, Leaf, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.rewrites.chosen_pairs import ChosenPairs
from maskdsl.runtime.backends.native.panel_lists import PanelGrid, each_once, in_batches, new_runs
from maskdsl.runtime.backends.native.structures import LANES, LARGEST_ROW

Array = NDArray[Any]


class MixedPanels(NamedTuple):
    """Panels of which a choice adds some pairs, or adds pairs to some."""

    row: Array
    panel: Array
    column: Array
    """The column of the table that decides."""
    chosen: Array
    """uint16 [panels, queries of a row]: the lanes that attend if it is chosen."""
    fixed: Array
    """Likewise, if it is not."""


class ChoiceTiles(NamedTuple):
    """Rows of queries, and panels in blocks that are the columns of the table."""

    grid: PanelGrid
    table_row: Array
    """int64 [queries]: the row of the table."""
    decided: Array
    """bool [rows, columns]: tiles that attend as a whole if they are chosen, and else not at all."""
    row: Array
    """The row of each of these runs."""
    runs: Array
    """`RUN`: what attends whatever is chosen, in panels that no choice changes."""
    words: Array
    """The masks of these runs."""
    mixed: MixedPanels

    def of_queries(self, numbers: Array) -> "ChoiceTiles":
        """The tiles with the words of these queries of a row, in this order."""
        mixed = self.mixed._replace(chosen=self.mixed.chosen[:, numbers], fixed=self.mixed.fixed[:, numbers])
        return self._replace(words=self.words[:, numbers], mixed=mixed)


def choice_tiles(pairs: ChosenPairs, block: int | None = None) -> ChoiceTiles:
    """The tiles of a mask, or the row of tiles of one block of its queries, whose number is then 0."""
    mask = pairs.chosen
    queries, keys = (Coordinates(mask, each, {}) for each in (mask.queries, mask.keys))
    grid = PanelGrid(LARGEST_ROW, pairs.width, mask.queries.length, mask.keys.length)
    first = 0 if block is None else block
    ends = slice(None) if block is None else slice(block * grid.height, min((block + 1) * grid.height, grid.queries))
    maps = (
        tiles(each, (grid.height, grid.width), batch=1, region=(ends, slice(None)))
        for each in (pairs.chosen, pairs.fixed)
    )
    chosen, fixed = (each.classes() for each in maps)
    decided = (chosen == FULL) & (fixed == EMPTY)
    tile_row, tile_column = np.nonzero((chosen != EMPTY) & (fixed != FULL) & ~decided)
    row, none = np.repeat(tile_row, grid.of_block), np.zeros((0, grid.tallest), np.uint16)
    panel = (tile_column[:, None] * grid.of_block + np.arange(grid.of_block)).ravel()
    lanes, if_chosen, if_not = (
        np.concatenate([none, *(words(*some) for some in in_batches(row + first, panel))])
        for words in (grid.lanes, _words(grid, pairs.chosen, queries, keys), _words(grid, pairs.fixed, queries, keys))
    )
    kept = if_chosen.any(axis=1)
    is_mixed = kept & (if_chosen != if_not).any(axis=1)
    column_of = panel // grid.of_block
    mixed = MixedPanels(*(each[is_mixed] for each in (row, panel, column_of, if_chosen, if_not)))
    full_row, full_column = np.nonzero(fixed == FULL)
    kept &= ~is_mixed
    is_full = (if_not == lanes).all(axis=1)[kept]
    single = new_runs(panel[kept], 1)
    words, number = each_once(if_not[kept][~is_full])
    single["mask"][~is_full] = number
    runs = np.concatenate([new_runs(full_column * grid.of_block, grid.of_block), single])
    return ChoiceTiles(
        grid, queries.values(pairs.row), decided, np.concatenate([full_row, row[kept]]), runs, words, mixed
    )


def _words(grid: PanelGrid, mask: MaskIR, queries: Coordinates, keys: Coordinates) -> Callable[[Array, Array], Array]:
    """The lanes that attend in a mask without inputs, of panels that are there: uint16 [panels, queries of a row]."""

    def words(row: Array, panel: Array) -> Array:
        tokens = {Side.QUERY: grid.row_tokens(row)[:, :, None], Side.KEY: grid.panel_tokens(panel)[:, None]}
        coordinates = {Side.QUERY: queries, Side.KEY: keys}

        def leaf(node: Leaf) -> Array:
            assert isinstance(node, Coordinate | InSpace), node
            of_side = coordinates[node.side]
            values = of_side.values(node.name) if isinstance(node, Coordinate) else of_side.member(node.space)
            return values[tokens[node.side]]

        with np.errstate(all="ignore"):  # tokens without a coordinate read zero and may divide by it
            attends = np.broadcast_to(evaluate(mask.relation, leaf, {}), (len(row), grid.tallest, LANES))
        lanes = np.packbits(attends, axis=-1, bitorder="little").view("<u2")[..., 0].astype(np.uint16)
        return np.asarray(lanes & grid.lanes(row, panel))

    return words
