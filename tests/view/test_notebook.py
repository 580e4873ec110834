"""How things show themselves in notebooks: the example notebook runs, and what it shows is right."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import maskdsl
from maskdsl.view.image.png import png
from maskdsl.view.palette import LIGHT

TEXT = """
## Near <tokens> & few.
pattern local(n = 300, size = 33) { space tokens[n] attend window(size) }
pattern heads_differ(n = 64) { space tokens[n] attend window(4 * head + 1) }
pattern packed(n = 256) { space tokens[n] input document: int[tokens] attend same(document) }
pattern chosen(n = 256) {
    space tokens[n]
    coord chunk = i // 32
    route past = topk(2, dot(q, mean(k by chunk)))
    attend past
}
pattern wrong(n = 4) { space tokens[n] attend blocks(n - 4) }
stack layers(n = 300) = local(n) + unbound(n) + local(n)
stack many(n = 300) = sum(local(n, size = 3 + j) for j in 0 .. 12)
pattern unbound(n) { space tokens[n] attend causal }
"""
MODULE = maskdsl.parse(TEXT)


class Balance(HTMLParser):
    """Fails where an element is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert not {name for name, _ in attributes} & {"onload", "onclick", "href"}
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shown(thing):
    """Its HTML, looked over."""
    bundle = thing._repr_mimebundle_()
    assert bundle["text/plain"] == repr(thing) and bundle["text/html"] == thing._repr_html_()
    Balance(bundle["text/html"])
    assert "http" not in bundle["text/html"] and "<script" not in bundle["text/html"]
    return bundle["text/html"]


def pictures(text):
    return [b64decode(each) for each in re.findall(r"data:image/png;base64,([^']+)", text)]


def test_the_example_runs():
    path = Path("examples/notebook.ipynb")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    found = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert len(found) == 6
    for data in found:
        assert pictures(data["text/html"]) and data["text/plain"].split("(")[0] in data["text/plain"]


def test_a_mask():
    mask = MODULE["local"].bind(heads=2)
    text, total = shown(mask), mask.stats().total
    assert "<b>local</b>(n=300, size=33)" in text and "Near &lt;tokens&gt; &amp; few." in text
    assert f"{100 * total.density:.1f} %" in text and f"{total.full_tiles} of {total.tiles}" in text
    assert len(pictures(text)) == 1


def test_the_picture_is_that_of_the_tiles(tmp_path):
    tiles = MODULE["local"].bind().tiles(block=(10, 10))
    (content,) = pictures(shown(tiles))
    (tmp_path / "map.png").write_bytes(content)
    pixels = np.asarray(Image.open(tmp_path / "map.png").convert("RGB"))
    classes = tiles.classes()
    assert pixels.shape[:2] == classes.shape
    for kind, colour in ((0, LIGHT.empty), (2, LIGHT.full)):
        assert np.array_equal((pixels == colour).all(axis=2), classes == kind)


def test_heads_that_differ():
    text = shown(MODULE["heads_differ"].bind(heads=6))
    assert len(pictures(text)) == 4 and "and 2 more" in text


def test_inputs_are_made_up_and_routes_have_all_candidates():
    assert "made-up values of document" in shown(MODULE["packed"].bind())
    assert "all pairs that routes may select" in shown(MODULE["chosen"].bind())


def test_a_pattern():
    text = shown(MODULE["local"])
    assert "n = 300, size = 33" in text and "attend window(size)" in text and len(pictures(text)) == 1
    assert "E2" in shown(MODULE["wrong"]) and not pictures(shown(MODULE["unbound"]))


def test_a_stack():
    text = shown(MODULE.stack("layers").bind(heads=2))
    assert "layers 1 and 3" in text or "layers 1, 3" in text
    assert "layer 2" in text and len(pictures(text)) == 2
    many = shown(MODULE.stack("many").bind())
    assert "and 4 more different layers" in many and len(pictures(many)) == 8


def test_an_attention():
    attention = MODULE["local"].bind().compile("tiled")
    text = shown(attention)
    assert "backend tiled" in text and "def " in text and len(pictures(text)) == 1


def test_results_are_short_texts_and_tables():
    mask = MODULE["local"].bind(heads=2)
    stats, best = mask.stats(), mask.best_order()
    layers = MODULE.stack("many").bind().stats()
    for result in (stats, stats.total, best, layers):
        assert len(repr(result)) < 250 and str(result).count("\n") == 0
        assert shown(result).count("<tr>") > 2
    assert "density" in shown(stats) and f"{stats.total.full_tiles} full" in repr(stats)
    different = shown(MODULE["heads_differ"].bind(heads=6).stats())
    assert "all heads" in different and different.count("<th") > 8
    assert repr(best.order) in repr(best) and best.rows[-1].order in shown(best)
    assert f"{len(layers.index)} layers" in repr(layers) and "all layers" in shown(layers)


def test_a_module():
    text = shown(MODULE)
    assert "<b>local</b>(n = 300, size = 33)" in text and "stack <b>layers</b>" in text and "Near &lt;tokens" in text
    assert "causal_dense" not in text


def test_what_was_imported():
    document = np.repeat([0, 1, 2], [20, 9, 11])
    found = maskdsl.from_dense(document[:, None] == document)
    assert repr(found) == "Imported('same(document)', 40 x 40, heads=1, inputs: document)"
    assert "input document: int[tokens]" in shown(found) and len(pictures(shown(found))) == 1
    assert "made-up" not in shown(found)
    with pytest.warns(maskdsl.AttnWarning):
        found = maskdsl.from_dense(np.random.default_rng(0).random((20, 20)) < 0.5)
    assert repr(found) == "Imported(None, 20 x 20, heads=1, inputs: pairs)" and found.cost in shown(found)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (128, 64)])
def test_files_of_pictures(shape, tmp_path):
    colours = [(0, 0, 0), (10, 200, 30), (255, 255, 255)]
    numbers = np.random.default_rng(0).integers(0, 3, shape)
    content = png(numbers, colours)
    assert content == png(numbers, colours)
    (tmp_path / "some.png").write_bytes(content)
    image = Image.open(tmp_path / "some.png")
    image.load()
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(colours)[numbers])


def test_cells_of_a_long_sequence_are_few():
    mask = MODULE["local"].bind(n=100_000)
    (content,) = pictures(shown(mask))
    width = int.from_bytes(content[16:20], "big")
    assert 64 <= width <= 128
