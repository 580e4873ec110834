"""The gallery holds every example, as it was recorded, and what it says of them is so."""

import json
from io import BytesIO

import gallery
import numpy as np
import pytest
from gallery_page import page
from gallery_pictures import draw
from PIL import Image
from settings import SETTINGS

RECORD = json.loads(gallery.RESULTS.read_text())
PATTERNS = dict(gallery.patterns())


def test_every_example_is_in_it():
    assert RECORD["results"].keys() == PATTERNS.keys()


def test_the_page_is_what_was_recorded():
    assert gallery.PAGE.read_text() == page(RECORD, PATTERNS)


def test_pictures_are_there_and_small():
    named = {each["picture"]["file"] for each in RECORD["results"].values()} | {gallery.LEGEND}
    files = list(gallery.FOLDER.iterdir())
    assert {file.name for file in files} == named
    assert max(file.stat().st_size for file in files) < 8_000
    assert sum(file.stat().st_size for file in files) < 800_000


@pytest.mark.parametrize(
    "key",
    [
        "language/longformer: longformer",
        "vision/clear: clear",
        "video/sliding_tile: sliding_tile",
        "routing/moba: moba",
    ],
)
def test_figures_are_exact(key):
    mask = gallery.bound(PATTERNS[key], SETTINGS.get(key, {}))
    total = mask.stats(**gallery.made_up(mask)).total
    said = RECORD["results"][key]["own"]
    assert (said["density"], said["block_density"]) == (total.density, total.block_density)


def test_a_picture_shows_the_tiles():
    mask = PATTERNS["language/sliding_window: sliding_window"].bind(n=512, size=128, heads=2)
    drawing = draw([mask], {})
    assert (drawing.cell, drawing.heads, drawing.rows) == ((8, 8), [[0, 1]], 1)
    pixels = np.asarray(Image.open(BytesIO(drawing.png)).convert("RGBA"))
    assert pixels.shape == (256, 256, 4)
    cells = pixels[2::4, 2::4, :3]
    full, empty = cells[40, 35], cells[40, 50]
    assert (cells[40, 27] == full).all() and (cells[0, 1] == empty).all()
    assert not (cells[40, 40] == full).all() and not (cells[40, 40] == empty).all()
