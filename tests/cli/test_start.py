"""How the command line starts: quickly, without torch, from any shell."""

import os
import resource
import subprocess
import sys
from math import inf

import pytest

LONGFORMER = "examples/language/longformer.attn"
WITHOUT_TORCH = """
import sys
from maskdsl.cli import main
try:
    main(sys.argv[1:])
except SystemExit as exit:
    assert not exit.code, exit.code
needed = {"emit": "sympy", "order": "networkx"}  # which solve for tiles, and order graphs
slow = {"torch", "triton", "networkx", "sympy"} - {needed.get(sys.argv[1])}
found = slow & set(sys.modules)
assert not found, found
"""
QUICK = [
    ["check", LONGFORMER],
    ["fmt", "--check", LONGFORMER],
    ["show", LONGFORMER],
    ["view", LONGFORMER, "--out", os.devnull],
    ["stats", LONGFORMER],
    ["field", LONGFORMER],
    ["stats", LONGFORMER, "--gpu", "all"],
    ["order", LONGFORMER],
    ["emit", LONGFORMER],
]


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_torch_is_not_imported(words):
    ended = run("-c", WITHOUT_TORCH, *words)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_answers_are_quick(words):
    """In processor time, which others' work lengthens little; benchmarks hold the real bound, of wall-clock time."""
    times = [inf]
    while min(times) >= 2 and len(times) <= 5:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = run("-m", "maskdsl", *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert ended.returncode == 0, ended.stderr
    assert min(times) < 2


def test_colour_only_where_it_is_wanted():
    plain = run("-m", "maskdsl", "show", LONGFORMER, NO_COLOR="1", FORCE_COLOR="1", COLUMNS="60")
    assert "█" in plain.stdout and "\x1b[38" not in plain.stdout
    coloured = run(
        "-m", "maskdsl", "show", LONGFORMER, NO_COLOR="", FORCE_COLOR="1", COLORTERM="truecolor", COLUMNS="60"
    )
    assert "\x1b[38;2;46;196;182" in coloured.stdout


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m maskdsl emit {LONGFORMER} --stage reference | head -1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert ended.stderr == "" and ended.stdout.startswith('"""')


def test_a_shell_that_knows_ascii_only():
    ended = run("-m", "maskdsl", "show", LONGFORMER, PYTHONIOENCODING="ascii", COLUMNS="60")
    assert ended.returncode == 0 and ended.stdout.isascii() and "#" in ended.stdout


FIRST_RUN = """
import sys
import torch
import maskdsl
mask = maskdsl.load(sys.argv[1])["longformer"].bind(n=64)
mask.compile("tiled")(*torch.randn(3, 1, 1, 64, 16))
found = {"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules)
assert not found, found
"""


def test_a_first_call_imports_no_compiler():
    """Nor what solves for tiles: either takes longer than all else."""
    ended = run("-c", FIRST_RUN, LONGFORMER)
    assert ended.returncode == 0, ended.stderr
