"""`show`, `stats` and `emit`."""

import json

import numpy as np
import pytest

from maskdsl.cli.request.completions import STAGES as NAMES
from maskdsl.cli.stages import STAGES

PACKED = "examples/language/packed.attn"
CSWIN = "examples/vision/cswin.attn"


def test_show(maskdsl, local):
    ended = maskdsl("show", local, "n=8", "size=3")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[:7] == [
        "local(n=8, size=3)  8 tokens, 1 head",
        "┌─ declared order ────────────────────┐",
        "│   0           3           6         │",
        "│ 0 ████████························  │",
        "│   ████████························  │",
        "│   ████████████····················  │",
        "│   ████████████····················  │",
    ]


def test_heads_that_differ(maskdsl):
    assert "heads 0-1, declared order" in maskdsl("show", CSWIN, "--heads", 4).out
    one = maskdsl("show", CSWIN, "--heads", 8, "--head", 5).out
    assert "head 5, declared order" in one and "head 1" not in one


def test_orders_are_compared(maskdsl):
    out = maskdsl(
        "show", CSWIN, "--order", "x", "--order", "by y", "--order", "declared", "--heads", 4, "--head", 3
    ).out
    assert [out.count(text) for text in ("order by x", "order by y", "declared order")] == [1, 1, 1]


def test_the_order_of_the_pattern_is_named(maskdsl):
    out = maskdsl("show", "examples/vision/clear.attn", "clear", "text=16", "h=16", "w=16").out
    assert "order image by y // 8, x // 8" in out and "words" in out


def test_rows_and_columns_down_to_tokens(maskdsl, local):
    ended = maskdsl("show", local, "n=1048576", "--rows", "1000:1008", "--columns", "1000:1010", "--heads", 1)
    lines = ended.out.splitlines()
    assert lines[2].split()[1:4] == ["1000", "1003", "1006"]
    assert [line[7:-2] for line in lines[3:9:2]] == [
        "████████████████████····················",
        "████████████████████████················",
        "████████████████████████████············",
    ]
    assert "each cell one pair of a query and a key; its tiles are counted by maskdsl stats" in " ".join(
        ended.out.split()
    )


def test_one_row_and_open_ranges(maskdsl, local):
    """The counts stay those of the whole map."""
    for words in (["--rows", "63", "--columns", "63:"], ["--rows", ":4", "--columns", ":4"], []):
        out = " ".join(maskdsl("show", local, *words).out.split())
        assert "0 full, 1 partial, density 13.6 %" in out
        assert f"counts{' of the whole map' if words else ''}: tiles of 128 x 128, a head" in out


@pytest.mark.parametrize(
    "text, code", [("x", "E515"), (":", "E515"), ("5:5", "E516"), ("64", "E516"), ("60:65", "E516"), ("9:3", "E516")]
)
def test_ranges_that_are_none(maskdsl, local, text, code):
    ended = maskdsl("show", local, "--rows", text)
    assert ended.code == 2 and code in ended.err


def test_where_two_patterns_differ(maskdsl, local, pattern_file):
    other = pattern_file(
        "pattern other(n = 8, reach = 2) { space tokens[n]  attend abs(q - k) <= reach }", "other.attn"
    )
    ended = maskdsl("show", local, "n=8", "size=3", "--diff", other, "--heads", 1, columns=100)
    lines = ended.out.splitlines()
    assert lines[:2] == [
        "first   local(n=8, size=3)  8 tokens, 1 head",
        "second  other(n=8, reach=2)  8 tokens, 1 head",
    ]
    assert lines[4] == "│ 0 ========>>>>.................... │"
    assert lines[-1] == "0 pairs only in the first, 12 only in the second, 22 in both"
    same = maskdsl("show", local, "size=5", "--diff", f"{other} reach=2 n=64", "--heads", 1)
    assert same.out.splitlines()[-1] == "the same pairs, 314 of them"
    (found,) = json.loads(maskdsl("show", local, "n=9", "--diff", f"{other} other reach=6", "--json").out)
    assert found == {"heads": [0], "first_pairs": 0, "second_pairs": 14, "common_pairs": 61}


def test_patterns_of_other_lengths_cannot_be_compared(maskdsl, local):
    ended = maskdsl("show", local, "--diff", f"{local} n=65")
    assert ended.code == 2 and "E517" in ended.err and "64 queries and 64 keys, not 65" in ended.err


def test_a_given_block(maskdsl, local):
    out = maskdsl("show", local, "n=1024", "--block", "32x16").out
    assert "tiles of 32 x 16 tokens; counts: tiles of 32 x 16, a head" in " ".join(out.split())


