"""Every face says the same of a pattern: tiles of 128 x 128 of one head, and its density, counted here one by one."""

import inspect
import json
import re

import numpy as np

import maskdsl as package
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.cli.app import app
from maskdsl.cli.commands import pictures, show_and_stats
from maskdsl.view import head_figures
from maskdsl.view.head_figures import Counted

TEXT = """
pattern wide(n = 2000, size = 700) {
    space text[77]
    space video[n]
    tokens text ++ video
    attend window(size * (1 + head))
    attend all -> text
}
"""
HEADS = 2


def counted(dense):
    """The full and the partial tiles of a mask [queries, keys], and its density in percent."""
    cuts = np.arange(0, len(dense), 128)
    attended = np.add.reduceat(np.add.reduceat(dense.astype(int), cuts, axis=0), cuts, axis=1)
    sides = np.diff([*cuts, len(dense)])
    full = attended == np.outer(sides, sides)
    return int(full.sum()), int(((attended > 0) & ~full).sum()), f"{100 * dense.mean():.1f} %"


def said(text):
    """What a text says of each head; frames may stand side by side, and break lines."""
    counts = re.findall(r"([\d,]+) full, ([\d,]+) partial", text)
    return [(int(full), int(partial), each) for (full, partial), each in zip(counts, densities(text), strict=True)]


def densities(text):
    return re.findall(r"density ([\d.]+ %)", text)


def of_dicts(heads, full, partial):
    return [(each[full], each[partial], f"{100 * each['density']:.1f} %") for each in heads]


def test_six_faces_say_the_same(maskdsl, pattern_file, tmp_path):
    words = pattern_file(TEXT, "wide.attn"), "--heads", HEADS
    mask = package.load(words[0])["wide"].bind(heads=HEADS)
    truth = [counted(mask.dense(head=head)) for head in range(HEADS)]
    assert truth[0] != truth[1] and truth[0][0] > 1

    for columns in (45, 80, 160):
        out = maskdsl("show", *words, columns=columns).out
        assert said(out) == truth and "counts: tiles of 128 x 128, a head" in " ".join(out.split())
    found = json.loads(maskdsl("show", *words, "--json").out)["orders"][0]
    assert found["block"] == [128, 128] and of_dicts(found["heads"], "full", "partial") == truth
    for name, options in (("map.svg", []), ("other.svg", ["--order", "i % 5"]), ("one.svg", ["--head", 1])):
        maskdsl("show", *words, *options, "--out", tmp_path / name)
    picture = (tmp_path / "map.svg").read_text()
    assert said(picture) == truth and "counts: tiles of 128 x 128, a head" in picture
    assert said((tmp_path / "one.svg").read_text()) == truth[1:]
    assert densities((tmp_path / "other.svg").read_text()) == [each[2] for each in truth]
    captions = " ".join(re.findall("<figcaption[^>]*>([^<]*)", mask._repr_html_()))
    assert said(captions) == truth and captions.count("tiles of 128 x 128") == HEADS
    maskdsl("view", *words, "--out", tmp_path / "page.html")
    data = re.search(r'id="data">(.*?)</script>', (tmp_path / "page.html").read_text(), re.DOTALL)
    (model,) = json.loads(data[1])["models"]
    first = model["orders"][0]["blocks"][0]
    assert first["size"] == [128, 128] and of_dicts(first["figures"], "full_tiles", "partial_tiles") == truth
    assert [each["one"] for each in model["classes"]] == ["head 0", "head 1"] and model["total"] == "all 2 heads"
    rows = [re.split(r" {2,}", line.strip()) for line in maskdsl("stats", *words, columns=120).out.splitlines()]
    table = {name: values for name, *values in rows}
    assert ["head 0", "head 1", "all 2 heads"] in [each for each in rows if len(each) == 3]
    columns = zip(*(table[name] for name in ("full tiles", "partial tiles", "density")), strict=True)
    assert [(int(full), int(partial), share) for full, partial, share in columns][:HEADS] == truth


def test_heads_have_one_default(maskdsl, local):
    functions = [package.Pattern.bind, package.Pattern.compile, package.compile, package.Stack.bind]
    assert {inspect.signature(each).parameters["heads"].default for each in functions} == {1}
    options = [each for command in app.commands.values() for each in command.params if each.name == "heads"]
    assert {each.default for each in options} == {1} and len(options) > 8
    for command in ("show", "stats", "explain"):
        assert "1 head" in maskdsl(command, local).out and "4 heads" in maskdsl(command, local, "--heads", 4).out


def test_one_head_of_many_is_said(maskdsl, local, pattern_file):
    file = pattern_file("pattern apart(n = 16) { space t[n] attend causal and k >= q - head }")
    said = "`apart` differs from head to head, and this is one head; --heads says how many there are"
    for command in ("show", "stats", "explain"):
        assert said in " ".join(maskdsl(command, file).err.split())
        for same in ((command, file, "--heads", 4), (command, local)):
            assert "differs from head to head" not in maskdsl(*same).err


def test_what_takes_long_is_not_counted_for_a_picture(maskdsl, local, monkeypatch):
    assert "its tiles are counted by maskdsl stats" in " ".join(maskdsl("show", local, f"n={2**17 + 1}").out.split())
    mask = package.load(local)["local"].bind(n=1000).ir
    assert Counted.beside(mask, None, {}).heads[0].density == Counted.of(mask, (128, 128), {}).heads[0].density
    monkeypatch.setattr(head_figures, "_MOST_PAIRS", 1000)
    assert Counted.of(mask, (128, 128), {}).words(0) == ("0 full, 22 partial",)


def test_cells_are_found_once_for_each_order(maskdsl, pattern_file, monkeypatch, tmp_path):
    """Also where heads differ, so that there are more pictures than orders."""
    found = []
    for module in (show_and_stats, pictures):
        monkeypatch.setattr(module, "tiles", lambda mask, *args, **kw: found.append(mask) or tiles(mask, *args, **kw))
    words = pattern_file(TEXT), "--heads", HEADS, "--order", "declared", "--order", "by i % 2"
    for out in ((), ("--out", tmp_path / "map.svg")):
        found.clear()
        assert maskdsl("show", *words, *out).code == 0
        assert len(found) == 2
