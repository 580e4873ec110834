"""`maskdsl order`: the best order as text and JSON, and what is wrong with a call."""

import json

import numpy as np
import pytest

PLANE = """
pattern plane(h = 64, w = 64, kernel = 15) {
    space image[y = h, x = w]
    attend neighborhood((kernel, kernel))
}
"""
DOCUMENTS = """
pattern documents(n = 1024) {
    space tokens[n]
    input document: int[tokens]
    attend same(document)
}
"""


@pytest.fixture
def plane(pattern_file):
    return pattern_file(PLANE, "plane.attn")


def test_the_table_and_the_order(maskdsl, plane):
    ended = maskdsl("order", plane, "--block", "64", "--top", 3)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("plane(h=64, w=64, kernel=15)  4,096 tokens")
    assert [line.split()[0] for line in lines[4:7]] == ["by"] * 3
    assert any(line.startswith(" declared") for line in lines)
    assert lines[-2] == "order by y // 8, x // 8"
    assert lines[-1].endswith("x as fast as the declared order, with tiles of 64 x 64")
    assert "more were compared" in ended.err


def test_the_declared_order_may_be_the_best(maskdsl, local):
    ended = maskdsl("order", local)
    assert ended.code == 0
    assert "the declared order is the best, with tiles of " in ended.out
    assert all(size in ended.out for size in ("128x128", "128x64", "64x64"))


@pytest.mark.parametrize("words", [["stats", "--gpu", "H100"], ["order", "--block", "128"]])
def test_slower_than_dense_attention(maskdsl, pattern_file, words):
    text = "pattern p(n = 4096) {\n    space tokens[n]\n    attend (q * 7 - k * 5) % 64 == 0 or q == k\n}\n"
    command, *options = words
    ended = maskdsl(command, pattern_file(text), "--heads", 4, *options)
    assert "warning[W014]: `p` is predicted to be slower than dense attention: 0." in ended.err
    assert "as fast on H100" in ended.err
    quiet = pattern_file(f"# allow: W014, a test\n{text}", "quiet.attn")
    assert "W014" not in maskdsl(command, quiet, *options).err


def test_json_has_everything(maskdsl, plane):
    ended = maskdsl("order", plane, "kernel=9", "--block", "64", "--block", "64x32", "--gpu", "b200", "--json")
    found = json.loads(ended.out)
    assert (found["pattern"], found["parameters"]["kernel"], found["device"]) == ("plane", 9, "B200")
    assert {tuple(row["block"]) for row in found["rows"]} == {(64, 64), (64, 32)}
    assert found["rows"][0]["order"] == found["order"]
    assert sum(row["order"] == "declared" for row in found["rows"]) == 2


def test_inputs_from_files(maskdsl, pattern_file, tmp_path):
    np.save(tmp_path / "document.npy", np.arange(1024, dtype=np.int32) % 5)
    file = pattern_file(DOCUMENTS, "documents.attn")
    ended = maskdsl("order", file, "--input", f"document={tmp_path / 'document.npy'}")
    assert "\norder by document\n" in ended.out
    assert "made-up values for `document`" in maskdsl("order", file).err


@pytest.mark.parametrize(
    ("words", "code"), [(["--gpu", "h1000"], "E352"), (["--block", "0"], "E510"), (["size=3"], "E2")]
)
def test_mistakes(maskdsl, plane, words, code):
    ended = maskdsl("order", plane, *words)
    assert ended.code == 2
    assert code in ended.err
