"""The page in a real browser: zoom, hover, queries, switches, keys, light and dark, and nothing from outside."""

import re

import numpy as np
import pytest

import maskdsl
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.view.page.html import page_html
from maskdsl.view.page.page_data import Subject, page_data
from tests.page.conftest import settle
from tests.page.pages import GRID, allowed, colours, grid_data, keys_of, near, point, said, written
from tests.support.browser import CUT, PALE


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return written(tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(opened, address):
    return opened(address)


def number(page, name):
    return page.locator("#map").get_attribute(f"data-{name}")


def view(page):
    return page.evaluate("maskdsl.map.view.zoom")


def test_the_page_says_what_it_shows(page):
    assert page.locator("h1").inner_text() == "grid"
    assert page.locator("#parameters").inner_text().split() == ["h", "24", "w", "32", "size", "5", "heads", "4"]
    assert page.locator("#doc").inner_text() == "Windows on an image, and a text that all see."
    assert page.locator("#source code").all_inner_texts()[4] == "    attend all -> text"
    figures = page.locator("#figures").inner_text()
    exact = maskdsl.parse(GRID)["grid"].bind(heads=4).stats().heads[0]
    assert f"full tiles\t{exact.full_tiles}\t" in figures and f"partial tiles\t{exact.partial_tiles}\t" in figures
    assert f"{exact.least_keys} to {exact.most_keys} of 784 keys" in page.locator("#summary").inner_text()


def test_nothing_is_loaded(page, address):
    assert page.heard.requests == [address]
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_zoom_goes_from_the_map_to_tokens(page):
    whole = view(page)
    page.mouse.move(*point(page, 300, 300))
    for _ in range(12):
        page.mouse.wheel(0, -300)
    settle(page)
    assert view(page) > 20 * whole and number(page, "level") == "0"
    before = page.evaluate("maskdsl.map.view.at(400, 300)")
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 460, box["y"] + 360, steps=4)
    page.mouse.up()
    assert page.evaluate("maskdsl.map.view.at(460, 360)") == before
    assert not page.locator("#chosen").is_visible()  # moving chooses nothing
    page.get_by_role("button", name="Whole map").click()
    settle(page)
    assert view(page) == whole


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_single_pairs_have_their_colours(opened, address, theme):
    page = opened(address, theme=theme)
    page.mouse.move(*point(page, 200, 200))
    for _ in range(9):
        page.mouse.wheel(0, -300)
    settle(page)
    page.evaluate("maskdsl.map.leave()")
    settle(page)
    first = page.evaluate("maskdsl.map.view.at(100, 100)")
    pairs = [[first["query"] + down, first["key"] + across] for down in range(12) for across in range(12)]
    attended, masked, empty = page.evaluate("[maskdsl.colours.shade(1), maskdsl.colours.masked, maskdsl.colours.empty]")
    tiles = page.evaluate("(pairs) => pairs.map(([query, key]) => maskdsl.pairAt({ query, key }).tile)", pairs)
    for pair, tile, found in zip(pairs, tiles, colours(page, pairs), strict=True):
        expected = empty if tile == "empty" else attended if allowed(*pair) else masked
        assert near(found, expected), (pair, tile)
    assert {allowed(*pair) for pair, tile in zip(pairs, tiles, strict=True) if tile == "partial"} == {True, False}


REASONS = [
    (100, 3, "line 7 allows it: all -> text"),
    (400, 402, "line 8 allows it: image -> image where window((size, size))"),
    (400, 402 + 32 * 4, "none of lines 7, 8 allows it"),
    (720, 721, "line 9 forbids it: q.i >= k.i or q.i < 700"),
    (3, 600, "none of lines 7, 8 allows it"),
]


