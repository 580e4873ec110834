"""Writes a scene as a PNG file. Pillow does, with its built-in font."""

from io import BytesIO
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from maskdsl.view.image.scene import Anchor, Grid, Label, Outline, Scene

if TYPE_CHECKING:
    from PIL.Image import Image

_SCALE = 2
"""The pixels of a point, in a picture of normal size."""
_LARGE = 1600
"""The points of a side from which a picture has one pixel for each point."""
_ANCHORS = {Anchor.START: "ls", Anchor.MIDDLE: "ms", Anchor.END: "rs"}


def pixels(scene: Scene) -> bytes:
    """The bytes of a PNG file."""
    from PIL import Image  # start-up time

    scale = _SCALE if max(scene.width, scene.height) < _LARGE else 1
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), "white")
    for shape in scene.shapes:
        match shape:
            case Grid():
                _draw_grid(image, shape, scale)
            case Outline():
                _draw_outline(image, shape, scale)
            case Label():
                _draw_label(image, shape, scale)
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=9)
    return stream.getvalue()


def _draw_grid(image: "Image", grid: Grid, scale: int) -> None:
    from PIL import Image  # start-up time

    side = grid.cell * scale
    cells = np.asarray(grid.colours, dtype=np.uint8)[grid.numbers]
    whole = np.repeat(np.repeat(cells, side, axis=0), side, axis=1)
    image.paste(Image.fromarray(whole), (grid.x * scale, grid.y * scale))


def _draw_outline(image: "Image", outline: Outline, scale: int) -> None:
    from PIL import ImageDraw  # start-up time

    x, y = outline.x * scale, outline.y * scale
    box = x, y, x + outline.width * scale - 1, y + outline.height * scale - 1
    width = max(1, round(outline.thickness * scale))
    ImageDraw.Draw(image).rectangle(box, outline=outline.colour, width=width)


def _draw_label(image: "Image", label: Label, scale: int) -> None:
    """Draws a label. The font has no bold letters; upward text is drawn separately and rotated."""
    from PIL import Image, ImageDraw, ImageFont  # start-up time

    font = ImageFont.load_default(label.size * scale)
    x, y = label.x * scale, label.y * scale
    if not label.upward:
        pen = ImageDraw.Draw(image)
        pen.text((x, y), label.text, label.colour, font, _ANCHORS[label.anchor])
        return
    length, height = ceil(font.getlength(label.text)), 2 * label.size * scale
    ink = Image.new("L", (length, height), 0)
    ImageDraw.Draw(ink).text((0, height // 2), label.text, 255, font, "ls")
    ink = ink.transpose(Image.Transpose.ROTATE_90)
    before = {Anchor.START: 0, Anchor.MIDDLE: length // 2, Anchor.END: length}[label.anchor]
    corner = x - height // 2, y - length + before
    image.paste(Image.new("RGB", ink.size, label.colour), corner, ink)
