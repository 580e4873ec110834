"""A picture as data: grids of cells, boxes and labels at coordinates in points. The writers of files draw it."""

from dataclasses import field
from enum import StrEnum

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.view.palette import LIGHT, Shade


class Anchor(StrEnum):
    """The point of a label that its coordinates give."""

    START = "start"
    MIDDLE = "middle"
    END = "end"


@dataclass(frozen=True, eq=False)
class Grid:
    """Square cells of one colour each; x and y are the upper left corner."""

    x: int
    y: int
    cell: int
    """The side of a cell."""
    numbers: Array
    """Indices of colours, [rows, columns]."""
    colours: tuple[Shade, ...]

    @property
    def width(self) -> int:
        return int(self.numbers.shape[1]) * self.cell

    @property
    def height(self) -> int:
        return int(self.numbers.shape[0]) * self.cell

    def runs(self) -> dict[int, Array]:
        """The boxes [boxes, 4] of each colour: x, y, width, height. Equal neighbours and equal rows are merged."""
        if not self.numbers.size:
            return {}
        tops = np.flatnonzero(np.append(True, np.any(self.numbers[1:] != self.numbers[:-1], axis=1)))
        heights = np.diff(np.append(tops, len(self.numbers)))
        different = self.numbers[tops]
        rows, columns = different.shape
        changes = np.ones((rows, columns), dtype=bool)
        changes[:, 1:] = different[:, 1:] != different[:, :-1]
        starts = np.flatnonzero(changes)
        row, column = np.divmod(starts, columns)
        lengths = np.diff(np.append(starts, rows * columns))
        corners = np.stack([self.x + column * self.cell, self.y + tops[row] * self.cell], axis=1)
        boxes = np.concatenate([corners, np.stack([lengths, heights[row]], axis=1) * self.cell], axis=1)
        numbers = different.reshape(-1)[starts]
        return {int(number): boxes[numbers == number] for number in np.unique(numbers)}


@dataclass(frozen=True)
class Outline:
    """The border of a box, drawn inside it."""

    x: int
    y: int
    width: int
    height: int
    colour: Shade = LIGHT.quiet
    thickness: float = 0.5


@dataclass(frozen=True)
class Label:
    """A line of text on its baseline."""

    x: int
    y: int
    text: str
    size: int = 9
    anchor: Anchor = Anchor.START
    bold: bool = False
    colour: Shade = LIGHT.text
    upward: bool = False
    """Whether the text runs upward."""


Shape = Grid | Outline | Label


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture on white. Later shapes cover earlier ones."""

    width: int
    height: int
    shapes: tuple[Shape, ...] = field(default_factory=tuple)
