"""Maps whose colours are the ranks of a plan, with strips at the right and below that say who holds which tokens."""

from collections.abc import Iterator
from functools import cache, cached_property

import numpy as np
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from maskdsl.base.records import dataclass
from maskdsl.view.palette import DARK, RANK_COLOURS, SEVERAL, characters, has_colour
from maskdsl.view.rank_cells import RankCells, RankColours
from maskdsl.view.terminal.map_picture import STRIP, Picture, coloured, grown

_CHARACTERS = " ABCDEFGHabcdefgh*"
"""By number of `Palette.rank_shades`, where there is no colour."""


@dataclass(frozen=True, eq=False)
class RankPicture:
    """The map of one head by ranks."""

    picture: Picture
    colours: RankColours

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = self._coloured() if has_colour(console) else self._lettered(characters(console)[0])
        yield from self.picture.sides.around(lines)

    @property
    def room(self) -> tuple[int, int]:
        return self.picture.room

    @property
    def width(self) -> int:
        """The width in columns of the screen."""
        return self.picture.width + STRIP

    @cached_property
    def cells(self) -> RankCells:
        """Of the map as it is drawn, enlarged."""
        picture = self.picture
        each, times = self.colours.of_cells(picture.cells, picture.scale, picture.head), picture.times
        return RankCells(grown(each.cells, times), np.repeat(each.queries, times), np.repeat(each.keys, times))

    def _coloured(self) -> Iterator[Text]:
        beside = coloured(self.cells.queries[:, None], _rank_style)
        for line, holder in zip(coloured(self.cells.cells, _rank_style), beside, strict=True):
            yield Text.assemble(line, " ", holder, no_wrap=True)
        below = Text(no_wrap=True)
        for number in self.cells.keys.tolist():
            below.append("\N{LOWER HALF BLOCK}", Style(color=_rank_style(number, number).color))
        yield below

    def _lettered(self, empty: str) -> Iterator[Text]:
        """Lines with one character for two cells, one above the other: the upper one, unless it is empty."""
        letters, cells = np.array([empty, *_CHARACTERS[1:]]), self.cells.cells
        lower = np.concatenate([cells[1::2], np.zeros_like(cells[: len(cells) % 2])])
        for row, holder in zip(np.where(cells[::2] > 0, cells[::2], lower), self.cells.queries[::2], strict=True):
            yield Text(f"{''.join(letters[row])} {letters[holder]}", no_wrap=True)
        yield Text("".join(letters[self.cells.keys]), no_wrap=True)


@cache
def _rank_style(upper: int, lower: int) -> Style:
    return Style(color=Color.from_rgb(*DARK.rank_shades[upper]), bgcolor=Color.from_rgb(*DARK.rank_shades[lower]))


def rank_swatches(console: Console, colours: RankColours) -> Iterator[tuple[Text, str]]:
    """For each colour, strong and pale, the names of its ranks; then the colour of cells of several ranks."""
    pairs = [(colour, colour + RANK_COLOURS) for colour in range(1, RANK_COLOURS + 1)]
    for pair, name in [*zip(pairs, colours.names(), strict=False), ((SEVERAL,), "several ranks")]:
        if has_colour(console):
            yield Text.assemble(*(("\N{UPPER HALF BLOCK}", _rank_style(each, each)) for each in pair)), name
        else:
            yield Text("".join(_CHARACTERS[each] for each in pair)), name
