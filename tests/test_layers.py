"""Data goes one way and imports the other: the contracts of pyproject.toml, and what is imported at the start."""

import subprocess
import sys

import pytest

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
IMPORTS = "import sys, {0}; print(*sorted({{'torch', 'triton', 'sympy', 'networkx', 'rich'}} & set(sys.modules)))"


def run(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)


def test_contracts_are_kept():
    ended = run(LINT, "--no-cache")
    assert ended.returncode == 0, ended.stdout
    assert "0 broken" in ended.stdout


@pytest.mark.parametrize(
    "module",
    ["maskdsl", "maskdsl.api", "maskdsl.plan", "maskdsl.emit.tiled", "maskdsl.analysis.stats", "maskdsl.recognition"],
)
def test_no_torch_down_to_emit(module):
    ended = run(IMPORTS.format(module))
    assert (ended.stdout, ended.stderr) == ("\n", "")


@pytest.mark.parametrize("module", ["maskdsl.cli", "maskdsl.pipeline", "maskdsl.view.show"])
def test_no_torch_in_what_only_looks(module):
    assert set(run(IMPORTS.format(module)).stdout.split()) <= {"rich"}