def test_inputs_are_made_up_with_a_note(maskdsl, tmp_path):
    ended = maskdsl("show", PACKED, "packed", "n=32")
    assert ended.err == "note: made-up values for `document` (seed 0); --input gives real ones\n"
    np.save(tmp_path / "ids.npy", np.arange(32) // 8)
    given = maskdsl("show", PACKED, "packed", "n=32", "--input", f"document={tmp_path / 'ids.npy'}")
    assert given.err == "" and "density 14.1 %" in given.out


def test_stats(maskdsl, local):
    out = maskdsl("stats", local, "n=256", "size=33", "--block", "32", "--heads", 4).out
    rows = {line[:24].strip(): line[24:].strip() for line in out.splitlines()}
    assert rows["tiles"].split() == ["64", f"{4 * 64}"]
    assert rows["partial tiles"].split() == ["22", f"{4 * 22}"]
    assert rows["most keys of a query"].split() == ["33", "33"]
    assert "tiles of 32 x 32 tokens, head dimension 64" in out


def test_predictions(maskdsl, local):
    out = maskdsl("stats", local, "n=4096", "--gpu", "h100", "--gpu", "A100").out
    assert "predicted from datasheets, not measured, declared order" in out
    rows = {line[:22].strip(): line[22:].split() for line in out.split("predicted from")[1].splitlines()}
    assert rows["limited by"] and len(rows["waves of programs"]) == 2
    every = json.loads(maskdsl("stats", local, "n=4096", "--gpu", "all", "--json").out)["orders"][0]["gpus"]
    assert [each["gpu"] for each in every] == ["A100", "H100", "H200", "B200", "MI300X"]
    assert all(0 < each["forward_seconds"] < each["backward_seconds"] for each in every)
    plain = maskdsl("stats", local, "--json").out
    assert json.loads(plain)["orders"][0]["gpus"] == [] and "predicted" not in maskdsl("stats", local).out
    unknown = maskdsl("stats", local, "--gpu", "h10")
    assert unknown.code == 2 and "E352" in unknown.err and "did you mean `H100`" in unknown.err


def test_stats_by_head_and_order(maskdsl):
    out = maskdsl("stats", CSWIN, "h=14", "w=14", "--heads", 4).out
    assert "each of heads 0-1" in out and "each of heads 2-3" in out and "all 4 heads" in out
    compared = maskdsl(
        "stats", "examples/language/causal.attn", "n=64", "--order", "declared", "--order", "shuffle(i, 3)", columns=120
    ).out
    assert compared.count("a head, ") == 2 and "order by shuffle(i, 3)" in compared


def test_very_many_heads_that_differ(maskdsl, pattern_file):
    path = pattern_file("pattern p(n = 16) { space t[n] attend k <= q - head }")
    for columns, shown in (80, 4), (200, 6):
        ended = maskdsl("stats", path, "--heads", 8, "--block", 4, columns=columns)
        assert "\N{HORIZONTAL ELLIPSIS}" not in ended.out
        assert ended.err.startswith(f"note: {9 - shown} more columns are left out")


def test_stats_as_json(maskdsl, local):
    ended = maskdsl("stats", local, "n=256", "--json", "--heads", 2, "--block", "64x32")
    found = json.loads(ended.out)
    assert found["parameters"] == {"n": 256, "size": 9} and found["heads"] == 2
    (order,) = found["orders"]
    assert order["order"] == "declared order" and order["block"] == [64, 32]
    assert order["total"]["attended"] == 2 * (256 * 9 - 20)


def test_every_stage_can_be_named():
    assert tuple(stage.name for stage in STAGES) == NAMES


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_stage_is_printed(maskdsl, local, stage):
    ended = maskdsl("emit", local, "--stage", stage.name)
    assert (ended.code, ended.err) == (0, "")
    if stage.is_python:
        compile(ended.out, stage.name, "exec")


def test_stages_say_what_they_made(maskdsl, local):
    assert "SpaceStatement" in maskdsl("emit", local, "--stage", "tree").out
    assert "relation abs(q - k) <= 4" in maskdsl("emit", local, "--stage", "ir").out
    assert maskdsl("emit", local, "n=300", "--stage", "tiles").out.splitlines() == [
        "3 x 3 tiles of 128 x 128",
        "row 0: full none, partial 0-1",
        "row 1: full none, partial 0-2",
        "row 2: full none, partial 1-2",
    ]
    assert "evaluated for a pair: abs(q - k) <= 4" in maskdsl("emit", local, "--stage", "plan").out


def test_tiles_of_heads_are_told_apart(maskdsl):
    out = maskdsl("emit", CSWIN, "h=4", "w=4", "stripe=2", "--stage", "tiles", "--heads", 2).out
    assert "batch 0, head 0:" in out and "batch 0, head 1:" in out


def test_a_pattern_that_attends_nothing(maskdsl, pattern_file):
    path = pattern_file("pattern p(n = 8) { space t[n] attend q.i < k.i and k.i < q.i }")
    (order,) = json.loads(maskdsl("stats", path, "--json").out)["orders"]
    assert order["total"]["attended"] == 0 and order["total"]["ideal_speedup"] is None
    assert "no bound" in maskdsl("stats", path).out
    assert "0 full, 0 partial" in maskdsl("show", path).out


def test_the_first_batch_entry_is_shown(maskdsl, pattern_file, tmp_path):
    path = pattern_file("pattern p(n = 8) { space t[n] input d: int[batch, t] attend same(d) }")
    np.save(tmp_path / "d.npy", np.stack([np.zeros(8, int), np.arange(8)]))
    ended = maskdsl("show", path, "--input", f"d={tmp_path / 'd.npy'}")
    assert "1 full, 0 partial, density 100 %" in ended.out and ended.err == "note: the first of 2 batch entries\n"
