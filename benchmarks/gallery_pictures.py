"""Small pictures of patterns for the gallery: one panel for each different head, one row of panels for each order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.api import Mask
from maskdsl.view.cells import count_cells, fit
from maskdsl.view.palette import LEVELS, LIGHT, colour_numbers
from maskdsl.view.terminal.show import head_classes

HEADS = 8
PICTURES: Mapping[str, Mapping[str, object]] = {
    "video/paro: paro": {"t": 4, "h": 12, "w": 16, "text": 64},
}
"""Parameters by file and pattern, where the defaults are not those that can be seen best."""
LEGEND = "legend.png"
CELLS = 64
"""To the longer side of a panel, at most."""
SIDE = 256
"""Pixels of the longer side of a panel, about."""
GAP = 8
"""Pixels between panels."""
MOST_PANELS = 4
"""In a row: different heads beyond are not drawn."""

PAPER = LEVELS + 2
"""The number of what is between panels, which is transparent."""


@dataclass(frozen=True)
class Drawing:
    """A picture, and what is to be said of it."""

    png: bytes
    cell: tuple[int, int]
    """Tokens of a cell: queries, keys."""
    heads: list[list[int]]
    """Heads of each panel, left to right."""
    rows: int


def draw(masks: Sequence[Mask], inputs: Mapping[str, Array]) -> Drawing:
    """One pattern in several orders, one below the other."""
    mask = masks[0]
    scale = fit((mask.query_length, mask.key_length), (CELLS, CELLS))
    maps = [each.tiles(scale.block, **inputs) for each in masks]
    classes = list(head_classes(maps[0].class_of_head, range(mask.heads)).values())[:MOST_PANELS]
    panels = [
        [colour_numbers(count_cells(each.tile_map(members[0]), each.key_blocks, scale.tiles)) for members in classes]
        for each in maps
    ]
    times = max(1, SIDE // max(panels[0][0].shape))
    lines = [beside([panel.repeat(times, 0).repeat(times, 1) for panel in row], axis=1) for row in panels]
    return Drawing(png(beside(lines, axis=0)), scale.cell, classes, len(lines))


def beside(parts: Sequence[Array], axis: int) -> Array:
    """Arrays of one size, with gaps between them."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, PAPER)
    return np.concatenate([each for part in parts for each in (gap, part)][1:], axis=axis)


def legend() -> bytes:
    """A swatch of each colour: empty, partial from few pairs to most, full."""
    return png(np.arange(LEVELS + 2)[None].repeat(SIDE // 16, 0).repeat(SIDE // 16, 1))


def png(numbers: Array) -> bytes:
    """The file of a picture whose pixels [rows, columns] are numbers of colours."""
    image = Image.fromarray(numbers.astype(np.uint8), mode="P")
    image.putpalette([channel for shade in (*LIGHT.shades, LIGHT.card) for channel in shade])
    file = BytesIO()
    image.save(file, "png", transparency=PAPER, optimize=True)
    return file.getvalue()
