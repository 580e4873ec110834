"""Stacks on the command line."""

import json

import numpy as np
import pytest

TEXT = """
pattern local(n = 64, size = 9) {
    space tokens[n]
    attend window(size)
}

pattern packed(n = 64) {
    space tokens[n]
    input document: int[tokens]
    attend causal and same(document)
}

stack deep(n = 64) = 2 * local(n, 5) + packed(n) + packed(n)
"""


@pytest.fixture
def deep(pattern_file):
    return pattern_file(TEXT, "deep.attn")


def test_check(maskdsl, deep, pattern_file):
    assert maskdsl("check", deep).out == f"{deep}: ok, 2 patterns, 1 stack\n"
    broken = pattern_file(TEXT.replace("local(n, 5)", "lokal(n, 5)"))
    ended = maskdsl("check", broken)
    assert ended.code == 1 and "did you mean `local`?" in ended.err


def test_stats(maskdsl, deep, tmp_path):
    ended = maskdsl("stats", deep, "deep", "n=32", "--heads", 1)
    assert ended.out.startswith("deep(n=32)  4 layers of 32 tokens, 1 head\n")
    assert ended.err == "note: made-up values for `document` (seed 0); --input gives real ones\n"
    rows = [line.split()[:2] for line in ended.out.splitlines() if line.strip()]
    assert ["local", "2"] in rows and ["packed", "2"] in rows and ["all", "layers"] in rows
    np.save(tmp_path / "d.npy", np.zeros(32, int))
    words = ("stats", deep, "deep", "n=32", "--heads", 1, "--input", f"document={tmp_path / 'd.npy'}", "--json")
    found = json.loads(maskdsl(*words).out)
    assert found["total"]["attended"] == 2 * (32 * 5 - 6) + 2 * 32 * 33 // 2
    assert found["index"] == [0, 0, 1, 1] and found["layers"][0] == {
        "pattern": "local",
        "parameters": {"n": 32, "size": 5},
    }


def test_show(maskdsl, deep):
    ended = maskdsl("show", deep, "deep", "n=8", "--order", "tokens // 2", "--order", "declared")
    assert ended.out.startswith("deep(n=8)  4 layers of 8 tokens, 1 head\n\nlayers 1-2:\nlocal(n=8, size=5)")
    assert "layers 3-4:\npacked(n=8)" in ended.out and ended.out.count("order by") == 2


def test_predictions(maskdsl, deep):
    out = maskdsl("stats", deep, "deep", "n=512", "--gpu", "all").out
    assert "predicted from datasheets, not measured" in out and "MI300X" in out and out.count("all layers") == 2
    (gpu,) = json.loads(maskdsl("stats", deep, "deep", "n=512", "--gpu", "h200", "--json").out)["gpus"]
    assert gpu["gpu"] == "H200" and gpu["index"] == [0, 0, 1, 1]
    assert "predicted" not in maskdsl("stats", deep, "deep", "n=512").out


@pytest.mark.parametrize("command", ["emit", "verify", "run", "bench"])
def test_commands_for_one_pattern(maskdsl, deep, command):
    ended = maskdsl(command, deep, "deep", "n=32")
    assert ended.code == 2 and "error[E520]: `deep` is a stack" in ended.err
    assert "give one of its layers: `local n=32 size=5`, `packed n=32`" in ended.err


def test_options_for_patterns(maskdsl, deep):
    assert "error[E521]: `--order` works for patterns" in maskdsl("stats", deep, "deep", "--order", "i").err


def test_what_is_meant_without_a_name(maskdsl, deep, pattern_file):
    ended = maskdsl("show", deep)
    assert "has several patterns and stacks" in ended.err and "`local`, `packed`, `deep`" in ended.err
    alone = pattern_file('use "deep.attn"\nstack twice(n = 16) = 2 * local(n)\n')
    assert "twice(n=16)  2 layers" in maskdsl("show", alone).out
    text = "pattern a(n = 16) { space t[n] attend causal }\npattern named(n = 8) { space t[n] attend all -> all }\n"
    assert maskdsl("show", pattern_file(text, "named.attn")).out.startswith("named(n=8)")
    both = pattern_file("pattern a(n = 16) { space t[n] attend causal }\nstack b(n = 16) = 2 * a(n)\n", "both.attn")
    assert maskdsl("show", both).out.startswith("a(n=16)  16 tokens")


def test_fmt(maskdsl, pattern_file):
    path = pattern_file("stack a(n=16)=2*b(n)+(c(n,  1)if n else d( ))")
    assert (
        maskdsl("fmt", "--diff", path).out.splitlines()[-1] == "+stack a(n = 16) = 2 * b(n) + (c(n, 1) if n else d())"
    )
