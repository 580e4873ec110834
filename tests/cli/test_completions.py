"""What shells offer: asked as a shell asks, through the environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
        from maskdsl.cli import main

        monkeypatch.chdir(folder)
        monkeypatch.setenv("_MASKDSL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", f"maskdsl {line}")
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
        with pytest.raises(SystemExit):
            main([])
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

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
def test_bash_completes(folder):
    """The script that is installed, in the shell it is for."""
    shell = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # whatever this runs in
    shown = subprocess.run(
        [sys.executable, "-m", "maskdsl", "--show-completion", "bash"],
        capture_output=True,
        text=True,
        timeout=60,
        env=shell,
    )
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    command = bin_folder / "maskdsl"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m maskdsl "$@"\n')
    command.chmod(0o755)
    line = "maskdsl show several.attn f"
    asked = f"{shown.stdout}\nCOMP_WORDS=({line}); COMP_CWORD=3\n_maskdsl_completion maskdsl; echo ${{COMPREPLY[@]}}"
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(
        ["bash", "-c", asked], capture_output=True, text=True, cwd=folder, env=environment, timeout=60
    )
    assert ended.stdout.split()[-1:] == ["far"], ended.stderr
