"""`--json` on the commands that print numbers."""

import json

import pytest

CSWIN = "examples/vision/cswin.attn"
STACK = """
pattern near(n = 32) { space t[n] attend causal and backward(8) }
pattern all(n = 32) { space t[n] attend causal }
stack two(n = 32) = 3 * near(n) + all(n)
"""


def test_show(maskdsl):
    words = (
        "h=14",
        "w=14",
        "--order",
        "declared",
        "--order",
        "x",
        "--head",
        1,
        "--head",
        2,
        "--block",
        "14x28",
        "--heads",
        4,
        "--json",
    )
    ended = maskdsl("show", CSWIN, *words)
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["parameters"] == {"h": 14, "w": 14, "stripe": 7}
    declared, columns = found["orders"]
    assert (declared["order"], columns["order"]) == ("declared order", "order by x")
    assert columns["heads"][0] == {"head": 1, "tiles": 98, "full": 42, "partial": 14, "density": 0.5}
    assert declared["heads"][1] == {"head": 2, "tiles": 98, "full": 42, "partial": 14, "density": 0.5}


def test_show_of_routes(maskdsl):
    words = ("examples/routing/moba.attn", "n=64", "block=8", "--json")
    assert json.loads(maskdsl("show", *words).out)["guaranteed"]["routes"][0]["most"] == 2
    assert json.loads(maskdsl("show", *words, "--random", 1).out)["routes"][0]["key_groups"] == 8


def test_show_of_stacks(maskdsl, pattern_file):
    found = json.loads(maskdsl("show", pattern_file(STACK), "two", "--heads", 4, "--block", 8, "--json").out)
    assert [each["layers"] for each in found["different"]] == [[1, 2, 3], [4]]
    assert found["different"][1]["orders"][0]["heads"][3] == {
        "head": 3,
        "tiles": 16,
        "full": 6,
        "partial": 4,
        "density": 33 / 64,
    }


def test_check(maskdsl, pattern_file):
    good, bad = (
        pattern_file(STACK),
        pattern_file("pattern p(n = 8) {\n    space t[n]\n    attend windw(3)\n}", "bad.attn"),
    )
    ended = maskdsl("check", good, bad, "--json")
    assert (ended.code, ended.err) == (1, "")
    first, second = json.loads(ended.out)
    assert (first["ok"], first["patterns"], first["stacks"], first["errors"]) == (True, ["near", "all"], ["two"], [])
    (error,) = second["errors"]
    assert (error["code"], error["file"], error["line"], error["column"]) == ("E206", bad, 3, 12)
    assert "did you mean `window`" in error["text"]


def test_verify(maskdsl, local):
    ended = maskdsl("verify", local, "n=16", "--cases", 1, "--backend", "reference", "--json")
    found = json.loads(ended.out)
    assert ended.code == 0 and found["passed"] and found["cases"] == 1 and found["failures"] == []


@pytest.mark.parametrize("command", [["run"], ["bench", "--no-flex"]])
def test_times(maskdsl, local, command):
    words = ("n=32", "--heads", 1, "--head-dim", 8, "--seconds", 0, "--json")
    found = json.loads(maskdsl(*command, local, *words).out)
    assert (found["pattern"], found["head_dim"], found["dtype"]) == ("local", 8, "float32")
    assert all(0 < each["best"] <= each["typical"] and each["tokens_per_second"] > 0 for each in found["seconds"])
