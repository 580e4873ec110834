"""`check` and `fmt`."""

import json
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from tests.cli.conftest import LOCAL

EXAMPLES = sorted(Path("examples").rglob("*.attn"))
UGLY = "pattern local(n=64,size=9){space tokens[n] attend window(size)}"


def test_every_example_is_fine(maskdsl):
    ended = maskdsl("check", *EXAMPLES)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[:2] == [f"{path}: ok, 1 pattern" for path in EXAMPLES[:2]]


def test_everything_wrong_is_reported(maskdsl, pattern_file, local):
    broken = pattern_file(
        LOCAL.replace("window(size)", "windw(size)") + LOCAL.replace("local", "other").replace("[n]", "[m]")
    )
    ended = maskdsl("check", broken, local)
    assert ended.code == 1
    assert "did you mean `window`?" in ended.err and "`m`" in ended.err and "found 2 errors" in ended.err
    assert ended.out == f"{local}: ok, 1 pattern\n2 errors, 0 warnings in 2 files\n"


def test_what_has_no_defaults_is_not_bound(maskdsl, pattern_file):
    ended = maskdsl("check", pattern_file("pattern p(n, m) { space t[n * m] attend causal }"))
    assert ended.code == 0 and ended.out.endswith(": ok, 0 patterns\n")
    assert ended.err == "note: `p` was parsed but not bound: no default for `n`, `m`\n"


ODD = """pattern crossed(n = 64) {
    space text[n]
    space image[n]
    queries text
    keys image
    attend causal
}
"""


def test_warnings_stop_nothing_unless_it_is_strict(maskdsl, pattern_file):
    odd, broken = pattern_file(ODD), pattern_file(ODD + LOCAL.replace("window", "windw"), "broken.attn")
    ended = maskdsl("check", odd)
    assert ended.code == 0 and ended.out == f"{odd}: ok, 1 pattern, 1 warning\n"
    assert ended.err.startswith("warning[W001]: ") and f"--> {odd}:6:12" in ended.err
    assert maskdsl("check", "--strict", odd).code == 1
    ended = maskdsl("check", broken)
    assert ended.code == 1 and "warning[W001]" in ended.err and "error[E206]" in ended.err
    quiet = pattern_file(ODD.replace("causal", "causal  # allow: W001"))
    assert maskdsl("check", "--strict", quiet).code == 0


def test_an_empty_file_is_warned_of(maskdsl, pattern_file):
    ended = maskdsl("check", pattern_file("# a draft\n"))
    assert ended.code == 0 and "warning[W013]: the file declares nothing" in ended.err


def test_warnings_in_json(maskdsl, pattern_file):
    (found,) = json.loads(maskdsl("check", "--json", pattern_file(ODD)).out)
    ((warning,), ok, errors) = found["warnings"], found["ok"], found["errors"]
    assert (ok, errors, warning["code"], warning["line"], warning["column"]) == (True, [], "W001", 6, 12)


@pytest.mark.parametrize("command", ["show", "stats", "explain", "emit --stage ir", "view --out {}.html"])
def test_other_commands_warn_once_beside_what_they_print(maskdsl, pattern_file, command):
    odd = pattern_file(ODD)
    name, *options = command.format(odd).split()
    ended = maskdsl(name, odd, *options)
    assert ended.code == 0 and ended.err.count("warning[W001]") == 1 and "W001" not in ended.out


def test_a_missing_file(maskdsl):
    ended = maskdsl("check", "nowhere.attn")
    assert ended.code == 1 and "nowhere.attn" in ended.err


def test_fmt_rewrites(maskdsl, pattern_file):
    path = pattern_file(UGLY)
    assert maskdsl("fmt", path).out == f"changed {path}\n"
    assert Path(path).read_text() == LOCAL
    ended = maskdsl("fmt", path)
    assert (ended.code, ended.out) == (0, "")


def test_fmt_check_only_tells(maskdsl, pattern_file, local):
    path = pattern_file(UGLY)
    ended = maskdsl("fmt", "--check", path, local)
    assert (ended.code, ended.out) == (1, f"would change {path}\n1 of 2 files would change\n")
    assert Path(path).read_text() == UGLY
    assert maskdsl("fmt", "--check", local).code == 0


def test_fmt_diff(maskdsl, pattern_file):
    path = pattern_file(LOCAL.replace("n = 64", "n=64"))
    ended = maskdsl("fmt", "--diff", path)
    assert ended.code == 0
    assert "-pattern local(n=64, size = 9) {\n+pattern local(n = 64, size = 9) {\n" in ended.out
    assert "n=64" in Path(path).read_text()


def test_fmt_of_standard_input(maskdsl, monkeypatch):
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(UGLY.encode())))
    assert maskdsl("fmt", "-").out == LOCAL
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\xff")))
    assert "error[E117]: `<stdin>` is not UTF-8" in maskdsl("fmt", "-").err


def test_fmt_leaves_what_it_cannot_read(maskdsl, pattern_file):
    path, other = pattern_file("pattern {"), pattern_file(UGLY, "other.attn")
    ended = maskdsl("fmt", path, other)
    assert ended.code == 2 and "error[E1" in ended.err
    assert Path(path).read_text() == "pattern {" and Path(other).read_text() == LOCAL


def test_fmt_of_a_file_that_cannot_be_written(maskdsl, pattern_file, monkeypatch):
    path = pattern_file(UGLY)

    def refuse(self, content):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    ended = maskdsl("fmt", path)
    assert ended.code == 2 and f"error[E512]: `{path}` cannot be written: Permission denied" in ended.err


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_examples_are_formatted(maskdsl, path):
    assert maskdsl("fmt", "--check", path).code == 0
