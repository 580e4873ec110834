"""`show --out`: goldens of small pictures, options and mistakes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maskdsl as library
from maskdsl.view.palette import LIGHT

GOLDENS = Path(__file__).parent / "goldens"
CSWIN = "examples/vision/cswin.attn"
STACK = """
pattern near(n = 32, size = 8) { space t[n] attend causal and backward(size) }
pattern all(n = 32) { space t[n] attend causal }
stack two(n = 32) = 3 * near(n) + all(n)
"""
TILES, SCALE_DIT = "examples/video/sliding_tile.attn", "examples/vision/scale_dit.attn"
CASES = {
    "orders": (CSWIN, "--heads", 4, "h=4", "w=4", "stripe=2", "--order", "declared", "--order", "by x // 2, y"),
    "mask": ("examples/language/longformer.attn", "n=24", "size=6", "--mask"),
    "block": ("examples/language/causal.attn", "n=100", "--block", "16x32"),
    "around": ("examples/vision/dinat.attn", "dinat", "h=6", "w=7", "kernel=3", "dilation=2", "--around", "2,3"),
    "frames": (TILES, "t=4", "h=4", "w=4", "tile=2", "window=1", "text=0", "--around", "1,2,3"),
    "spaces": (SCALE_DIT, "scale_dit", "text=3", "h=8", "w=8", "tile=4", "--around", "image:1,6"),
    "cards": (CSWIN, "--heads", 4, "h=4", "w=4", "stripe=2", "--stacked"),
    "candidates": ("examples/routing/moba.attn", "n=64", "block=8", "top=3"),
    "selected": ("examples/routing/moba.attn", "n=64", "block=8", "top=3", "--heads", 2, "--random", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_pictures(maskdsl, tmp_path, name, request):
    out = tmp_path / "picture.svg"
    ended = maskdsl("show", *CASES[name], "--out", out)
    assert (ended.code, ended.out) == (0, ""), ended.err
    golden = GOLDENS / f"{name}.svg"
    if request.config.getoption("--update-golden"):
        golden.write_bytes(out.read_bytes())
    assert out.read_bytes() == golden.read_bytes()


def test_the_pictures_of_pages_are_up_to_date(maskdsl, tmp_path):
    """By the commands that `make pictures` runs."""
    commands = re.findall(r"maskdsl show (.+) --out (docs/images/\S+)", Path("Makefile").read_text())
    assert len(commands) == 2
    for words, picture in commands:
        assert maskdsl("show", *words.split(), "--out", tmp_path / "picture.svg").code == 0
        assert (tmp_path / "picture.svg").read_bytes() == Path(picture).read_bytes()


def test_kinds_of_files(maskdsl, tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".PDF", b"%PDF-1.4"), (".svg", b"<svg")):
        out = tmp_path / f"map{suffix}"
        assert maskdsl("show", CSWIN, "h=14", "w=14", "--out", out).code == 0
        assert out.read_bytes().startswith(start)


def test_density_is_exact_and_layers_stand_side_by_side(maskdsl, pattern_file, tmp_path):
    out = tmp_path / "stack.svg"
    path = pattern_file(STACK)
    assert maskdsl("show", path, "two", "n=64", "--out", out).code == 0
    text = out.read_text()
    assert "two(n=64)" in text and "4 layers of 64 tokens, 1 head" in text
    assert "layers 1-3: near(n=64, size=8), declared order" in text and "layer 4: all(n=64)" in text
    assert "density 11.8 %" in text and "density 50.8 %" in text  # (36 + 56 * 8) / 4096, 65 / 128


def test_pairs_are_counted_one_by_one(maskdsl, tmp_path):
    """Also where cells have several pairs each, because single tokens are too small to be drawn."""
    out = tmp_path / "map.svg"
    words = "examples/vision/neighborhood.attn", "na2", "h=28", "w=28", "--heads", 1
    assert maskdsl("show", *words, "--out", out).code == 0
    assert "38,416 pairs attend" in out.read_text()  # 784 * 49


def test_single_tokens_are_those_of_the_meaning(maskdsl, tmp_path):
    out = tmp_path / "mask.svg"
    assert maskdsl("show", CSWIN, "h=4", "w=4", "stripe=2", "--mask", "--heads", 4, "--head", 3, "--out", out).code == 0
    dense = library.load(CSWIN)["cswin"].bind(h=4, w=4, stripe=2, heads=4).dense(head=3)
    found = np.zeros((16, 16), dtype=bool)
    path, _ = re.findall(r'<path fill="#004488" d="([^"]*)"/>', out.read_text())  # the map, and the legend
    boxes = [tuple(map(int, box)) for box in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)", path)]
    corner = 24 + 52, min(y for _, y, _, _ in boxes)
    for x, y, width, height in boxes:
        row, column = (y - corner[1]) // 30, (x - corner[0]) // 30
        found[row : row + height // 30, column : column + width // 30] = True
    np.testing.assert_array_equal(found, dense)


def test_a_pixel_is_a_pair(maskdsl, tmp_path):
    """Of more than a thousand tokens too; of more than four thousand, or in boxes, some share a cell."""
    words = "examples/language/dilated_window.attn", "n=1700", "--mask"
    ended = maskdsl("show", *words, "--out", tmp_path / "mask.png")
    assert (ended.code, ended.err) == (0, "")
    pixels = np.asarray(Image.open(tmp_path / "mask.png").convert("RGB"))
    attended = (pixels == LIGHT.full).all(axis=2)
    left, top = 24 + 52, int(attended.any(axis=1).argmax())
    dense = library.load(words[0])["dilated_window"].bind(n=1700).dense()
    np.testing.assert_array_equal(attended[top : top + 1700, left : left + 1700], dense)
    ended = maskdsl("show", *words, "--out", tmp_path / "mask.svg")
    said = "note: each cell of the picture is 2 x 2 pairs, since it has 1,024 cells a side at most"
    assert ended.code == 0 and " ".join(ended.err.split()) == said
    assert "each cell one tile of 2 x 2 tokens" in (tmp_path / "mask.svg").read_text()


def test_a_space_too_short_for_its_name_leaves_the_next_one_its_own(maskdsl, pattern_file, tmp_path):
    spaces = "space text[77] space video[t = 8, y = 16, x = 24] tokens text ++ video"
    file = pattern_file(f"pattern p() {{ {spaces} attend causal }}")
    assert maskdsl("show", file, "--out", tmp_path / "map.svg").code == 0
    named = re.findall(r">(text|video)</text>", (tmp_path / "map.svg").read_text())
    assert named == ["text", "video"] * 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--out", "{}/map.gif"], "E560", ".png or .svg or .pdf"),
        (["--out", "{}/map"], "E560", "does not end in a known picture format"),
        (["--out", "{}/absent/map.svg"], "E512", "No such file or directory"),
        (["--out", "{}/map.svg", "--around", "3"], None, ""),
        (["--out", "{}/map.svg", "--around", "3,99"], "E514", "14 (y) x 14 (x)"),
        (["--out", "{}/map.svg", "--around", "3,x"], "E513", "a cell (y, x) of `image`, up to 13,13"),
        (["--out", "{}/map.svg", "--around", "1,1", "h=512", "w=256"], "E564", "131072 keys"),
        (["--out", "{}/map.svg", "--head", "9"], "E509", "no head 9"),
        (["--mask"], "E562", "--out map.png"),
        (["--around", "3,3"], "E562", "`--around`"),
        (["--stacked"], "E562", "`--stacked`"),
    ],
)
def test_mistakes(maskdsl, tmp_path, words, code, said):
    sizes = [] if any(word.startswith("h=") for word in words) else ["h=14", "w=14"]
    ended = maskdsl("show", CSWIN, *sizes, *(word.format(tmp_path) for word in words))
    if code is None:
        assert ended.code == 0
    else:
        assert ended.code == 2 and f"error[{code}]" in ended.err and said in " ".join(ended.err.split())


def test_stacks_have_no_single_query(maskdsl, pattern_file, tmp_path):
    ended = maskdsl("show", pattern_file(STACK), "two", "--around", "3", "--out", tmp_path / "a.svg")
    assert ended.code == 2 and "error[E521]: `--around`" in ended.err
