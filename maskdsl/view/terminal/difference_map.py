"""The output of `maskdsl show --diff`: maps of where two patterns differ, and by how many pairs."""

from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
from rich import box
from rich.color import Color
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.style import Style
from rich.text import Text

from maskdsl.analysis.counts.compare import Difference, Share
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.view import units
from maskdsl.view.cells import Scale, count_cells
from maskdsl.view.labels import Labels
from maskdsl.view.palette import BOTH, DARK, FIRST, SAME, SECOND, has_colour
from maskdsl.view.terminal.map_picture import Sides, coloured, enlargement, grown
from maskdsl.view.terminal.show import FRAME, cell_size, heading, title

_SHADES = (DARK.empty, SAME, FIRST, SECOND, BOTH)
_CHARACTERS = (".", "=", "<", ">", "x")
_NAMES = ("neither", "the same", "only in the first", "only in the second", "some of each")
"""The contents of a cell, by number."""


@dataclass(frozen=True, eq=False)
class DifferencePicture:
    """The map of one head class of two patterns."""

    difference: Difference
    lengths: tuple[int, int]
    scale: Scale
    room: tuple[int, int]
    labels: tuple[Labels | None, Labels | None]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        numbers = grown(self.numbers, self.times)
        yield from self.sides.around(
            coloured(numbers, _difference_style) if has_colour(console) else _lettered(numbers)
        )

    @cached_property
    def numbers(self) -> Array:
        """int64 [rows, columns]: the contents of each cell, as in `_NAMES`."""
        first, second, common = (self.touched(share) for share in self.shares)
        return np.select([first & second, second, first, common], [4, 3, 2, 1], 0)

    @property
    def shares(self) -> tuple[Share, Share, Share]:
        return self.difference.first, self.difference.second, self.difference.common

    def touched(self, share: Share) -> Array:
        """bool [rows, columns]: whether the cell may have a pair of this share."""
        cells = count_cells(share.tiles, self.difference.key_blocks, self.scale.tiles)
        return cells.full + cells.partial > 0

    @property
    def times(self) -> int:
        return enlargement(self.numbers.shape, self.room)

    @property
    def sides(self) -> Sides:
        return Sides.of(self.labels, self.lengths, self.scale.cell, self.times, self.room)

    @property
    def width(self) -> int:
        """The width in columns of the screen."""
        return int(self.numbers.shape[1]) * self.times + self.sides.gutter


@cache
def _difference_style(upper: int, lower: int) -> Style:
    return Style(color=Color.from_rgb(*_SHADES[upper]), bgcolor=Color.from_rgb(*_SHADES[lower]))


def _lettered(numbers: Array) -> list[Text]:
    """Lines with one character for two cells, one above the other: the greater number, which keeps differences."""
    rows = np.maximum.reduceat(numbers, np.arange(0, len(numbers), 2), axis=0)
    return [Text("".join(_CHARACTERS[number] for number in row), no_wrap=True) for row in rows.tolist()]


def differences_shown(
    console: Console, masks: tuple[MaskIR, MaskIR], pictures: Sequence[DifferencePicture], order: str
) -> RenderableType:
    """The whole output about two patterns: titles, maps, legend and counts."""
    first, second = masks
    blocks: list[RenderableType] = [
        Text.assemble("first   ", title(first)),
        Text.assemble("second  ", title(second)),
    ]
    panels = [_framed(picture, first.heads, order) for picture in pictures]
    blocks.append(panels[0] if len(panels) == 1 else Columns(panels, padding=(0, 1)))
    blocks.append(_legend(console))
    blocks.append(Text(cell_size(pictures[0].scale, pictures[0].times, has_colour(console)), style="dim"))
    blocks += [_sentence(picture.difference, first.heads) for picture in pictures]
    return Group(*blocks)


def _framed(picture: DifferencePicture, heads: int, order: str) -> Panel:
    above = heading(list(picture.difference.heads), heads, order)
    return Panel(
        picture,
        title=Text(above),
        box=box.SQUARE,
        border_style="dim",
        title_align="left",
        expand=False,
        width=max(picture.width, len(above) + 2) + FRAME,
    )


def _legend(console: Console) -> Text:
    line = Text()
    for number, name in enumerate(_NAMES):
        swatch = (
            ("\N{UPPER HALF BLOCK}" * 2, _difference_style(number, number))
            if has_colour(console)
            else _CHARACTERS[number]
        )
        line.append_text(Text.assemble(swatch, f" {name}   "))
    line.rstrip()
    return line


def _sentence(difference: Difference, heads: int) -> Text:
    """`each of heads 0-3: 1,024 pairs only in the first, 0 only in the second, 4,096 in both`."""
    which = heading(list(difference.heads), heads, "")
    counts = [units.count(share.pairs) for share in (difference.first, difference.second, difference.common)]
    if not (difference.first.pairs or difference.second.pairs):
        return Text(f"{which + ': ' if which else ''}the same pairs, {counts[2]} of them", style="bold")
    text = f"{counts[0]} pairs only in the first, {counts[1]} only in the second, {counts[2]} in both"
    return Text(f"{which + ': ' if which else ''}{text}")
