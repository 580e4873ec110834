"""Pictures as files: what is in them, and that equal scenes give equal bytes."""

import re
import zlib
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from maskdsl.view.image.pdf import pdf
from maskdsl.view.image.pixels import pixels
from maskdsl.view.image.scene import Anchor, Grid, Label, Outline, Scene
from maskdsl.view.image.svg import svg

COLOURS = ((236, 238, 243), (249, 142, 62), (0, 105, 112))
NUMBERS = np.random.default_rng(0).integers(0, 3, (5, 7))[[0, 1, 1, 2, 3]]


def scene() -> Scene:
    grid = Grid(20, 30, 6, NUMBERS, COLOURS)
    labels = [
        Label(20, 14, "a < b & (c) \\ \x1b\N{GREEK SMALL LETTER ALPHA}", 12, bold=True),
        Label(18, 40, "1,024", anchor=Anchor.END),
        Label(10, 45, "up", anchor=Anchor.MIDDLE, upward=True),
    ]
    return Scene(90, 80, (grid, Outline(20, 30, grid.width, grid.height), *labels))


@pytest.mark.parametrize("write", [svg, pdf, pixels])
def test_equal_scenes_give_equal_bytes(write):
    assert write(scene()) == write(scene())


def test_runs_cover_each_cell_once():
    painted = np.full((80, 90), -1)
    for number, boxes in Grid(20, 30, 6, NUMBERS, COLOURS).runs().items():
        for x, y, width, height in boxes:
            assert (painted[y : y + height, x : x + width] == -1).all()
            painted[y : y + height, x : x + width] = number
    np.testing.assert_array_equal(painted[30:60:6, 20:62:6], NUMBERS)
    assert (painted >= 0).sum() == NUMBERS.size * 36


def test_every_pixel_of_a_png():
    image = np.asarray(Image.open(BytesIO(pixels(scene()))))
    assert image.shape == (160, 180, 3)
    inside = image[60:120, 40:124][5::12, 5::12]
    np.testing.assert_array_equal(inside, np.array(COLOURS)[NUMBERS])
    assert (image[:20] < 128).any() and (image[60:110, 10:30] < 200).any()  # words are there


def test_an_svg_is_well_formed_and_has_its_boxes():
    root = ElementTree.fromstring(svg(scene()))
    tag = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{tag}text")]
    assert texts[0].startswith("a < b & (c) \\ ") and "\x1b" not in texts[0] and texts[1:] == ["1,024", "up"]
    painted = np.zeros((5, 7, 3), dtype=int)
    for path in root.iter(f"{tag}path"):
        colour = [int(path.get("fill")[position : position + 2], 16) for position in (1, 3, 5)]
        for box in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", path.get("d")):
            x, y, width, height = (int(part) // 6 for part in box)
            painted[y - 5 : y - 5 + height, x - 3 : x - 3 + width] = colour
    np.testing.assert_array_equal(painted, np.array(COLOURS)[NUMBERS])


def test_a_pdf_has_a_true_table_and_all_boxes():
    content = pdf(scene())
    table = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", content)[1])
    entries = re.findall(rb"(\d{10}) 00000 n ", content[table:])
    assert content[table:].startswith(b"xref\n0 7\n") and len(entries) == 6
    for number, position in enumerate(entries, start=1):
        assert content[int(position) :].startswith(f"{number} 0 obj\n".encode())
    length = int(re.search(rb"/Length (\d+)", content)[1])
    start = content.index(b"stream\n") + len(b"stream\n")
    drawn = zlib.decompress(content[start : start + length]).decode("cp1252")
    area = sum(int(width) * int(height) for width, height in re.findall(r"^\d+ \d+ (\d+) (\d+) re$", drawn, re.M))
    assert area == NUMBERS.size * 36
    assert r"(a < b & \(c\) \\ " in drawn and "(1,024) Tj" in drawn and "0 1 -1 0 10" in drawn
