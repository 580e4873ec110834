"""Examples by their names, and files to begin with."""

from pathlib import Path

import pytest

import maskdsl as package

ROOT = Path(__file__).parents[2]


def test_every_example_is_installed():
    files = {f"{path.parent.name}/{path.stem}": path for path in ROOT.glob("examples/*/*.attn")}
    assert {name: path.read_text() for name, path in package.examples().items()} == {
        name: path.read_text() for name, path in files.items()
    }
    stems = [path.stem for path in files.values()]
    assert len(stems) == len({*stems}), "an example is named without its folder"


@pytest.mark.parametrize("words", [["show", "longformer"], ["show", "language/longformer"], ["check", "longformer"]])
def test_examples_by_name(maskdsl, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    ended = maskdsl(*words)
    assert (ended.code, ended.err) == (0, "") and "longformer" in ended.out


def test_a_file_of_that_name_comes_first(maskdsl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "longformer").write_text("")
    assert "error[E122]" in maskdsl("show", "longformer").err


def test_examples_beside_each_other(maskdsl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = maskdsl("show", "longformer", "n=256", "--diff", "sliding_window")
    assert ended.code == 0 and "sliding_window" in ended.out


@pytest.mark.parametrize(
    "words", [["show", "longfromer"], ["check", "longfromer"], ["new", "a", "--from", "longfromer"]]
)
def test_names_of_nothing(maskdsl, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    ended = maskdsl(*words)
    assert ended.code == (1 if "check" in words else 2)
    assert "error[E543]: `longfromer`" in ended.err and "did you mean `longformer`?" in ended.err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "mine"], "error[E543]: `mine` is neither a file nor an example\n  help: did you mean `mine.attn`?"),
        (["show", "my-own"], "help: did you mean `my-own.attn`?"),
        (["check", "mien"], "help: did you mean `mine.attn`?"),
        (["show", "mine.attn", "--diff", "below/oter"], "help: did you mean `below/other.attn`?"),
        (["new", "copy", "--from", "mine.txt"], "error[E122]: `mine.txt` is not an .attn file\n  help: did you mean `"),
        (["show", "miner.attn"], "help: did you mean `mine.attn`?"),
    ],
)
def test_names_of_files_without_their_ending(maskdsl, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    for name in ("mine", "my-own", "below/other"):
        maskdsl("new", name)
    assert said in maskdsl(*words).err


@pytest.mark.parametrize("name", ["mine", "main", "window", "swin2.attn"])
def test_what_is_not_near_is_not_suggested(maskdsl, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    maskdsl("new", "some")
    assert "did you mean" not in maskdsl("show", name).err


def test_an_example_is_copied(maskdsl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = maskdsl("new", "longformer", columns=200)
    assert (ended.code, ended.out) == (0, "wrote longformer.attn; maskdsl show longformer.attn draws it\n")
    example = (ROOT / "examples/language/longformer.attn").read_bytes()
    assert (tmp_path / "longformer.attn").read_bytes() == example
    assert maskdsl("new", "mine.attn", "--from", "language/longformer").code == 0
    assert (tmp_path / "mine.attn").read_bytes() == example
    assert maskdsl("new", "again", "--from", "mine.attn").code == 0


@pytest.mark.parametrize("name", ["mine", "my-own", "attend", "3d", "größe", "pattern"])
def test_a_first_pattern(maskdsl, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert maskdsl("new", name).code == 0
    path = tmp_path / f"{name}.attn"
    assert maskdsl("check", path, "--strict").code == 0
    assert maskdsl("fmt", "--check", path).code == 0
    (pattern,) = package.load(path).values()
    assert pattern.doc and pattern.bind(n=300).dense()[200].sum() == 128


def test_nothing_is_overwritten(maskdsl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.attn").write_text("keep this")
    ended = maskdsl("new", "mine")
    assert ended.code == 2 and "error[E544]: `mine.attn` exists" in ended.err
    assert (tmp_path / "mine.attn").read_text() == "keep this"
    ended = maskdsl("new")
    assert ended.code == 2 and "Missing argument" in ended.err


@pytest.mark.parametrize(("source", "code"), [("nowhere.attn", "E120"), (".", "E122"), ("picture.attn", "E117")])
def test_a_file_that_cannot_be_copied(maskdsl, tmp_path, monkeypatch, source, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.attn").write_bytes(b"\x89PNG")
    ended = maskdsl("new", "mine", "--from", source)
    assert ended.code == 2 and f"error[{code}]: " in ended.err and not (tmp_path / "mine.attn").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["new", "absent/mine"],
        ["show", "longformer", "--out", "absent/a.svg"],
        ["show", "longformer", "--out", "absent/a.png"],
        ["view", "longformer", "--out", "absent/a.html"],
    ],
)
def test_folders_that_do_not_exist(maskdsl, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    ended = maskdsl(*words)
    assert ended.code == 2 and "error[E512]: `absent/" in ended.err
    assert ended.err.endswith("\n  help: the folder `absent` does not exist\n")
    assert not [*tmp_path.iterdir()]


def test_examples_are_listed(maskdsl):
    listed = maskdsl("new", "--list", columns=200).out
    assert all(name in listed for name in package.examples()) and "Longformer" in listed


@pytest.mark.parametrize("name", ["", ".attn", "..", "-", "-x", "a\x1b[31m"])
def test_names_that_no_command_could_read(maskdsl, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    ended = maskdsl("new", "--", name)
    assert ended.code == 2 and "its name needs a letter or a digit" in ended.err
    assert not [*tmp_path.iterdir()]


def test_the_command_that_is_told_is_quoted(maskdsl, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "maskdsl show 'two words.attn' draws it" in maskdsl("new", "two words").out
