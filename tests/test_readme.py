"""What the README shows is what there is: its programs run, its pictures, kernels and errors are those printed."""

import re
from pathlib import Path
from textwrap import indent

import pytest

import maskdsl as package
from maskdsl.cli.stages import STAGES
from tests.support.command_line import maskdsl

__all__ = ["maskdsl"]

TEXT = Path("README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


(PATTERN,) = blocks("attn")
SHOWN = {block.splitlines()[0]: block.split("\n", 1)[1] for block in blocks("text")}


@pytest.mark.parametrize("block", blocks("python"))
def test_programs_run(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_picture(maskdsl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("longformer.attn").write_text(PATTERN)
    ended = maskdsl("show", "longformer.attn", columns=64)
    assert ended.out == SHOWN["$ maskdsl show longformer.attn"]


def test_the_error(maskdsl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("wrong.attn").write_text("pattern local(n = 64, size = 9) {\n    space tokens[n]\n    attend windw(size)\n}\n")
    ended = maskdsl("show", "wrong.attn")
    assert (ended.code, ended.err) == (2, SHOWN["$ maskdsl show wrong.attn"])


def test_the_kernel():
    (excerpt,) = blocks("py")
    (stage,) = (each for each in STAGES if each.name == "triton")
    text = stage.text(package.parse(PATTERN)["longformer"].bind(), {})
    assert indent(excerpt, "    ") in text


def test_every_stage_is_named():
    (line,) = (line for line in TEXT.splitlines() if "maskdsl emit FILE" in line)
    assert line.split(": ")[1].strip(" |") == ", ".join(f"`{stage.name}`" for stage in STAGES)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert Path(target).exists(), target
