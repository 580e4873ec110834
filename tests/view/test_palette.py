"""Colours are told apart with every kind of colour vision, and text can be read. Measured here from their numbers."""

import re
from dataclasses import asdict
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from maskdsl.view.palette import BOTH, DARK, FIRST, LEVELS, LIGHT, RANK_COLOURS, SAME, SECOND, SEVERAL

# Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1, in linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1, 1.08883])
PALETTES = pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])


def linear(colour):
    share = np.asarray(colour) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(light):
    """CIELAB of linear RGB."""
    share = TO_XYZ @ np.clip(light, 0, 1) / WHITE
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one, other):
    """The distance of two colours for those who see it least."""
    seen = ([lab(np.asarray(matrix) @ linear(each)) for each in (one, other)] for matrix in VISION.values())
    return min(float(np.linalg.norm(a - b)) for a, b in seen)


def contrast(one, other):
    """As WCAG 2 has it, 1 to 21."""
    dark, light = sorted(float(TO_XYZ[1] @ linear(each)) + 0.05 for each in (one, other))
    return light / dark


@PALETTES
def test_kinds_of_cells_are_told_apart(palette):
    partial = palette.shades[1 : LEVELS + 1]
    assert apart(palette.full, palette.empty) > 50
    assert min(apart(palette.full, each) for each in partial) > 50
    assert min(apart(palette.empty, each) for each in partial) > 20
    assert apart(palette.undrawn, palette.empty) > 10  # stripes, besides
    assert min(apart(palette.undrawn, each) for each in (palette.full, *partial)) > 20
    assert min(apart(palette.mark, each) for each in (palette.full, palette.empty)) > 20


@PALETTES
def test_partial_cells_go_from_few_to_most_by_lightness(palette):
    lightness = [lab(linear(each))[0] for each in palette.shades[1 : LEVELS + 1]]
    steps = [after - before for before, after in pairwise(lightness)]
    assert all(step < -2 for step in steps) or all(step > 2 for step in steps)
    assert palette.shades[0] == palette.empty and palette.shades[-1] == palette.full
    assert (palette.shades[1], palette.shades[LEVELS]) == (palette.partial[0], palette.partial[-1])


@PALETTES
def test_text_can_be_read(palette):
    for ink in (palette.text, palette.quiet, palette.accent, palette.against):
        for behind in (palette.ground, palette.card, palette.empty):
            assert contrast(ink, behind) >= 4.5, (ink, behind)


@PALETTES
def test_ranks_are_told_apart(palette):
    empty, *both, several = palette.rank_shades
    strong, pale = both[:RANK_COLOURS], both[RANK_COLOURS:]
    assert len(both) == 2 * RANK_COLOURS and palette.rank_shades[SEVERAL] == several
    assert min(apart(*pair) for pair in combinations([*strong, several], 2)) > 20
    assert min(apart(*pair) for pair in combinations(pale, 2)) > 8
    assert min(apart(strong[at], strong[at - 1]) for at in range(RANK_COLOURS)) > 30
    assert min(apart(each, other) for each in (empty, *strong) for other in pale) > 10
    assert min(apart(*pair) for pair in zip(strong, pale, strict=True)) > 20
    assert min(apart(empty, each) for each in strong) > 35


def test_what_two_patterns_share_is_told_apart():
    for one, other in combinations((DARK.empty, SAME, FIRST, SECOND, BOTH), 2):
        assert apart(one, other) > 20


def test_no_other_module_has_colours_of_its_own():
    files = [each for each in Path("maskdsl/view").rglob("*") if each.suffix in {".py", ".js", ".css", ".html"}]
    files += [*Path("benchmarks").glob("gallery*.py"), *Path("docs").glob("*.py")]
    written = re.compile(r"\(\d{2,3}, \d{1,3}, \d{1,3}\)|\[\d{2,3}, \d{1,3}, \d{1,3}\]|#[0-9a-f]{6}\b|#[0-9a-f]{3}\b")
    for file in files:
        if file.name not in ("palette.py", "svg.py"):
            assert not written.findall(re.sub(r'&#\w+;|"#[\w-]+"', "", file.read_text())), file
    assert asdict(LIGHT).keys() == asdict(DARK).keys()
