"""Pages of small patterns for tests."""

from functools import cache

import numpy as np

import maskdsl
from maskdsl.view.page.html import page_html
from maskdsl.view.page.page_data import Subject, page_data

GRID = """
## Windows on an image, and a `text` that all see.
pattern grid(h = 24, w = 32, size = 5) {
    space text[16]
    space image[y = h, x = w]
    tokens text ++ image
    attend all -> text
    attend (image -> image where window((size, size))) if head < 2 else image -> image where q.y == k.y
    require q.i >= k.i or q.i < 700
}
"""


def grid_data(**options):
    pattern = maskdsl.parse(GRID, name="grid.attn")["grid"]
    mask = pattern.bind(heads=4).ir
    return page_data(Subject(pattern.program, (mask,), {}, **options))


def written(folder, data=None):
    """The address of the page."""
    path = folder / "page.html"
    path.write_text(page_html([data or grid_data()], "grid"))
    return path.as_uri()


@cache
def dense(head):
    return maskdsl.parse(GRID)["grid"].bind(heads=4).dense(head=head)


def allowed(query, key, head=0):
    """Whether a pair of the grid attends."""
    return bool(dense(head)[query, key])


def keys_of(query, head=0):
    return int(np.count_nonzero(dense(head)[query]))


def point(page, query, key):
    """The place on the screen of the middle of a pair of laid-out places."""
    box = page.locator("#map").bounding_box()
    x, y = page.evaluate(f"[maskdsl.map.view.left({key} + 0.5), maskdsl.map.view.top({query} + 0.5)]")
    return box["x"] + x, box["y"] + y


def colours(page, pairs):
    """Red, green and blue of the canvas at laid-out pairs, read at once."""
    return page.evaluate(
        """(pairs) => {
            const { view, canvas: { width, height }, picture: { context } } = maskdsl.map;
            const { data } = context.getImageData(0, 0, width, height);
            const at = (place) => Math.floor(place * view.ratio);
            return pairs.map(([query, key]) => {
                const pixel = 4 * (at(view.top(query + 0.4)) * width + at(view.left(key + 0.4)));
                return [...data.slice(pixel, pixel + 3)];
            });
        }""",
        pairs,
    )


def near(colour, other):
    return all(abs(a - b) < 30 for a, b in zip(colour, other, strict=True))


def said(page):
    return page.locator("#live").inner_text()
