"""What the README shows is what there is: its program trains, its commands end well, its error is the one printed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.support.command_line import maskdsl

__all__ = ["maskdsl"]

TEXT = Path("README.md").read_text()
LINES = TEXT.splitlines()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


COMMANDS = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the README's pattern and what its commands read."""
    monkeypatch.chdir(tmp_path)
    (pattern,) = blocks("attn")
    Path("packed.attn").write_text(pattern)
    np.save("ids.npy", np.arange(4096)[None] // 1000)


def test_the_program_runs():
    (program,) = blocks("python")
    exec(compile(program, "README.md", "exec"), {})


@pytest.mark.parametrize(
    "command", [pytest.param(each, marks=pytest.mark.long if "verify" in each else ()) for each in COMMANDS]
)
def test_commands_end_well(command, maskdsl):
    """Without `--watch`, which ends by Ctrl-C; `tests/page/test_watch.py` has it."""
    name, *words = shlex.split(command.replace(" --watch", ""), comments=True)
    assert name == "maskdsl"
    ended = maskdsl(*words)
    assert (ended.code, ended.err) == (0, "")


def test_the_error(maskdsl):
    (shown,) = blocks("text")
    Path("wrong.attn").write_text("pattern local(n = 64, size = 9) {\n    space tokens[n]\n    attend windw(size)\n}\n")
    ended = maskdsl("check", "wrong.attn")
    assert (ended.code, f"$ maskdsl check wrong.attn\n{ended.out}{ended.err}") == (1, shown)


def test_it_is_short_and_begins_with_a_picture():
    assert len(LINES) <= 130
    assert LINES.index("## Install") < 45
    assert next(number for number, line in enumerate(LINES, 1) if line.startswith("<img")) <= 8


@pytest.mark.parametrize("target", re.findall(r"(?:\]\(|src=\")([^)#\"]+)[)\"]", TEXT))
def test_links_lead_somewhere(target, request):
    assert (request.config.rootpath / target).exists()
