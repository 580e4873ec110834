"""Names of files, words and values that are commands to a terminal are not, whatever a command says of them."""

import os

import pytest

from maskdsl.base.text import FORBIDDEN
from maskdsl.cli.request.completions import files
from tests.cli.conftest import LOCAL

BAD = "\x1b]0;x\x07\x9b31m\u202e\r"
COMMANDS = [
    *(["check"], ["check", "--json"], ["show"], ["show", "--json"], ["fmt", "--check"], ["fmt", "--diff"], ["stats"]),
    *(["explain"], ["explain", "--pair", "3", "1"], ["emit", "--stage", "tree"], ["emit", "--stage", "tiled"]),
]
FILES = {
    "good": LOCAL,
    "ugly": LOCAL.replace(" = ", "="),
    "wrong": LOCAL + ")",
    "unbound": LOCAL.replace("size = 9", "size"),
    "bad": f"# {BAD}\n{LOCAL}",
    "returns": LOCAL.replace("\n", "\r").replace(" = ", "="),
}


@pytest.mark.parametrize("kind", FILES)
def test_files(maskdsl, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for name in (f"{kind}{BAD}.attn", f"{kind}[red]\udcff\n.attn"):
        path = tmp_path / name
        path.write_bytes(FILES[kind].encode())
        for command, *options in COMMANDS:
            ended = maskdsl(command, name, *options)
            assert ended.code in (0, 1, 2) and not FORBIDDEN.search(ended.out + ended.err), (command, options)
            assert "\n.attn" not in ended.out + ended.err, (command, options)
        os.unlink(path)


@pytest.mark.parametrize(
    "words",
    [
        *(["show", "FILE", f"n={BAD}"], ["show", "FILE", BAD], ["show", "FILE", f"{BAD}=3"], ["show", f"{BAD}.attn"]),
        *(["show", "FILE", "--order", BAD], ["show", "FILE", "--block", BAD], ["show", "FILE", "--rows", BAD]),
        *(
            ["show", "FILE", "--input", f"{BAD}=x.npy"],
            ["show", "FILE", "--tensors", BAD],
            ["show", "FILE", "--diff", BAD],
        ),
        *(
            ["show", "FILE", "--out", BAD],
            ["show", "FILE", "--out", f"/none/{BAD}.svg"],
            ["emit", "FILE", "--stage", BAD],
        ),
        *(
            ["show", "FILE", "--out", "\ud800.svg"],
            ["view", "FILE", "--out", "\ud800"],
            ["stats", "FILE", "--gpu", BAD],
        ),
        *(["doctor", BAD], [BAD], ["show", f"--{BAD}"], ["show", "FILE", "--heads", BAD], ["view", f"{BAD}.attn"]),
    ],
    ids=ascii,
)
def test_words(maskdsl, local, words):
    ended = maskdsl(*(local if word == "FILE" else word for word in words))
    assert ended.code == 2 and ended.err and not FORBIDDEN.search(ended.out + ended.err)


def test_shells_are_offered_no_such_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (f"a{BAD}.attn", "a\n.attn", "a\udcff.attn", "a.attn"):
        (tmp_path / name).write_text("")
    assert files(None, None, "a") == ["a.attn"]


def test_pictures_and_pages_under_such_names(maskdsl, local, tmp_path):
    for command, name in (("show", f"{BAD}.svg"), ("view", f"{BAD}.html")):
        ended = maskdsl(command, local, "--out", tmp_path / name)
        assert ended.code == 0 and not FORBIDDEN.search(ended.out + ended.err)
        assert (tmp_path / name).is_file()
