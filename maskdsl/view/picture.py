"""A map of tiles as a picture in the terminal: two cells a character in colour, shaded characters without."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from maskdsl.analysis.blockmap import FULL, PARTIAL, Array, BlockMap
from maskdsl.ir.mask import Space
from maskdsl.view.cells import Cells, Scale, count_cells, zoom
from maskdsl.view.palette import character_numbers, characters, colour_numbers, has_colour, style

WIDEST_NAME = 8


@dataclass(frozen=True)
class Picture:
    """The tiles of one head. With several spaces their names stand where they begin, queries left and keys above."""

    tiles: BlockMap
    scale: Scale
    room: tuple[int, int]
    """Rows and columns of square cells that it may take."""
    head: int = 0
    queries: Sequence[Space] = ()
    keys: Sequence[Space] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        times = self.times
        names = self.row_names
        gutter = max(map(len, names.values()), default=0)
        if len(self.keys) > 1:
            yield Text(" " * (gutter + bool(gutter)) + self.column_names, style="dim", no_wrap=True)
        enlarged = Cells(*(grown(part, times) for part in (self.cells.full, self.cells.partial, self.cells.tiles)))
        lines = coloured(enlarged) if has_colour(console) else shaded(enlarged, characters(console))
        for number, line in enumerate(lines):
            name = Text(f"{names.get(number, ''):>{gutter}} " if gutter else "", style="dim")
            yield Text.assemble(name, line, no_wrap=True)

    @property
    def width(self) -> int:
        """Columns on the screen."""
        gutter = max(map(len, self.row_names.values()), default=0)
        return int(self.cells.full.shape[1]) * self.times + gutter + bool(gutter)

    @cached_property
    def cells(self) -> Cells:
        return count_cells(self.tiles.tile_map(self.head), self.tiles.key_blocks, self.scale.tiles)

    @property
    def times(self) -> int:
        return min(zoom(cells, room) for cells, room in zip(self.cells.full.shape, self.room, strict=True))

    @property
    def counts(self) -> tuple[int, int]:
        """Full and partial tiles; the cells, where they are the tiles that the user knows."""
        if not self.scale.fitted:
            return self.tiles.full_count(self.head), self.tiles.partial_count(self.head)
        classes = self.cells.classes
        return int((classes == FULL).sum()), int((classes == PARTIAL).sum())

    @property
    def row_names(self) -> dict[int, str]:
        """Line of the picture to the name of the space of queries that begins there."""
        if len(self.queries) < 2:
            return {}
        begins = starts(self.queries, self.scale.cell[0], self.times)
        return {begin // 2: space.name[:WIDEST_NAME] for space, begin in zip(self.queries, begins, strict=True)}

    @property
    def column_names(self) -> str:
        """The names of the spaces of keys, each where it begins, those without room left out."""
        begins = starts(self.keys, self.scale.cell[1], self.times)
        line = ""
        for space, begin, end in zip(
            self.keys, begins, [*begins[1:], self.cells.full.shape[1] * self.times], strict=True
        ):
            if begin >= len(line) and len(space.name) <= end - begin:
                line = line.ljust(begin) + space.name
        return line


def starts(spaces: Sequence[Space], tokens: int, times: int) -> list[int]:
    """The place in the picture of each space's first token, at so many tokens a cell."""
    sizes = np.cumsum([0, *(space.size for space in spaces[:-1])])
    return [int(offset // tokens) * times for offset in sizes]


def grown(array: Array, times: int) -> Array:
    return np.repeat(np.repeat(array, times, axis=0), times, axis=1)


def coloured(cells: Cells) -> Iterator[Text]:
    """Half blocks: the upper cell is the colour of the character, the lower one that of its background."""
    numbers = colour_numbers(cells)
    if len(numbers) % 2:
        numbers = np.concatenate([numbers, np.zeros_like(numbers[:1])])
    for upper, lower in zip(numbers[::2].tolist(), numbers[1::2].tolist(), strict=True):
        line = Text(no_wrap=True)
        for pair, group in groupby(zip(upper, lower, strict=True)):
            line.append("\N{UPPER HALF BLOCK}" * len(list(group)), style(*pair))
        yield line


def shaded(cells: Cells, shades: Sequence[str]) -> Iterator[Text]:
    """One character for two cells, one above the other."""
    paired = Cells(*(add_pairs(part) for part in (cells.full, cells.partial, cells.tiles)))
    for row in character_numbers(paired).tolist():
        yield Text("".join(shades[number] for number in row), no_wrap=True)


def add_pairs(array: Array) -> Array:
    """The sums of each two rows."""
    return np.add.reduceat(array, np.arange(0, len(array), 2), axis=0)
