"""What is said about a wrong command line, and with which exit code."""

import numpy as np
import pytest

from maskdsl import __version__

READS = """
pattern p(n = 8) { space tokens[n]  input g: int[tokens]  input t: float[4]  attend causal and t[k.g] < 2.0 or q == k }
stack s() = 2 * p()
"""
PACKED = "examples/language/packed.attn"
GCVIT = "examples/vision/gcvit.attn"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", GCVIT], "` has several patterns\n  help: name one of them after the file: `local`, `global_query`"),
        (["show", PACKED, "packd"], "did you mean `packed`?"),
        (["show", PACKED, "packed", "n"], "error[E503]: `n` is not a parameter; the pattern is `packed`"),
        (["show", PACKED, "packed", "n=4", "n=5"], "error[E504]: `n` is given twice"),
        (["show", PACKED, "packed", "n=causal()"], "`causal()` is not the value of a parameter\n --> <command"),
        (["show", PACKED, "packed", "n=2 +"], "error[E102]"),
        (["show", PACKED, "packed", "n=1//0"], "error[E505]: `1//0`"),
        (["show", PACKED, "packed", "n=2**(10**9)"], "error[E505]"),
        (["show", PACKED, "packed", "m=4"], "help: its parameters are `n`"),
        (["show", PACKED, "packed", "n=1e6"], "write it without a point or exponent: n=1000000"),
        (["show", PACKED, "packed", "n=4096.0"], "write it without a point or exponent: n=4096"),
        (["show", PACKED, "packed", "n=abc"], "^ an integer of 64 bits is expected\n"),
        (["show", PACKED, "packed", "--n", "4096"], "no dashes: n=..."),
        (["show", "-.attn"], "No such option: -.  "),
        (["show", PACKED, "4096"], "give parameters as name=value, without spaces, such as n=4096"),
        (["show", PACKED, "packed", "n", "=", "512"], "such as n=512"),
        (["explain", "examples/vision/dinat.attn", "--pair", "1,2,3", "0"], "a cell (y, x) of `image`, up to 55,55"),
        (["show", PACKED, "packed", "--input", "document"], "error[E506]: `document` does not name an input"),
        (
            ["show", PACKED, "packed", "--input", "document=none.npy"],
            "error[E507]: the values of `document` cannot be read from `none.npy`: No such file",
        ),
        (["show", PACKED, "packed", "--input", f"document={PACKED}"], "it is not an array written by numpy.save"),
        (["emit", PACKED, "packed", "--stage", "tild"], "there is no stage `tild`\n  help: did you mean `tiled`?"),
        (["show", PACKED, "packed", "--head", "7"], "error[E509]: there is no head 7"),
        (["show", PACKED, "packed", "--block", "big"], "error[E510]: `big` is not the size of a tile"),
        (["show", PACKED, "packed", "--block", "0"], "error[E510]: `0` is not the size"),
        (["stats", PACKED, "packed", "--order", "document +"], "error[E1"),
        (["show", "nowhere.attn"], "nowhere.attn"),
        (["run", PACKED, "packed", "--dtype", "float3"], "did you mean `float32`?"),
        (["run", PACKED, "packed", "--backend", "tile"], "did you mean `tiled`?"),
        (["run", PACKED, "packed", "--device", "toaster"], "error[E511]: nothing can be computed here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_of_users(maskdsl, words, expected):
    ended = maskdsl(*words)
    assert ended.code == 2
    assert expected in ended.err
    assert ended.out == ""


def test_wrong_values_are_reported_together(maskdsl):
    ended = maskdsl("show", PACKED, "packed", "n=causal()", "m=?")
    assert ended.code == 2 and "found 2 errors" in ended.err


@pytest.mark.parametrize("command", ["check", "show", "stats"])
def test_tables_that_are_too_short(maskdsl, command):
    ended = maskdsl(command, "tests/errors/table_too_short_under_causal.attn")
    assert ended.code > 0 and "error[E235]" in ended.err + ended.out


def test_no_pattern(maskdsl, pattern_file):
    ended = maskdsl("show", pattern_file("def f(x) = x"))
    assert ended.code == 2 and "error[E502]" in ended.err


def test_a_pattern_of_the_standard_library(maskdsl, pattern_file):
    assert "dense(n=8)" in maskdsl("show", pattern_file("def f(x) = x"), "dense", "n=8").out


def test_an_archive_of_several_arrays(maskdsl, tmp_path):
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
    ended = maskdsl("show", PACKED, "packed", "--input", f"document={tmp_path / 'two.npz'}")
    assert ended.code == 2 and "it holds several arrays" in ended.err


@pytest.mark.parametrize(
    "words", [["shw"], ["show"], ["show", PACKED, "--blok", "3"], ["stats", PACKED, "--heads", "0"]]
)
def test_wrong_commands_and_options(maskdsl, words):
    ended = maskdsl(*words)
    assert ended.code == 2 and ended.out == "" and "Usage: maskdsl" in ended.err


def test_help_and_version(maskdsl):
    for command in ("check", "fmt", "show", "stats", "emit", "verify", "run", "bench"):
        assert command in maskdsl("--help").out
        ended = maskdsl(command, "--help")
        assert ended.code == 0 and f"maskdsl {command}" in ended.out
    assert maskdsl("--version").out == f"{__version__}\n"


def test_errors_in_colour(maskdsl, monkeypatch):
    plain = maskdsl("show", PACKED, "packd").err
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    from rich.text import Text

    coloured = maskdsl("show", PACKED, "packd").err
    assert "\x1b[" in coloured and Text.from_ansi(coloured).plain.strip() == plain.strip()


@pytest.mark.parametrize(
    "words", [("show", "p"), ("stats", "p"), ("explain", "p", "--pair", "5", "2"), ("show", "s"), ("field", "s")]
)
def test_given_inputs_that_lead_outside(maskdsl, pattern_file, tmp_path, words):
    """Where they alone decide it: what is made up beside them leads nobody outside."""
    command, name, *others = words
    path, g, t = pattern_file(READS), tmp_path / "g.npy", tmp_path / "t.npy"
    np.save(t, np.zeros(4))
    for last, code in ((3, 0), (4, 2)):
        np.save(g, np.minimum(np.arange(8), last))
        ended = maskdsl(command, path, name, *others, "--input", f"g={g}", "--input", f"t={t}")
        assert ended.code == code, ended.err
        assert ("error[E483]" in ended.err) == (code == 2)
