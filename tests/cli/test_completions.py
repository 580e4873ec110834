"""What shells offer: asked as a shell asks, through the environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maskdsl.cli import main

TEXT = """
## Looks around.
pattern near(n = 64, size = 9) { space tokens[n] attend window(size) }
pattern far(n) { space tokens[n] attend dilated(8) }
stack both(n = 64) = near(n) + far(n)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "several.attn").write_text(TEXT)
    (tmp_path / "other.attn").write_text("pattern one(n = 64, kernel = (7, 7)) { space tokens[n] attend causal }")
    (tmp_path / "wrong.attn").write_text("pattern {")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "deep.attn").write_text(TEXT)
    return tmp_path


@pytest.fixture
def offered(monkeypatch, folder, capsys):
    def ask(line):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("_MASKDSL_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", f"maskdsl {line}")
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
        with pytest.raises(SystemExit):
            main([])
        captured = capsys.readouterr()
        assert captured.err == ""
        return [line.removeprefix("plain,") for line in captured.out.split()]

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("show ", ["other.attn", "several.attn", "wrong.attn", "below/"]),
        ("show se", ["several.attn"]),
        ("check be", ["below/deep.attn"]),
        ("stats several.attn ", ["near", "far", "both"]),
        ("stats several.attn f", ["far"]),
        ("stats several.attn near ", ["n=64", "size=9"]),
        ("stats several.attn near n=32 ", ["size=9"]),
        ("stats several.attn far ", ["n="]),
        ("stats other.attn k", ["kernel=(7,7)"]),
        ("show wrong.attn ", []),
        ("show nowhere.attn ", []),
        ("emit other.attn --stage ti", ["tiles", "tiled"]),
        ("stats other.attn --gpu H", ["H100", "H200"]),
        ("doc", ["doctor"]),
    ],
)
def test_what_is_offered(offered, line, expected):
    assert offered(line) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(maskdsl, monkeypatch, folder):
    """The script that is installed, in the shell it is for."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("SHELL", "/bin/bash")
    (folder / ".bashrc").write_text("# mine\n")
    for _ in range(2):
        assert maskdsl("--install-completion").code == 0
    assert (folder / ".bashrc").read_text() == "# mine\n\nsource ~/.bash_completions/maskdsl.sh\n"
    assert maskdsl("--show-completion").out.rstrip() == (folder / ".bash_completions/maskdsl.sh").read_text().rstrip()
    command = folder / "bin" / "maskdsl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m maskdsl "$@"\n')
    command.chmod(0o755)
    line = "maskdsl show several.attn f"
    asked = f". .bashrc\nCOMP_WORDS=({line}); COMP_CWORD=3\n_maskdsl_completion maskdsl; echo ${{COMPREPLY[@]}}"
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(
        ["bash", "-c", asked], capture_output=True, text=True, cwd=folder, env=environment, timeout=60
    )
    assert ended.stdout.split()[-1:] == ["far"], ended.stderr


@pytest.mark.parametrize(
    ("shell", "place"), [("zsh", ".zfunc/_maskdsl"), ("fish", ".config/fish/completions/maskdsl.fish")]
)
def test_other_shells(maskdsl, monkeypatch, tmp_path, shell, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    ended = maskdsl("--install-completion", columns=1000)
    assert ended.code == 0 and place in ended.out
    assert f"{shell}_complete" in (tmp_path / place).read_text()
    assert (tmp_path / ".zshrc").exists() == (shell == "zsh")


def test_powershell(maskdsl, monkeypatch, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SHELL", "powershell")
    assert "Register-ArgumentCompleter -Native -CommandName maskdsl" in maskdsl("--show-completion").out
    assert "$PROFILE" in maskdsl("--install-completion").err
    monkeypatch.setenv("_MASKDSL_COMPLETE", "powershell_complete")
    for typed, word in (("maskdsl show several.attn f", "f"), ("maskdsl show several.attn near n=32 ", "")):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_WORD", word)
        offered = maskdsl().out.splitlines()
        assert [line.split("\t")[0] for line in offered] == (["far"] if word else ["size=9"])


@pytest.mark.parametrize(("shell", "profile"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_a_profile_in_another_encoding(maskdsl, monkeypatch, tmp_path, shell, profile):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    (tmp_path / profile).write_bytes("# größe".encode("latin-1"))
    for _ in range(2):
        assert maskdsl("--install-completion").code == 0
    first, second = (tmp_path / profile).read_bytes().splitlines()
    assert first == "# größe".encode("latin-1") and b"comp" in second


def test_a_home_that_cannot_be_written(maskdsl, monkeypatch, tmp_path):
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHELL", "/bin/bash")
    ended = maskdsl("--install-completion", columns=1000)
    assert ended.code == 2 and "maskdsl.sh` cannot be written: Not a directory" in ended.err


@pytest.mark.parametrize("option", ["--show-completion", "--install-completion"])
def test_shells_that_are_not_known(maskdsl, monkeypatch, option):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    ended = maskdsl(option)
    assert ended.code == 2 and "no completion for the shell `tcsh`" in ended.err
