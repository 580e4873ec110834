"""Pictures as text, with and without colour."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.declared.sequences import Axis, Sequence, Space
from maskdsl.ir.expressions import Head, apply
from maskdsl.ir.ops import Op
from maskdsl.view.cells import fit
from maskdsl.view.head_figures import Counted
from maskdsl.view.labels import Labels, above, beside
from maskdsl.view.palette import DARK
from maskdsl.view.terminal.show import MOST_PICTURES, OrderedTiles, room, shown
from tests.support.masks import c, causal, either, k, mask, q, tokens, within


def printed(masks, heads=(0,), width=60, block=None, pictures=1, **options):
    console = Console(file=io.StringIO(), width=width, legacy_windows=False, **options)
    space = room(console, masks[0], pictures)
    scale = fit((masks[0].queries.length, masks[0].keys.length), space, block)
    layouts = [
        OrderedTiles(
            "declared order",
            each,
            tiles(each, scale.block),
            Counted.beside(each, block, {}),
            scale,
            space,
            Labels.of_sides(each, {}),
        )
        for each in masks
    ]
    console.print(shown(layouts, heads))
    return console.file.getvalue()


def test_few_tokens_are_enlarged():
    assert printed([mask(either(within(1), causal()), tokens(4))]).splitlines() == [
        "pattern()  4 tokens, 1 head",
        "┌─ declared order ────────────────────┐",
        "│   0           3                     │",
        "│ 0 ████████········                  │",
        "│   ████████········                  │",
        "│   ████████████····                  │",
        "│   ████████████····                  │",
        "│   ████████████████                  │",
        "│   ████████████████                  │",
        "│ 3 ████████████████                  │",
        "│   ████████████████                  │",
        "└─ 0 full, 1 partial, density 81.2 % ─┘",
        "· empty   ░▒▓ partial, few to most pairs   █ full",
        "each cell one pair of a query and a key; counts: tiles of ",
        "128 x 128, a head",
    ]


def test_tiles_of_a_given_size_are_drawn_together():
    text = printed([mask(causal(), tokens(1000))], block=(16, 16), width=40).splitlines()
    assert text[1:5] == [
        "┌─ declared order ─────────────────────┐",
        "│     0           384         768      │",
        "│   0 ▓▒······························ │",
        "│     ██▓▒···························· │",
    ]
    assert "1,953 full, 63 partial" in "\n".join(text)
    assert " ".join(map(str.strip, text[-2:])) == (
        "each character 4 x 2 tiles of 16 x 16 tokens; counts: tiles of 16 x 16, a head"
    )


def test_a_single_token():
    assert "1 full, 0 partial, density 100 %" in printed([mask(causal(), tokens(1))])


def test_many_tokens():
    text = printed([mask(within(5), tokens(2**22))])
    assert "4,194,304 tokens" in text
    _, *rows = [line for line in text.splitlines() if line.startswith("│")]
    assert all("░" in row and "█" not in row for row in rows)


def test_a_wide_map():
    text = printed([mask(causal(), tokens(3), tokens(500))])
    assert "3 queries, 500 keys" in text


def test_colours_are_half_blocks_of_two_cells():
    text = printed([mask(causal(), tokens(2))], force_terminal=True, color_system="truecolor", height=40)
    full, empty = (";".join(map(str, each)) for each in (DARK.full, DARK.empty))
    line = next(line for line in text.splitlines() if "▀▀▀▀" in line)
    assert f"38;2;{full};48;2;{full}m▀▀▀▀" in line
    assert f"38;2;{empty};48;2;{empty}m▀▀▀▀" in line


@pytest.mark.parametrize("options", [{"no_color": True}, {"color_system": None}])
def test_without_colour_characters_say_it_all(options):
    text = printed([mask(causal(), tokens(100))], force_terminal=True, height=40, **options)
    assert "▀" not in text and "█" in text and "·" in text


def test_ascii_only():
    class Ascii(io.StringIO):
        encoding = "ascii"

    console = Console(file=Ascii(), width=60)
    masked = mask(causal(), tokens(100))
    space = room(console, masked, 1)
    scale = fit((100, 100), space)
    counted = Counted.beside(masked, None, {})
    console.print(
        shown([OrderedTiles("declared order", masked, tiles(masked, scale.block), counted, scale, space)], [0])
    )
    assert console.file.getvalue().isascii()


@pytest.mark.parametrize("width", [20, 38, 39, 60, 80, 81, 120, 250])
@pytest.mark.parametrize("colour", [None, "truecolor"])
def test_no_line_is_wider_than_the_window(width, colour):
    one = mask(within(40), tokens(1000))
    options = {"force_terminal": colour is not None, "color_system": colour, "height": 30}
    text = printed([one, one, one], width=width, pictures=3, **options)
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()) <= width


def test_the_picture_fits_the_height_of_a_terminal():
    text = printed([mask(causal(), tokens(4096))], width=200, height=30, force_terminal=True)
    assert len(text.splitlines()) < 30


def by_head(heads):
    return mask(
        apply(Op.LESS_EQUAL, k(), apply(Op.ADD, q(), apply(Op.FLOOR_DIVIDE, Head(), c(2)))), tokens(64), heads=heads
    )


def test_heads_that_share_a_map_are_shown_once():
    text = printed([by_head(5)], heads=range(5), width=200, pictures=3)
    assert re.findall(r"heads? \d[\d-]*", text) == ["heads 0-1", "heads 2-3", "head 4"]


def test_only_the_heads_asked_for():
    text = printed([by_head(5)], heads=[1, 4])
    assert re.findall(r"─ heads? \d[\d-]*", text) == ["─ head 1", "─ head 4"]


def test_very_many_maps_are_cut():
    text = printed([by_head(2 * MOST_PICTURES + 6)], heads=range(2 * MOST_PICTURES + 6), width=120, pictures=3)
    assert "3 more maps are not shown" in text and text.count("declared order") == MOST_PICTURES


def test_spaces_are_named_where_they_begin():
    spaces = Sequence((Space("text", (Axis("text", 256),)), Space("image", (Axis("y", 32), Axis("x", 24)))))
    lines = printed([mask(causal(), spaces)], width=70).splitlines()
    assert lines[2].startswith("│       text ") and "image" in lines[2]
    (text_row,) = (number for number, line in enumerate(lines) if line.startswith("│  text "))
    (image_row,) = (number for number, line in enumerate(lines) if line.startswith("│ image "))
    assert text_row == 3
    rows = sum(line.startswith("│") for line in lines) - 1
    assert (image_row - text_row) / rows == pytest.approx(256 / 1024, abs=0.05)


TEXT_AND_VIDEO = Sequence((Space("text", (Axis("text", 77),)), Space("video", (Axis("y", 64), Axis("x", 48)))))


@pytest.mark.parametrize("width", [45, 80, 160])
def test_a_name_without_room_moves_on_in_its_space(width):
    """The text has 77 of 3,149 tokens: no line of its own, and fewer columns than its name has letters."""
    top, *lines = printed([mask(causal(), TEXT_AND_VIDEO)], width=width).splitlines()[2:]
    assert top.split()[1:3] == ["text", "video"]
    assert [line.split()[1] for line in lines[:2]] == ["text", "video"]
    assert not any(name in line for name in ("text", "video") for line in lines[2:])


def test_a_region_is_labelled_by_its_own_positions():
    two = Sequence((Space("noised", (Axis("noised", 512),)), Space("clean", (Axis("clean", 512),))))
    rows, columns = Labels.of_sides(mask(causal(), two), {}, (slice(100, 120), slice(300, 1024)))
    assert beside(rows, 20, 1, 1) == {0: "100", 6: "112"}
    assert above(columns, 724, 16, 1).split() == ["300", "clean", "684", "876"]


def test_cells_of_a_grid_are_named_in_the_order_of_the_map():
    image = Sequence((Space("image", (Axis("y", 16), Axis("x", 16))),))
    lines = printed([mask(causal(), image)], width=50).splitlines()
    assert lines[2].split()[1:5] == ["y,x", "0,0", "5,4", "10,8"]
    assert [line.split()[1] for line in lines if re.match(r"│ +\d+,\d+ ", line)] == ["0,0", "5,4", "10,8", "15,12"]


def test_labels_give_way_in_a_narrow_window():
    lines = printed([mask(causal(), tokens(500))], width=26).splitlines()
    assert not re.search(r"\d", "".join(line for line in lines if re.match("│ [▓█]", line)))


def test_the_first_sentence_of_the_documentation():
    masked = replace(mask(causal(), tokens(4)), doc="Local: every query\nattends 2.5 keys. Source: nobody.")
    assert printed([masked]).splitlines()[1] == "Local: every query attends 2.5 keys."
