"""All colours: those of cells, of text and of what stands around them. And characters, where there is no colour."""

from functools import cache, cached_property

import numpy as np
from rich.color import Color
from rich.console import Console
from rich.style import Style

from maskdsl.analysis.tiles.block_map import EMPTY, FULL, Array
from maskdsl.base.records import dataclass
from maskdsl.view.cells import Cells

Shade = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """The colours of maps and of what stands around them, on a light or a dark ground.

    People with any kind of colour vision tell the kinds of cells apart, and text has a contrast of at least 4.5;
    tests/view/test_palette.py measures both.
    """

    ground: Shade
    """Behind everything."""
    card: Shade
    """Behind a map and behind text."""
    text: Shade
    quiet: Shade
    """Text that is read second."""
    line: Shade
    """Borders."""
    accent: Shade
    """What is chosen or holds; also text."""
    against: Shade
    """What does not hold, and errors; also text."""
    mark: Shade
    """A query among cells."""
    empty: Shade
    partial: tuple[Shade, ...]
    """From few pairs of a cell to nearly all."""
    full: Shade
    undrawn: Shade
    """What is not drawn yet, in stripes on `empty`."""
    ranks: tuple[Shade, ...]
    """Of `RANK_COLOURS` ranks, from the first on; neighbours are furthest apart."""
    several: Shade
    """Cells of several ranks."""

    def shade(self, number: int) -> Shade:
        """The colour of a number of `colour_numbers`."""
        if number == 0:
            return self.empty
        if number == LEVELS + 1:
            return self.full
        position = (number - 1) / (LEVELS - 1) * (len(self.partial) - 1)
        left = min(int(position), len(self.partial) - 2)
        return _mixed(self.partial[left], self.partial[left + 1], position - left)

    @cached_property
    def shades(self) -> tuple[Shade, ...]:
        """The colours of all numbers of `colour_numbers`."""
        return tuple(self.shade(number) for number in range(LEVELS + 2))

    @cached_property
    def rank_shades(self) -> tuple[Shade, ...]:
        """Of empty cells, of ranks that hold the keys of a cell, of those that receive them (pale), and `SEVERAL`."""
        return (self.empty, *self.ranks, *(_mixed(each, self.empty, _PALE) for each in self.ranks), self.several)


def _mixed(one: Shade, other: Shade, share: float) -> Shade:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


LIGHT = Palette(
    ground=(245, 244, 241),
    card=(255, 255, 255),
    text=(28, 30, 41),
    quiet=(92, 96, 110),
    line=(216, 216, 220),
    accent=(0, 68, 136),
    against=(158, 54, 20),
    mark=(200, 30, 110),
    empty=(236, 238, 243),
    partial=((254, 222, 110), (254, 190, 80), (240, 130, 35), (200, 80, 5), (130, 45, 5)),
    full=(0, 68, 136),
    undrawn=(206, 209, 218),
    ranks=(
        *((251, 86, 85), (8, 28, 192), (223, 137, 15), (90, 12, 129)),
        *((85, 255, 104), (150, 91, 170), (162, 31, 0), (95, 110, 254)),
    ),
    several=(132, 134, 142),
)
DARK = Palette(
    ground=(18, 19, 26),
    card=(26, 28, 38),
    text=(233, 233, 238),
    quiet=(160, 163, 176),
    line=(60, 64, 78),
    accent=(86, 180, 233),
    against=(255, 157, 110),
    mark=(255, 90, 120),
    empty=(34, 37, 50),
    partial=((122, 62, 18), (176, 92, 20), (226, 132, 40), (250, 180, 80), (255, 224, 140)),
    full=(86, 180, 233),
    undrawn=(70, 75, 92),
    ranks=(
        *((172, 253, 149), (203, 145, 255), (81, 170, 106), (199, 173, 3)),
        *((63, 233, 179), (177, 109, 18), (255, 239, 62), (27, 112, 253)),
    ),
    several=(132, 134, 142),
)

SAME: Shade = (92, 96, 112)
FIRST: Shade = (230, 159, 0)
SECOND: Shade = (86, 180, 233)
BOTH: Shade = (240, 240, 240)
"""Cells of two patterns, on a dark ground: the same in both, only in one, some of each. Orange and sky blue are those
of Okabe and Ito 2008, "Color Universal Design"."""

LEVELS = 12
"""The number of shades of partial cells."""
RANK_COLOURS = 8
"""The number of colours of ranks; the next rank has the first colour again."""
SEVERAL = 2 * RANK_COLOURS + 1
"""The number of cells of several ranks among `Palette.rank_shades`."""
_PALE = 0.6
"""How much of an empty cell a pale colour has."""

_CHARACTERS = ("\N{MIDDLE DOT}", "\N{LIGHT SHADE}", "\N{MEDIUM SHADE}", "\N{DARK SHADE}", "\N{FULL BLOCK}")
_ASCII_CHARACTERS = (".", "-", "+", "*", "#")
"""Characters of empty cells, of partial cells (three), and of full cells."""


def colour_numbers(cells: Cells) -> Array:
    """[rows, columns]: 0 for empty, 1 to `LEVELS` for partial, `LEVELS + 1` for full cells; see `shade`."""
    return _numbered(cells, LEVELS)


def character_numbers(cells: Cells) -> Array:
    """[rows, columns]: the index of each cell's character in `_CHARACTERS`."""
    return _numbered(cells, len(_CHARACTERS) - 2)


def _numbered(cells: Cells, levels: int) -> Array:
    """Levels of cells. Partial ones follow the square root of the density, which keeps thin lines visible."""
    partial = 1 + np.minimum(np.sqrt(cells.density) * levels, levels - 1).astype(np.int64)
    return np.where(cells.classes == FULL, levels + 1, np.where(cells.classes == EMPTY, 0, partial)).astype(np.uint8)


@cache
def style(upper: int, lower: int) -> Style:
    """The style of an upper half block that shows two cells."""
    return Style(color=Color.from_rgb(*DARK.shades[upper]), bgcolor=Color.from_rgb(*DARK.shades[lower]))


def has_colour(console: Console) -> bool:
    return console.color_system is not None and not console.no_color


def characters(console: Console) -> tuple[str, ...]:
    return _ASCII_CHARACTERS if console.options.ascii_only else _CHARACTERS
