"""Counts the full and partial tiles in each cell of a picture. Reads runs, never single tiles."""

from functools import cached_property

import numpy as np

from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL, Array, Runs, TileMap
from maskdsl.base.records import dataclass

_FINEST = 512
"""About how many tiles a side of a picture has if their size is free: cells are shaded by their tiles."""
_NARROWEST = 8
"""The fewest cells of a side with many tokens, however much longer the other side is."""
_LARGEST_ZOOM = 2
"""The most times that the side of a cell is doubled."""


@dataclass(frozen=True)
class Scale:
    """Sizes of a picture: tokens of a tile, and tiles of a cell, both (queries, keys)."""

    block: tuple[int, int]
    tiles: tuple[int, int]
    fitted: bool
    """Whether the size of cells was free. Their tiles are smaller then, and only shade them."""

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
    """The number of tiles in each cell; fewer in a ragged last row or column."""

    @cached_property
    def classes(self) -> Array:
        """The exact class of each cell, taken as one large tile."""
        touched = np.where(self.full + self.partial > 0, PARTIAL, EMPTY)
        return np.where(self.full == self.tiles, FULL, touched).astype(np.int8)

    @cached_property
    def density(self) -> Array:
        """The density of each cell, 0 to 1; a partial tile counts as half."""
        return np.asarray((self.full + self.partial / 2) / self.tiles)


def count_cells(tiles: TileMap, columns: int, size: tuple[int, int]) -> Cells:
    """The cells, of `size` tiles each, of a map with so many columns of tiles."""
    rows = [np.minimum(size[0], tiles.full.rows - np.arange(0, tiles.full.rows, size[0]))]
    across = np.minimum(size[1], columns - np.arange(0, columns, size[1]))
    full, partial = (_covered(runs, len(rows[0]), len(across), size) for runs in (tiles.full, tiles.partial))
    return Cells(full, partial, np.outer(rows[0], across))


def _covered(runs: Runs, rows: int, columns: int, size: tuple[int, int]) -> Array:
    """The number of the runs' tiles in each cell, [rows, columns].

    A run is all tiles right of its start minus all tiles right of its end. All tiles right of a position fill the rest
    of its cell and every cell after it; the cumulative sum along the row extends them.
    """
    dtype = np.int32 if size[0] * size[1] < 1 << 16 else np.int64
    steps = np.zeros(rows * (columns + 2), dtype=dtype)
    for column, sign in (runs.start, 1), (runs.end, -1):
        cell, inside = np.divmod(column.astype(np.int64), size[1])
        at = runs.row.astype(np.int64) // size[0] * (columns + 2) + cell
        np.add.at(steps, at, sign * (size[1] - inside))
        np.add.at(steps, at + 1, sign * inside)
    return np.cumsum(steps.reshape(rows, columns + 2), axis=1, dtype=dtype)[:, :columns]


def fit(lengths: tuple[int, int], room: tuple[int, int], block: tuple[int, int] | None = None) -> Scale:
    """The finest scale at which (queries, keys) tokens take no more than `room` (rows, columns) of square cells.

    Without a block, the tiles are chosen too.
    """
    wanted = max(1, *(-(-length // space) for length, space in zip(lengths, room, strict=True)))
    each = tuple(min(wanted, max(1, -(-length // _NARROWEST))) for length in lengths)
    if block is not None:
        rows, columns = (-(-tokens // size) for tokens, size in zip(each, block, strict=True))
        return Scale(block, (rows, columns), fitted=False)
    rows, columns = (smooth(tokens) for tokens in each)
    fine = _fineness(rows, lengths[0]), _fineness(columns, lengths[1])
    return Scale((rows // fine[0], columns // fine[1]), fine, fitted=True)


def _fineness(tokens: int, length: int) -> int:
    """The number of tiles into which a cell of so many tokens is divided: a power of two that divides it."""
    tiles = 1
    while tokens % (2 * tiles) == 0 and length // (tokens // tiles) < _FINEST:
        tiles *= 2
    return tiles


def smooth(number: int) -> int:
    """The least number, not below this one, that is 4 to 8 times a power of two, or under 8."""
    step = 1 << max(0, (number - 1).bit_length() - 3)
    return -(-number // step) * step


def zoom(cells: int, room: int) -> int:
    """The number of characters that a side of a cell may take: a power of two, so no character has parts of two."""
    return 1 << max(0, min(_LARGEST_ZOOM, (room // max(cells, 1)).bit_length() - 1))
