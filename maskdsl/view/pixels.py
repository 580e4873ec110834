"""A scene as a PNG file. Needs Pillow, whose own font it writes in."""

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from maskdsl.view.scene import Anchor, Grid, Label, Outline, Scene

if TYPE_CHECKING:
    from PIL.Image import Image

SCALE = 2
"""Pixels of a point, in a picture of usual size."""
LARGE = 1600
"""Points from which on a picture gets one pixel for each."""
PLACES = {Anchor.START: "ls", Anchor.MIDDLE: "ms", Anchor.END: "rs"}


def pixels(scene: Scene) -> bytes:
    """Raises `ImportError` without Pillow."""
    from PIL import Image  # an optional dependency

    scale = SCALE if max(scene.width, scene.height) < LARGE else 1
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), "white")
    for shape in scene.shapes:
        match shape:
            case Grid():
                draw_grid(image, shape, scale)
            case Outline():
                draw_outline(image, shape, scale)
            case Label():
                draw_label(image, shape, scale)
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=9)
    return stream.getvalue()


def draw_grid(image: "Image", grid: Grid, scale: int) -> None:
    from PIL import Image  # an optional dependency

    side = grid.cell * scale
    cells = np.asarray(grid.colours, dtype=np.uint8)[grid.numbers]
    whole = np.repeat(np.repeat(cells, side, axis=0), side, axis=1)
    image.paste(Image.fromarray(whole), (grid.x * scale, grid.y * scale))


def draw_outline(image: "Image", outline: Outline, scale: int) -> None:
    from PIL import ImageDraw  # an optional dependency

    x, y = outline.x * scale, outline.y * scale
    box = x, y, x + outline.width * scale - 1, y + outline.height * scale - 1
    width = max(1, round(outline.thickness * scale))
    ImageDraw.Draw(image).rectangle(box, outline=outline.colour, width=width)


def draw_label(image: "Image", label: Label, scale: int) -> None:
    """Bold letters are drawn with a thin border in their own colour."""
    from PIL import Image, ImageDraw, ImageFont  # an optional dependency

    font = ImageFont.load_default(label.size * scale)
    x, y = label.x * scale, label.y * scale
    size, place = ((image.height, image.width), (image.height - y, x)) if label.upward else (image.size, (x, y))
    ink = Image.new("L", size, 0)
    border = scale / 4 if label.bold else 0
    ImageDraw.Draw(ink).text(place, label.text, fill=255, font=font, anchor=PLACES[label.anchor], stroke_width=border)
    if label.upward:
        ink = ink.transpose(Image.Transpose.ROTATE_90)
    image.paste(Image.new("RGB", image.size, label.colour), (0, 0), ink)