def test_hover_names_both_tokens_and_the_line(page):
    for query, key, reason in REASONS:
        page.mouse.move(*point(page, query, key))
        tip = page.locator("#tip").inner_text()
        assert tip.splitlines()[0] == (
            "\N{CHECK MARK} attends" if allowed(query, key) else "\N{BALLOT X} does not attend"
        )
        assert reason in tip
        table = page.locator(".tokens").inner_text().split("\n")
        rows = {name: values for name, *values in (row.split("\t") for row in table)}
        assert rows["position"] == [str(query), str(key)]
        if query >= 16 and key >= 16:
            assert rows["y"] == [str((each - 16) // 32) for each in (query, key)]
            assert rows["x"] == [str((each - 16) % 32) for each in (query, key)]
            assert rows["space"] == ["image", "image"]
        marked = page.locator("#source .allow, #source .forbid").all()
        lines = re.findall(r"\d+", reason.split(":")[0])
        assert [each.get_attribute("id") for each in marked] == [f"line-{line}" for line in lines]


def test_a_query_lights_its_keys(page):
    page.mouse.click(*point(page, 416, 300))
    assert page.locator("#chosen-title").inner_text() == "Keys of query image (12, 16)"
    assert page.locator("#chosen-text").inner_text() == f"{keys_of(416)} of 784 keys attended"
    assert page.locator(".grid canvas").count() == 1  # all of the text is attended, which needs no picture
    assert page.evaluate("maskdsl.map.lit.runs").__len__() == 12  # the text, and five rows of the window
    settle(page)
    assert near(colours(page, [[416, 416]])[0], page.evaluate("maskdsl.colours.full"))
    image = page.locator(".grid canvas")
    cell = image.bounding_box()["width"] / 32
    image.hover(position={"x": 14.5 * cell, "y": 11.5 * cell})
    assert "y\t12\t11\nx\t16\t14" in page.locator(".tokens").inner_text()
    image.click(position={"x": 2.5 * cell, "y": 3.5 * cell})
    assert page.locator("#chosen-title").inner_text() == "Keys of query image (3, 2)"
    page.get_by_role("button", name="Clear").click()
    assert not page.locator("#chosen").is_visible() and page.evaluate("maskdsl.map.lit") is None


def test_heads_orders_and_tiles_switch(page):
    names = {each: page.locator(f"#{each} option").all_inner_texts() for each in ("head", "order", "block")}
    assert names["head"] == ["heads 0-1", "heads 2-3"]
    assert names["order"] == ["as declared", "image by y // 8, x // 16", "image by hilbert(y, x)"]
    assert names["block"] == [f"{size} \N{MULTIPLICATION SIGN} {size}" for size in (128, 64, 32, 16, 8)]
    page.mouse.click(*point(page, 416, 416))
    exact = maskdsl.parse(GRID)["grid"].bind(heads=4, order="image by hilbert(y, x)").stats(block=(32, 32)).heads[2]
    for name, value in ("head", "1"), ("order", "2"), ("block", "2"):
        page.select_option(f"#{name}", value)
        settle(page)
    figures = page.locator("#figures").inner_text()
    assert f"full tiles\t{exact.full_tiles}\t" in figures and f"partial tiles\t{exact.partial_tiles}\t" in figures
    assert f"{exact.full_tiles} are full" in said(page)
    assert page.locator("#chosen-text").inner_text() == f"{keys_of(416, head=2)} of 784 keys attended"
    for query in (20, 300, 640):  # laid-out places are other tokens than declared ones
        page.mouse.move(*point(page, query, query + 3))
        shown = [int(each) for each in re.findall(r"position\t(\d+)\t(\d+)", page.locator(".tokens").inner_text())[0]]
        laid = page.evaluate(f"[maskdsl.scene.position('query', {query}), maskdsl.scene.position('key', {query + 3})]")
        assert shown == laid
        assert ("does not" in page.locator("#pair .verdict").inner_text()) is not allowed(*shown, head=2)
    assert page.evaluate("maskdsl.scene.orders.query[20]") != 20
    page.reload()
    settle(page)
    assert [page.locator(f"#{name}").input_value() for name in names] == ["1", "2", "2"]
    assert page.locator("#chosen-title").inner_text() == page.evaluate(
        "`Keys of query ${maskdsl.queries.short(maskdsl.query)}`"
    )


def test_keys_alone_do_everything(page):
    stops = []
    for _ in range(9):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.id"))
    wanted = ["help-button", "theme", "head", "order", "block", "out", "whole", "in", "map"]
    assert stops == wanted
    page.locator("#map").focus()
    page.keyboard.press("ArrowDown")
    assert re.match(r"query (text|image).* key .*: (attends|does not attend), (line|none)", said(page))
    before = page.evaluate("maskdsl.map.cursor")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("maskdsl.map.cursor.key") == before["key"] + page.evaluate("maskdsl.scene.block[1]")
    for _ in range(8):
        page.keyboard.press("+")
    settle(page)
    assert view(page) > 15
    cursor = page.evaluate("maskdsl.map.cursor")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("maskdsl.map.cursor.key") == cursor["key"] - 1
    page.keyboard.press("Enter")
    assert re.fullmatch(r"query .* attends \d+ keys", said(page))
    page.keyboard.press("Escape")
    assert not page.locator("#chosen").is_visible()
    page.keyboard.press("0")
    settle(page)
    assert page.evaluate("maskdsl.map.view.isWhole")
    page.locator("#help-button").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()


def test_light_and_dark(opened, address):
    page = opened(address, theme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.locator("#theme").get_attribute("aria-label") == "Switch to dark colours"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.reload()
    settle(page)
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.fixture(scope="module")
def long_address(tmp_path_factory):
    """A page about frames behind a text, from a file in a folder of a long name."""
    folder = tmp_path_factory.mktemp("frames")
    text = (
        "pattern frames() { space text[9] space video[t = 8, y = 6, x = 9] tokens text ++ video "
        "attend all -> text attend video -> video where neighborhood((3, 3, 3)) }"
    )
    pattern = maskdsl.parse(text, name=f"/{'a_long_folder/' * 9}frames.attn")["frames"]
    return written(folder, page_data(Subject(pattern.program, (pattern.bind(heads=4).ir,), {})))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_everything_can_be_seen_and_read(opened, long_address, width, theme):
    page = opened(long_address, width=width, theme=theme)
    if width > 1000:  # the whole map and what its colours mean, without scrolling
        assert page.locator("#legend").bounding_box()["y"] + page.locator("#legend").bounding_box()["height"] <= 900
    page.mouse.click(*point(page, 200, 100))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#map").bounding_box()["width"] > 300
    assert page.evaluate(PALE) == [] and page.evaluate(CUT) == []
    assert page.locator(".frame-name").all_inner_texts() == [f"t = {number}" for number in range(8)]
    assert page.locator("#file").inner_text() == "frames.attn" and "a_long_folder" not in page.content()
    assert page.locator("#figures thead").inner_text().strip().split("\t") == ["a head", "all 4 heads"]


def test_what_is_not_drawn_yet_looks_like_nothing_else(opened, address):
    page = opened(address)
    colours = """() => {
        const { picture, view } = maskdsl.map, { context, patches } = picture, kept = patches.get;
        patches.get = () => undefined;
        picture.draw(null, null, null);
        patches.get = kept;
        const side = 40 * view.ratio, { data } = context.getImageData(view.left(0) + 60, view.top(0) + 60, side, side);
        const seen = new Set();
        for (let at = 0; at < data.length; at += 4) seen.add([...data.slice(at, at + 3)].join());
        return [[...seen], maskdsl.colours.empty.join(), maskdsl.colours.undrawn.join(), picture.drawn];
    }"""
    seen, empty, undrawn, drawn = page.evaluate(colours)
    assert {empty, undrawn} <= {*seen} and drawn == 0  # stripes
    page.evaluate("maskdsl.map.act.progress(0.425)")
    assert page.locator("#progress").inner_text() == "42 % drawn"
    page.evaluate("maskdsl.map.act.progress(1)")
    assert not page.locator("#progress").is_visible()


def test_a_few_tokens_and_other_keys(opened, tmp_path):
    text = "pattern few() { space a[3] space b[90] queries a keys b attend k.b % 3 == q.a }"
    (pattern,) = maskdsl.parse(text).values()
    page = opened(written(tmp_path, page_data(Subject(pattern.program, (pattern.bind().ir,), {}))))
    page.mouse.move(*point(page, 1, 31))
    assert "✓ attends" in page.locator("#tip").inner_text()
    page.mouse.click(*point(page, 2, 31))
    assert page.locator("#chosen-title").inner_text() == "Keys of query 2"
    assert "30 of 90 keys" in page.locator("#grids").inner_text()


def test_an_old_browser_is_told(opened, browser, tmp_path):
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto(written(tmp_path))
    assert "too old" in page.get_by_role("alert").inner_text()
    context.close()


def test_a_hostile_pattern_runs_nothing(opened, tmp_path):
    bad = "</script><img src=x onerror=alert(1)><!--<script>&amp; $title"
    text = (
        f"## {bad}\npattern p(n = 20) {{\n    space tokens[n]\n    # {bad}\n"
        f'    assert n > 0, "{bad}"\n    attend causal  # {bad}\n    attend q == k  # {bad}\n}}\n'
    )
    (pattern,) = maskdsl.parse(text, name=f"{bad}.attn").values()
    data = page_data(Subject(pattern.program, (pattern.bind().ir,), {}, notes=(bad,)))
    page = opened(written(tmp_path, data))
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog))
    page.mouse.move(*point(page, 5, 5))
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2 and not dialogs
    assert page.locator("#notes").inner_text() == bad
    assert bad in page.locator("#source").inner_text()
    assert page.locator("#file").inner_text() == f"{bad}.attn".rpartition("/")[2]
    assert len(page.heard.requests) == 1


def test_only_the_heads_asked_for(opened, tmp_path):
    page = opened(written(tmp_path, grid_data(heads=[3])))
    assert page.locator("#head option").all_inner_texts() == ["head 3"]
    page.mouse.click(*point(page, 416, 300))
    assert page.locator("#chosen-text").inner_text() == f"{keys_of(416, head=3)} of 784 keys attended"


def test_layers_of_a_stack(opened, tmp_path):
    text = "pattern a() { space t[64] attend causal } pattern b() { space t[64] attend window(9) }"
    models = [
        page_data(Subject(pattern.program, (pattern.bind().ir,), {}, layers=f"layer {number}"))
        for number, pattern in enumerate(maskdsl.parse(text).values(), 1)
    ]
    path = tmp_path / "page.html"
    path.write_text(page_html(models, "stack"))
    page = opened(path.as_uri())
    assert page.locator("#layer option").all_inner_texts() == ["1: a", "2: b"]
    page.select_option("#layer", "1")
    page.locator("h1").get_by_text("b").wait_for()
    settle(page)
    assert "5 to 9 of 64 keys" in page.locator("#summary").inner_text()


ROUTED = """pattern routed(n = 40) {
    space t[n]
    coord chunk = i // 8
    route picked = topk(1 + 1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and picked
}
"""


def test_what_routes_score_is_written_out(opened, page, tmp_path):
    assert page.locator("#selection").is_hidden()
    pattern = maskdsl.parse(ROUTED)["routed"]
    (mask, q) = pattern.bind().ir, np.random.default_rng(0).normal(size=(1, 1, 40, 4))
    routed = opened(written(tmp_path, page_data(Subject(pattern.program, (mask,), with_routes(mask, {}, q, q)))))
    assert routed.locator("#selected dt").all_inner_texts() == [
        "route picked = topk(1 + 1, dot(q, mean(k by chunk))) where k.chunk < q.chunk",
        *["causal"] * 2,
    ]
    assert routed.locator("#selected dd").all_inner_texts() == [
        "product 0 = dot(q, mean(k by chunk))",
        "route picked = topk(2, product 0[q, k.chunk]) where k.chunk < q.chunk",
        "no later token changes what earlier queries select by picked",
        "no later token changes what earlier queries get of routed",
    ]


def test_warnings_are_noted(tmp_path):
    text = "pattern p(n = 20) {\n    space a[n] space b[n]\n    queries a\n    keys b\n    attend causal\n}\n"
    (pattern,) = maskdsl.parse(text).values()
    with pytest.warns(maskdsl.AttnWarning):
        mask = pattern.bind()
    (note,) = page_data(Subject(pattern.program, (mask.ir,), {}))["notes"]
    assert note.startswith(
        "Warning W001, line 5: positions of two sequences are compared: `q` in `a`, `k` in `b`. Give"
    )
