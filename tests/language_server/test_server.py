"""The language server as an editor meets it: a process that is asked over its pipes."""

from pathlib import Path

import pytest

import maskdsl
from tests.language_server.client import Client

OTHER = """## Where others begin.
pattern other(n = 256, size = 33) {
    space tokens[n]
    attend window(size)
}
"""
TEXT = """# é \U0001d11e
use "other.attn"

## Half of it.
def near(reach, axis: axis = i) = {
    let half = reach // 2
    abs(q.axis - k.axis) <= half
}

pattern mixed(h = 32, w = 24, kernel = (7, 5)) {
    space text[77]
    space image[y = h, x = w]
    tokens text ++ image
    let across = w // 8
    coord image.tile = y // 8 * across + x // 8
    attend text -> all
    attend image -> image where q.tile == k.tile and near(kernel[0], axis = y)
    order image by hilbert(y, x)
}

stack deep(n = 256) = 2 * other(n) + dense(n)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patterns")
    (folder / "other.attn").write_text(OTHER)
    client = Client(folder)
    yield client
    client.close()


@pytest.fixture(scope="module")
def text(client):
    text = client.open(TEXT)
    assert text.diagnostics() == []
    return text


def test_warnings(client):
    text = client.open(
        "# allow: W999\npattern crossed(n = 64) { space a[n] space b[n] queries a keys b attend causal }\n", "odd.attn"
    )
    found = [(each["code"], each["severity"], text.part(each["range"])) for each in text.diagnostics()]
    assert found == [("W002", 2, "W999"), ("W001", 2, "causal")]


def test_mistakes_as_they_are_typed(client):
    text = client.open(OTHER, "wrong.attn")
    assert text.diagnostics() == []
    text.change(OTHER.replace("window", "# \U0001d11e\n  windw"))
    (mistake,) = text.diagnostics()
    assert (mistake["code"], text.part(mistake["range"])) == ("E206", "windw")
    assert "did you mean `window`?" in mistake["message"]
    text.change("pattern p( {\n    attend q\n}\npattern r(n = 2) { space t[n] attend q = k }")
    assert [text.part(each["range"]) for each in text.diagnostics()] == ["{", "="]
    text.change(OTHER)
    assert text.diagnostics() == []


def test_keys_in_quick_succession_are_one_change(client):
    text = client.open("", "quick.attn")
    assert text.diagnostics() == []
    for end in range(len(OTHER)):
        text.change(OTHER[:end] + "?")
    text.change(OTHER)
    found = text.diagnostics()
    assert found == [] and client.diagnostics.empty()


def test_a_mistake_behind_a_macro_is_told_at_its_call(client):
    text = client.open("pattern p(n = 8) {\n    space t[n]\n    attend blocks(0)\n}\n", "zero.attn")
    (mistake,) = text.diagnostics()
    assert text.part(mistake["range"]) == "blocks(0)"


def test_a_mistake_in_a_used_file_is_told_at_its_use(client):
    Path(client.folder / "broken.attn").write_text("pattern p(n) { attend }")
    text = client.open('use "broken.attn"\n', "uses.attn")
    (mistake,) = text.diagnostics()
    assert text.part(mistake["range"]) == '"broken.attn"'
    assert mistake["relatedInformation"][0]["location"]["uri"].endswith("broken.attn")
    Path(client.folder / "broken.attn").write_text(OTHER)
    text.save()
    assert text.diagnostics() == []


@pytest.mark.parametrize(
    ("piece", "behind", "said"),
    [
        ("h = 32", 0, "At the defaults: 32."),
        ("kernel = (7", 0, "At the defaults: (7, 5)."),
        ("across = w", 0, "At the defaults: 3."),
        ("w // 8", 2, "`w // 8`: 3"),
        ("y // 8 * across", 3, "`y // 8`: an integer, 0 to 3"),
        ("q.tile", 2, "an integer, 0 to 11"),
        ("q.tile", 0, "The query."),
        ("kernel[0]", 0, "At the defaults: 7."),
        ("hilbert(", 2, "Hilbert curve"),
        ("attend text", 2, "Pairs of a query"),
        ("near(kernel", 1, "def near(reach, axis: axis = i)"),
        ("near(kernel", 1, "Half of it."),
        ("dense(n)", 1, "*from the standard library*"),
        ('"other.attn"', 3, "`other.attn`"),
    ],
)
def test_hover(text, piece, behind, said):
    assert said in text.hover(piece, behind)


def test_hover_over_a_pattern_counts_its_tiles(text, client):
    total = maskdsl.parse(OTHER)["other"].bind().stats().total
    said = text.hover("other(n)", 1)
    assert "Where others begin." in said and "*from other.attn*" in said
    assert f"| {total.full_tiles} full, {total.partial_tiles} partial, of {total.tiles} |" in said
    assert f"{100 * total.density:.1f} % of all pairs" in said
    assert "3 layers, 2 of them different" in text.hover("deep(n", 1)


@pytest.mark.parametrize(
    ("piece", "behind", "file", "there"),
    [
        ("near(kernel", 1, "some.attn", "near"),
        ("axis = y)", 1, "some.attn", "axis"),
        ("q.tile", 3, "some.attn", "tile"),
        ("across + x", 1, "some.attn", "across"),
        ("image by", 1, "some.attn", "image"),
        ("half\n}", 1, "some.attn", "half"),
        ("other(n)", 1, "other.attn", "other"),
        ("dense(n)", 1, "std.attn", "dense"),
        ('other.attn"', 1, "other.attn", ""),
    ],
)
def test_definition(text, piece, behind, file, there):
    found = text.ask("definition", piece, behind)
    assert found["uri"].endswith(f"/{file}")
    if file == "some.attn":
        assert text.part(found["range"]) == there
    start, end = found["range"]["start"], found["range"]["end"]
    assert end["character"] - start["character"] == len(there)


def test_completion(text):
    assert {"i", "text", "y", "x", "tile"} == set(text.complete("== k."))
    assert {"near", "window", "hilbert", "q", "kernel", "across", "where"} <= set(text.complete("and "))
    assert {"reach = ", "axis = "} <= set(text.complete("near(kernel[0], "))
    assert {"attend", "order", "coord"} <= set(text.complete("\n    order"))
    assert {"other", "dense", "deep"} <= set(text.complete("2 * "))
    assert set(text.complete("axis: a")) == {"int", "float", "bool", "axis", "axes", "tuple", "input", "sparse"}
    assert "other.attn" in text.complete('use "o') and text.complete("## Ha") == {}
    assert "at most" in text.complete("and ")["window"]["documentation"]["value"]


def test_completion_while_a_line_is_half_typed(client):
    begun = "pattern p(size = 8) {\n    space image[y = 4, x = 6]\n    attend q."
    text = client.open(begun, "half.attn")
    assert set(text.complete("q.")) == {"i", "y", "x"}
    text.change(begun.replace("q.", "neigh"))
    assert {"neighborhood", "size"} <= set(text.complete("neigh"))
    text.diagnostics()


def test_a_text_that_is_not_there_is_empty(client):
    where = {
        "textDocument": {"uri": (client.folder / "nowhere.attn").as_uri()},
        "position": {"line": 3, "character": 5},
    }
    assert client.ask("textDocument/hover", where) is None
    assert client.ask("textDocument/documentSymbol", where) == []


def test_symbols(text):
    found = text.ask("documentSymbol")
    assert [each["name"] for each in found] == ["near", "mixed", "deep"]
    assert [each["name"] for each in found[1]["children"]] == ["text", "image", "across", "tile"]


def test_formatting(client):
    text = client.open("pattern  p ( n=8 )\n{ space t[n] attend causal }", "ugly.attn")
    options = {"tabSize": 4, "insertSpaces": True}
    (edit,) = text.ask("formatting", options=options)
    assert edit["newText"] == "pattern p(n = 8) {\n    space t[n]\n    attend causal\n}\n"
    assert edit["range"]["end"] == {"line": 1, "character": 28}
    text.change("pattern p(")
    assert text.ask("formatting", options=options) is None
    text.change(OTHER)
    assert text.ask("formatting", options=options) == []


BRANCHES = """
pattern p(n = 16, w = 3) {
    space tokens[n]
    input gate: float[heads]
    let wide = w + 1
    branch near for o in 0 .. 2 {
        let size = 2 * wide + 1 + o
        route picked = topk(1, dot(q, k)) where k <= q
        attend window(size) and picked
        weight gate[head]
    }
    branch far { attend causal }
}
"""


def test_branches(client):
    text = client.open(BRANCHES, "branches.attn")
    assert "9" in text.hover("size)", 1) and "let size" in text.hover("size)", 1)
    assert "One attention of several" in text.hover("branch far", 1)
    for piece, behind, line in (("+ o", 2, 5), ("and picked", 5, 7), ("wide + 1", 1, 4)):
        assert text.ask("definition", piece, behind)["range"]["start"]["line"] == line
    assert {"size", "picked", "wide", "gate"} <= {*text.complete("window(")}
    assert "size" not in text.complete("far { attend ")
    (pattern,) = text.ask("documentSymbol")
    names = {each["name"]: [inner["name"] for inner in each["children"]] for each in pattern["children"]}
    assert names["near"] == ["size", "picked"] and names["far"] == []
