"""How the command line starts: quickly, without torch, from any shell."""

import json
import os
import resource
import subprocess
import sys
from math import inf

import pytest

LONGFORMER = "examples/language/longformer.attn"
IMPORTED = """
import json, os, sys

def run(words):
    # In a child, which has imported nothing yet: what it imports.
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        assert os.waitpid(child, 0)[1] == 0, words
        return json.loads(text)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from maskdsl.cli import main
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code, words
    modules = {name: each for name, each in sys.modules.items() if name.startswith("maskdsl")}
    classes = [value for each in modules.values() for value in vars(each).values() if isinstance(value, type)]
    generated = {
        f"{each.__module__}.{each.__name__}"
        for each in classes
        if each.__module__ in modules and "__dataclass_fields__" in vars(each) and "_layout_" not in vars(each)
    }
    os.write(write, json.dumps({"modules": list(sys.modules), "generated": sorted(generated)}).encode())
    os._exit(0)

print(json.dumps([run(words) for words in json.loads(sys.argv[1])]))
"""
SLOW = {"torch", "triton", "sympy", "networkx", "PIL", "typer", "pydantic", "matplotlib", "hypothesis"}
"""What takes long to import, and no command needs before it computes."""
NEEDED = {"emit": {"sympy"}, "order": {"networkx"}}
"""By command: `emit` solves for tiles, and `order` orders graphs."""
TRACED = {"maskdsl.ir.heads.Heads"}
"""Dataclasses of the standard library, which graphs of torch.compile make."""
HEAVY = {"numpy", "lark", "rich"}
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


@pytest.fixture(scope="module")
def imported():
    """What each command imports, by its words."""
    commands = [["--version"], ["--help"], *QUICK]
    ended = run("-c", IMPORTED, json.dumps(commands))
    assert ended.returncode == 0, ended.stderr
    return {" ".join(words): each for words, each in zip(commands, json.loads(ended.stdout), strict=True)}


def test_nothing_slow_is_imported(imported):
    for words, each in imported.items():
        command = words.split()[0]
        slow = SLOW - NEEDED.get(command, set())
        assert not slow & {*each["modules"]}, words
        assert {*each["generated"]} <= TRACED, f"{words}: these dataclasses are not those of maskdsl.base.records"


def test_version_and_help_import_next_to_nothing(imported):
    assert not HEAVY & {*imported["--version"]["modules"]}
    assert not {"numpy", "lark"} & {*imported["--help"]["modules"]}


@pytest.mark.parametrize(
    ("words", "most"), [("--version", 34), (f"check {LONGFORMER}", 231), (f"show {LONGFORMER}", 258)]
)
def test_commands_import_what_they_need(imported, words, most):
    own = [name for name in imported[words]["modules"] if name.startswith("maskdsl")]
    assert len(own) <= most, own


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
    assert "\x1b[38;2;86;180;233" in coloured.stdout


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


ELSEWHERE = """
import sys, warnings

# Modules that Python has on Unix alone, and files in the encoding of the system, which is not UTF-8 everywhere.
for name in ("fcntl", "grp", "pwd", "pty", "readline", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
warnings.filterwarnings("error", category=EncodingWarning, module="maskdsl")
from maskdsl.cli import main

for line in sys.stdin.read().splitlines():
    try:
        main(line.split())
    except SystemExit as ended:
        assert not ended.code, line
"""


def test_commands_without_what_only_unix_has(tmp_path):
    """As on Windows, as far as that can be tried here."""
    lines = [f"new {tmp_path / 'mine'}", f"fmt {tmp_path / 'mine.attn'}"]
    pattern = "packed packed n=64"
    lines += [
        f"check {LONGFORMER}",
        f"stats {pattern}",
        f"explain {pattern}",
        f"emit {pattern} --stage tiled",
        "doctor",
    ]
    lines += [f"show {pattern}", *(f"show {pattern} --out {tmp_path / name}" for name in ("map.png", "map.pdf"))]
    lines += [f"view {pattern} --out {tmp_path / 'page.html'}"]
    words = [sys.executable, "-X", "warn_default_encoding", "-c", ELSEWHERE]
    environment = {**os.environ, "MASKDSL_CACHE_DIR": str(tmp_path / "cache"), "PYTHONIOENCODING": "cp1252"}
    ended = subprocess.run(
        words, input="\n".join(lines), capture_output=True, text=True, encoding="cp1252", timeout=120, env=environment
    )
    assert ended.returncode == 0, ended.stderr
