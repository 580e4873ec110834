"""The look of a cell of a picture: a colour, or a character if there is no colour."""

from functools import cache

import numpy as np
from rich.color import Color
from rich.console import Console
from rich.style import Style

from maskdsl.analysis.tiles.block_map import EMPTY, FULL, Array
from maskdsl.view.cells import Cells

Shade = tuple[int, int, int]

EMPTY_SHADE: Shade = (28, 30, 41)
FULL_SHADE: Shade = (46, 196, 182)
PARTIAL_SHADES: tuple[Shade, ...] = ((92, 52, 118), (158, 62, 110), (222, 96, 78), (248, 164, 76), (255, 214, 122))
"""Shades from few pairs of a cell to nearly all."""
LEVELS = 12
"""The number of shades of partial cells."""

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
    return np.where(cells.classes == FULL, levels + 1, np.where(cells.classes == EMPTY, 0, partial))


@cache
def shade(number: int) -> Shade:
    """The colour of a number of `colour_numbers`."""
    if number == 0:
        return EMPTY_SHADE
    if number == LEVELS + 1:
        return FULL_SHADE
    position = (number - 1) / (LEVELS - 1) * (len(PARTIAL_SHADES) - 1)
    left = min(int(position), len(PARTIAL_SHADES) - 2)
    pairs = zip(PARTIAL_SHADES[left], PARTIAL_SHADES[left + 1], strict=True)
    red, green, blue = (round(a + (b - a) * (position - left)) for a, b in pairs)
    return red, green, blue


@cache
def style(upper: int, lower: int) -> Style:
    """The style of an upper half block that shows two cells."""
    return Style(color=Color.from_rgb(*shade(upper)), bgcolor=Color.from_rgb(*shade(lower)))


def has_colour(console: Console) -> bool:
    return console.color_system is not None and not console.no_color


def characters(console: Console) -> tuple[str, ...]:
    return _ASCII_CHARACTERS if console.options.ascii_only else _CHARACTERS
