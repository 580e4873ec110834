"""`maskdsl field`."""

import json
import sys

import pytest

GEMMA = "examples/language/gemma.attn"


def test_a_stack(maskdsl):
    out = maskdsl("field", GEMMA, "gemma3", "n=400", "--from", 399).out
    assert out.startswith("gemma3(n=400)  6 layers of 400 tokens, 1 head\nfrom token 399, exact\n")
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "local_layer", "400", "100", "%"] in [row[:5] for row in rows]
    assert "- strongly connected: 400 components, the largest of 1 token" in out


def test_a_pattern(maskdsl, local):
    ended = maskdsl("field", local, "n=40")
    assert ended.err == "" and ended.out.startswith("local(n=40, size=9)  40 tokens, 1 head\nfrom token 20, exact")
    assert "- everything reaches everything after 10 layers" in ended.out
    path = "from reader to source: 0 <- 1 <- 5 <- 9 <- ... <- 25 <- 29 <- 33 <- 37"
    assert path in " ".join(ended.out.split())
    short = maskdsl("field", local, "n=40", "--layers", 2).out
    assert "not followed beyond 2 layers; --layers follows more" in short


def test_the_place_of_a_token(maskdsl):
    assert (
        "from token 30 (y 4, x 2), exact"
        in maskdsl("field", "examples/vision/dinat.attn", "dinat", "h=8", "w=7", "--from", 30).out
    )
    out = maskdsl("field", "examples/vision/clear.attn", "clear", "text=5", "h=8", "w=8").out
    assert "(image, y 4, x 4)" in out


def test_many_layers_are_thinned(maskdsl, local):
    lines = maskdsl("field", local, "n=500", "size=3", "--layers", 250).out.splitlines()
    numbers = [int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdigit()]
    assert numbers[:5] == [0, 1, 2, 3, 4] and numbers[-1] == 250 and len(numbers) < 20


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_it_fits(maskdsl, columns):
    ended = maskdsl("field", GEMMA, "gemma3", columns=columns)
    assert max(map(len, ended.out.splitlines())) <= columns and (
        columns == 60 or "\N{HORIZONTAL ELLIPSIS}" not in ended.out
    )


def test_large_sequences_are_bounded(maskdsl):
    out = maskdsl("field", "examples/video/freeswim.attn", "t=8", "h=64", "w=128", "window=(25, 25)", "--layers", 1).out
    assert "bounded by tiles of 128 tokens: full tiles, and non-empty ones" in " ".join(out.split()) and " to " in out
    assert "all tokens, by bounds from tiles of 128 tokens:" in out and "at least" in out


def test_json(maskdsl):
    found = json.loads(maskdsl("field", GEMMA, "gemma3", "n=64", "--layers", 2, "--json").out)
    assert found["layers"] == ["local_layer"] * 5 + ["global_layer"] and found["exact"]
    assert found["growth"][1]["draws_from"] == {
        "tokens": 33,
        "at_most": 33,
        "first": 0,
        "last": 32,
        "unbroken": [32, 0],
    }
    assert found["connections"]["one_way"] == 64 * 63 // 2 and found["connections"]["components"]["strong"] == 64


def test_inputs(maskdsl):
    ended = maskdsl("field", "examples/language/packed.attn", "packed", "n=64")
    assert ended.err == "note: made-up values for `document` (seed 0); --input gives real ones\n"


def test_a_picture(maskdsl, local, tmp_path):
    pytest.importorskip("matplotlib")
    for file, *words in (local,), ("examples/vision/dinat.attn", "dinat_pair", "h=9", "w=7"):
        ended = maskdsl("field", file, *words, "--out", tmp_path / "a.png")
        assert ended.code == 0 and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert f"help: the folder `{tmp_path}/no` does" in maskdsl("field", local, "--out", tmp_path / "no" / "a.png").err
    said = maskdsl("field", local, "--out", tmp_path / "a.unknown").err
    assert "error[E512]" in said and "help" not in said


def test_a_picture_needs_matplotlib(maskdsl, local, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ended = maskdsl("field", local, "--out", tmp_path / "a.png")
    assert ended.code == 2 and "error[E522]" in ended.err


@pytest.mark.parametrize(("words", "code"), [(["--from", 999], "E361"), (["--layers", 5000], "E362")])
def test_mistakes(maskdsl, local, words, code):
    ended = maskdsl("field", local, *words)
    assert ended.code == 2 and f"error[{code}]" in ended.err
