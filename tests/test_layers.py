"""Data goes one way and imports the other: the contracts of pyproject.toml, and what is imported at the start."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
IMPORTS = "import sys, {0}; print(*sorted({{'torch', 'triton', 'sympy', 'networkx', 'rich'}} & set(sys.modules)))"


def run(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)


def test_contracts_are_kept():
    ended = run(LINT, "--no-cache")
    assert ended.returncode == 0, ended.stdout
    assert "0 broken" in ended.stdout


def late_imports(path: Path) -> list[str]:
    """The lines of a module that import inside of functions."""
    text = path.read_text()
    functions = (each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.FunctionDef))
    numbers = {
        each.lineno - 1
        for function in functions
        for each in ast.walk(function)
        if isinstance(each, ast.Import | ast.ImportFrom)
    }
    return [line for number, line in enumerate(text.splitlines()) if number in numbers]


def test_imports_inside_functions_say_why():
    """Start-up time, or a package that need not be there; never a cycle."""
    linked = {Path("maskdsl/codegen"), Path("maskdsl/example_files")}
    modules = (path for path in Path("maskdsl").rglob("*.py") if not linked & {*path.parents})
    lines = {(str(path), line.strip()) for path in modules for line in late_imports(path)}
    assert not [each for each in lines if not re.search(r"#.*(start-up time|optional)", each[1])]


STEPS = {"bind", "bind_stack", "settled"}
"""Binding and ordering, which are two steps of one function."""


def test_only_one_module_binds_and_orders():
    importing = set()
    for path in Path("maskdsl").rglob("*.py"):
        imports = (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.ImportFrom))
        if any(STEPS & {name.name for name in each.names} for each in imports):
            importing.add(str(path))
    counting = {"maskdsl/analysis/counts/growth.py"}  # pairs, of which there are as many in every order
    comparing = {"maskdsl/analysis/lint/text_warnings.py"}  # lines, at other values of parameters too
    inside = {"maskdsl/bind/__init__.py", "maskdsl/bind/bind_stack.py"}
    assert importing == {"maskdsl/analysis/orders/binding.py"} | counting | comparing | inside


PUBLIC = {"maskdsl", "maskdsl.base.errors.calls", "maskdsl.base.libraries"}
"""Of the package, what integrations may import: what everybody's can, the catalogue of their errors, and the error of a
library that is missing."""


def test_integrations_are_made_of_what_is_public():
    for path in Path("maskdsl/integrations").rglob("*.py"):
        for each in ast.walk(ast.parse(path.read_text())):
            if isinstance(each, ast.ImportFrom):
                assert each.level == 0, path
                own = each.module.startswith("maskdsl.integrations") or each.module.split(".")[0] != "maskdsl"
                assert own or each.module in PUBLIC, f"{path} imports {each.module}"
            elif isinstance(each, ast.Import):
                assert not any(name.name.startswith("maskdsl") for name in each.names), path


OF_A_TEST = re.compile(
    r"(?:from|import) (?:tests)?\.[\w.]*\btest_|from (?:tests|\.)[\w.]* import (?:\([^)]*|[^\n(]*)\btest_"
)
"""What is imported from a module `test_*`, or is one."""


@pytest.mark.parametrize(
    "words",
    [
        ("from", "tests.runtime.test_values import x"),
        ("from", ".test_values import x"),
        ("import", "tests.runtime.test_values as x"),
        ("from", "tests.runtime import (\n    other,\n    test_values,\n)"),
        ("from", ". import test_values"),
    ],
)
def test_imports_of_tests_are_seen(words):
    """In two parts here, so that this file has none."""
    assert OF_A_TEST.search(" ".join(words))


def test_tests_share_nothing_but_support():
    """None imports from another, nor does a program that stands in one as text."""
    assert not [str(path) for path in Path("tests").rglob("*.py") if OF_A_TEST.search(path.read_text())]


@pytest.mark.parametrize(
    "module",
    [
        "maskdsl",
        "maskdsl.api",
        "maskdsl.emit.plan",
        "maskdsl.emit.torch.tiled_module",
        "maskdsl.analysis.counts.stats",
        "maskdsl.api.recognition",
    ],
)
def test_no_torch_down_to_emit(module):
    ended = run(IMPORTS.format(module))
    assert (ended.stdout, ended.stderr) == ("\n", "")


@pytest.mark.parametrize("module", ["maskdsl.cli", "maskdsl.cli.stages", "maskdsl.view.terminal.show"])
def test_no_torch_in_what_only_looks(module):
    assert set(run(IMPORTS.format(module)).stdout.split()) <= {"rich"}
