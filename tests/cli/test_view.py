"""`maskdsl view`: what it writes, what it says, and what it refuses. Without a browser."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from maskdsl.view.page.page_data import LARGEST_PAGE

GEMMA = "examples/language/gemma.attn"
MOBA = "examples/routing/moba.attn"
PACKED = "examples/language/packed.attn"


def content(path):
    text = path.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def view(maskdsl, tmp_path):
    """Calls it, and gives what the page knows and what was said."""

    def call(*words):
        out = tmp_path / "page.html"
        ended = maskdsl("view", *words, "--out", out)
        assert ended.code == 0, ended.err
        assert ended.out.startswith("wrote ")
        return content(out)["models"][0], ended

    return call


def test_it_is_written_beside_nothing(maskdsl, pattern_file, tmp_path, monkeypatch):
    file = pattern_file("pattern p(n = 8) { space tokens[n] attend causal }")
    monkeypatch.chdir(tmp_path)
    ended = maskdsl("view", file)
    assert re.fullmatch(r"wrote p\.html, \d+(\.\d)? KiB\n", ended.out)
    first = (tmp_path / "p.html").read_bytes()
    maskdsl("view", file)
    assert (tmp_path / "p.html").read_bytes() == first  # the same bytes every time


@pytest.mark.parametrize("starts", [True, False])
def test_it_is_opened(maskdsl, tmp_path, monkeypatch, starts):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or starts)
    ended = maskdsl("view", PACKED, "packed", "n=64", "--out", tmp_path / "page.html", "--open", columns=400)
    assert ended.code == 0 and opened == [(tmp_path / "page.html").as_uri()]
    assert ("no browser could be started" in ended.err) is not starts


def test_nothing_comes_from_elsewhere(view, tmp_path):
    view(PACKED, "packed", "n=64")
    text = (tmp_path / "page.html").read_text()
    assert "default-src 'none'; script-src 'sha256-" in text and "connect-src 'none'" in text
    assert not re.search(r"""(src|href)=["'](?!data:,)""", text) and "@import" not in text and "url(" not in text


def test_orders_blocks_and_heads(view):
    model, _ = view(
        "examples/vision/cswin.attn", "h=16", "w=16", "--order", "hilbert(y, x)", "--block", "32", "--block", "16x8",
        "--heads", "4", "--head", "2",
    )  # fmt: skip
    assert [order["name"] for order in model["orders"]] == ["by hilbert(y, x)"]
    assert [block["size"] for block in model["orders"][0]["blocks"]] == [[32, 32], [16, 8]]
    assert model["classes"] == [{"head": 2, "name": "head 2", "one": "head 2"}]


def test_inputs_are_said(view, tmp_path):
    model, _ = view(PACKED, "packed", "n=64")
    assert model["notes"] == ["Values of document are made up (seed 0); --input gives real ones."]
    np.save(tmp_path / "document.npy", np.arange(64) // 16)
    model, _ = view(PACKED, "packed", "n=64", "--input", f"document={tmp_path / 'document.npy'}", "--block", "16")
    figures = model["orders"][0]["blocks"][0]["figures"][0]
    assert model["notes"] == [] and (figures["partial_tiles"], figures["full_tiles"]) == (4, 0)


def test_the_layers_of_a_stack(maskdsl, tmp_path):
    ended = maskdsl("view", GEMMA, "gemma3", "n=256", "--heads", "2", "--out", tmp_path / "page.html")
    assert ended.code == 0, ended.err
    models = content(tmp_path / "page.html")["models"]
    assert [(each["layers"], each["name"]) for each in models] == [
        ("layers 1-5", "local_layer"),
        ("layer 6", "global_layer"),
    ]


def test_batches_are_said(view, pattern_file):
    file = pattern_file("pattern p(n = 8) { space tokens[n] input part: int[batch, tokens] attend same(part) }")
    np.save(values := Path(file).with_name("part.npy"), np.array([[0, 0, 0, 0, 1, 1, 1, 1], [0] * 8]))
    model, _ = view(file, "--input", f"part={values}", "--block", "4")
    assert model["notes"] == ["The map is that of the first of 2 batch entries."]
    assert model["orders"][0]["blocks"][0]["figures"][0]["full_tiles"] == 2 and model["classes"][0]["one"] == "a head"
    assert model["orders"][0]["blocks"][0]["total"]["full_tiles"] == 2 + 4
    assert model["total"] == "a head, all 2 batch entries"


def test_routes(view):
    model, _ = view(MOBA, "n=64", "block=8")
    assert "all pairs that may be selected" in model["notes"][0] and model["tables"] == {}
    model, _ = view(MOBA, "n=64", "block=8", "--heads", "4", "--random", "1")
    assert "random queries and keys (seed 1)" in model["notes"][0] and list(model["tables"]) == ["past"]
    assert len(model["classes"]) == 4


CAUSAL = "examples/language/causal.attn"
LARGE = "error[E540]: the map of `causal_dense` is too large for a page: "


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            [GEMMA, "gemma3", "--tensors", "x.safetensors"],
            "error[E521]: `--tensors` works for patterns, and `gemma3` is a stack",
        ),
        (["nowhere.attn"], "error[E120]"),
        ([CAUSAL, "n=2**23"], f"{LARGE}8,388,608 tokens"),
        ([CAUSAL, "n=2**20", "--block", "1"], f"{LARGE}1,048,576 tiles a side"),
        ([CAUSAL, "--out", "/nowhere/page.html"], "error[E512]: `/nowhere/page.html` cannot be written"),
        ([CAUSAL, "--watch", "--port", "99999"], "error[E542]: cannot serve on port 99999"),
    ],
)
def test_errors(maskdsl, words, expected):
    ended = maskdsl("view", *words, columns=200)
    assert ended.code == 2 and expected in ended.err, ended.err


def test_a_page_that_would_be_too_large(maskdsl, pattern_file, monkeypatch):
    monkeypatch.setattr("maskdsl.view.page.page_data.LARGEST_PAGE", 100)
    file = pattern_file("pattern p(n = 512) { space tokens[n] attend causal }")
    ended = maskdsl("view", file)
    assert ended.code == 2 and "error[E541]: the page would have 1 MB, and at most 0 MB are allowed" in ended.err
    assert LARGEST_PAGE == 64 * 2**20
