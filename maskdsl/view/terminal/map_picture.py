"""Draws a map of tiles in the terminal: half blocks in colour, or shaded characters without colour."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from maskdsl.analysis.tiles.block_map import Array, BlockMap
from maskdsl.base.records import dataclass
from maskdsl.view.cells import Cells, Scale, count_cells, zoom
from maskdsl.view.labels import Labels, above, beside
from maskdsl.view.palette import character_numbers, characters, colour_numbers, has_colour, style

LEAST_WITH_LABELS = 24
"""The fewest columns of a picture with labels at its sides."""
STRIP = 2
"""The columns and rows of square cells that the strips beside a map by ranks take."""


@dataclass(frozen=True)
class Picture:
    """The tiles of one head. If there is room, queries are labelled on the left and keys above."""

    tiles: BlockMap
    scale: Scale
    room: tuple[int, int]
    """The rows and columns of square cells that the picture may take."""
    head: int = 0
    queries: Labels | None = None
    keys: Labels | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        enlarged = Cells(*(grown(each, self.times) for each in (self.cells.full, self.cells.partial, self.cells.tiles)))
        lines = coloured(colour_numbers(enlarged)) if has_colour(console) else _shaded(enlarged, characters(console))
        yield from self.sides.around(lines)

    @property
    def width(self) -> int:
        """The width in columns of the screen."""
        return int(self.cells.full.shape[1]) * self.times + self.sides.gutter

    @cached_property
    def cells(self) -> Cells:
        return count_cells(self.tiles.tile_map(self.head), self.tiles.key_blocks, self.scale.tiles)

    @property
    def times(self) -> int:
        return enlargement(self.cells.full.shape, self.room)

    @property
    def sides(self) -> "Sides":
        lengths = self.tiles.query_length, self.tiles.key_length
        return Sides.of((self.queries, self.keys), lengths, self.scale.cell, self.times, self.room)


def enlargement(cells: tuple[int, ...], room: tuple[int, int]) -> int:
    """The number of characters that a side of a cell takes."""
    return min(zoom(count, space) for count, space in zip(cells, room, strict=True))


@dataclass(frozen=True)
class Sides:
    """The labels beside the lines of a picture, and above them."""

    left: Mapping[int, str]
    above: str
    corner: str = ""

    @staticmethod
    def of(
        labels: tuple[Labels | None, Labels | None],
        lengths: tuple[int, int],
        cell: tuple[int, int],
        times: int,
        room: tuple[int, int],
    ) -> "Sides":
        queries, keys = labels
        if queries is None or keys is None or room[1] < LEAST_WITH_LABELS:
            return Sides({}, "")
        left = beside(queries, lengths[0], cell[0], times)
        return Sides(left, above(keys, lengths[1], cell[1], times), queries.axes)

    @property
    def gutter(self) -> int:
        """The columns left of the picture."""
        return max((len(label) + 1 for label in (*self.left.values(), self.corner) if label), default=0)

    def around(self, lines: Iterable[Text]) -> Iterator[Text]:
        """The lines of a picture with the labels around them."""
        if self.above:
            yield Text(self.beside(self.corner) + self.above, style="dim", no_wrap=True)
        for number, line in enumerate(lines):
            yield Text.assemble((self.beside(self.left.get(number, "")), "dim"), line, no_wrap=True)

    def beside(self, label: str) -> str:
        return f"{label:>{self.gutter - 1}} " if self.gutter else ""


def grown(array: Array, times: int) -> Array:
    """Each cell repeated in both directions."""
    return np.repeat(np.repeat(array, times, axis=0), times, axis=1)


def coloured(numbers: Array, style_of: Callable[[int, int], Style] = style) -> Iterator[Text]:
    """Lines of half blocks: the upper cell is the foreground, the lower cell the background.

    `style_of` maps two of the `numbers` [rows, columns] to a style.
    """
    if len(numbers) % 2:
        numbers = np.concatenate([numbers, np.zeros_like(numbers[:1])])
    for upper, lower in zip(numbers[::2].tolist(), numbers[1::2].tolist(), strict=True):
        line = Text(no_wrap=True)
        for pair, group in groupby(zip(upper, lower, strict=True)):
            line.append("\N{UPPER HALF BLOCK}" * len(list(group)), style_of(*pair))
        yield line


def _shaded(cells: Cells, shades: Sequence[str]) -> Iterator[Text]:
    """Lines with one character for two cells, one above the other."""
    paired = Cells(*(_add_pairs(each) for each in (cells.full, cells.partial, cells.tiles)))
    for row in character_numbers(paired).tolist():
        yield Text("".join(shades[number] for number in row), no_wrap=True)


def _add_pairs(array: Array) -> Array:
    """The sums of every two rows."""
    return np.add.reduceat(array, np.arange(0, len(array), 2), axis=0)
