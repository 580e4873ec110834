"""Tiles to the cells of a picture: how many full and partial tiles each cell has. Reads runs, never single tiles."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL, Array, Runs, TileMap

_FINEST = 512
"""Tiles to a side of the picture, about, where it may choose them: they are what cells are shaded by."""
_NARROWEST = 8
"""Cells that a side of many tokens gets, however much longer the other one is."""
_LARGEST_ZOOM = 4


@dataclass(frozen=True)
class Scale:
    """Sizes of a picture: tokens of a tile, and tiles of a cell, both (queries, keys)."""

    block: tuple[int, int]
    tiles: tuple[int, int]
    fitted: bool
    """A cell is what the user knows as a tile; the tiles proper are smaller ones that shade it."""

    @property
    def cell(self) -> tuple[int, int]:
        """Tokens of a cell."""
        return self.block[0] * self.tiles[0], self.block[1] * self.tiles[1]


@dataclass(frozen=True, eq=False)
class Cells:
    """The tiles of one map in boxes of tiles. All arrays are [rows, columns]."""

    full: Array
    partial: Array
    tiles: Array
    """Tiles that there are; fewer in the last row and column where they are ragged."""

    @cached_property
    def classes(self) -> Array:
        """The exact class of each cell, itself a larger tile."""
        touched = np.where(self.full + self.partial > 0, PARTIAL, EMPTY)
        return np.where(self.full == self.tiles, FULL, touched).astype(np.int8)

    @cached_property
    def density(self) -> Array:
        """Between 0 and 1; a partial tile counts half."""
        return np.asarray((self.full + self.partial / 2) / self.tiles)


def count_cells(tiles: TileMap, columns: int, size: tuple[int, int]) -> Cells:
    """Of a map with so many columns of tiles, in cells of `size` tiles."""
    rows = [np.minimum(size[0], tiles.full.rows - np.arange(0, tiles.full.rows, size[0]))]
    across = np.minimum(size[1], columns - np.arange(0, columns, size[1]))
    full, partial = (_covered(runs, len(rows[0]), len(across), size) for runs in (tiles.full, tiles.partial))
    return Cells(full, partial, np.outer(rows[0], across))


def _covered(runs: Runs, rows: int, columns: int, size: tuple[int, int]) -> Array:
    """int64 [rows, columns]: tiles of the runs in each cell.

    A run is what is right of its start without what is right of its end. What is right of a tile fills the rest of
    that tile's cell and all of the cells behind it, which the sum along the row carries on.
    """
    steps = np.zeros(rows * (columns + 2), dtype=np.int64)
    for position, sign in (runs.start, 1), (runs.end, -1):
        cell, inside = np.divmod(position.astype(np.int64), size[1])
        at = runs.row.astype(np.int64) // size[0] * (columns + 2) + cell
        np.add.at(steps, at, sign * (size[1] - inside))
        np.add.at(steps, at + 1, sign * inside)
    return np.cumsum(steps.reshape(rows, columns + 2), axis=1)[:, :columns]


def fit(lengths: tuple[int, int], room: tuple[int, int], block: tuple[int, int] | None = None) -> Scale:
    """The finest scale at which (queries, keys) tokens take no more than `room` (rows, columns) of square cells.

    Without a block, the tiles are chosen too.
    """
    wanted = max(-(-length // space) for length, space in zip(lengths, room, strict=True))
    each = tuple(min(wanted, max(1, -(-length // _NARROWEST))) for length in lengths)
    if block is not None:
        rows, columns = (-(-tokens // size) for tokens, size in zip(each, block, strict=True))
        return Scale(block, (rows, columns), fitted=False)
    rows, columns = (smooth(tokens) for tokens in each)
    fine = _fineness(rows, lengths[0]), _fineness(columns, lengths[1])
    return Scale((rows // fine[0], columns // fine[1]), fine, fitted=True)


def _fineness(tokens: int, length: int) -> int:
    """Into how many tiles a cell of so many tokens is divided: a power of two that divides it."""
    parts = 1
    while tokens % (2 * parts) == 0 and length // (tokens // parts) < _FINEST:
        parts *= 2
    return parts


def smooth(number: int) -> int:
    """The least number not below this one that is 4 to 8 times a power of two, or under 8."""
    step = 1 << max(0, (number - 1).bit_length() - 3)
    return -(-number // step) * step


def zoom(cells: int, room: int) -> int:
    """How many characters a side of a cell may take."""
    return max(1, min(_LARGEST_ZOOM, room // cells))
