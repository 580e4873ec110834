"""Breaks the product in one place at a time; the tests have to notice: `python -m tests.independent.mutants [NAME...]`.

The checkout stays as it is: a mutant is made in a copy of it, where its tests run. First they run without any mutant,
as a test that fails anyway notices nothing. `--write FILE` records which test noticed each, beside those there.

Tests run in processes forked from this one, which has imported what most of them import and nothing of the checkout.
"""

import argparse
import json
import os
import re
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from tests.independent.mutant import COMPARE, Mutant
from tests.independent.mutant_list import MUTANTS
from tests.support.records import commit

ROOT = Path(__file__).parents[2]
IMPORTED = ("hypothesis.strategies", "lark", "networkx", "sympy", "torch.fx.experimental.symbolic_shapes", "click")
"""What tests import, beside torch, and is not of the checkout."""
LIMIT_S = 120
"""CPU seconds for the tests of one mutant, which take few: what hangs is noticed too."""
TOGETHER = 16
"""Tests in one run without any mutant."""
NOTICED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+(?:\[\S+\])?)|^--- (seed \d+)", re.MULTILINE)


class Unclear(Exception):
    """The tests did not run to a verdict."""


def copied(folder: Path) -> Path:
    """A copy of the checkout: what is imported from there is the copy's."""
    tree = folder / "tree"
    left_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "node_modules")
    return shutil.copytree(ROOT, tree, symlinks=True, ignore=left_out)


def run(tests: Sequence[str]) -> int:
    """The exit status of tests, which stop at the first failure: those of pytest, or `COMPARE FIRST COUNT`."""
    if tests[0] == COMPARE:
        sys.argv = [*tests, "--stop"]
        runpy.run_module(COMPARE, run_name="__main__")
        return 0
    drawn = ["--hypothesis-seed=0", "--hypothesis-profile=mutants"]
    return int(pytest.main(["-x", "-q", "--tb=no", "-rfE", *drawn, *tests]))


def run_in(tree: Path, tests: Sequence[str], cache: str, output: int) -> NoReturn:
    """In a process of its own, which has imported nothing of the checkout's."""
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        os.chdir(tree)
        os.environ.update({"MASKDSL_CACHE_DIR": cache, "PYTHONPATH": str(tree)})
        if "--triton" in tests:
            os.environ["TRITON_INTERPRET"] = "1"
        sys.path = [str(tree), *(path for path in sys.path if path and Path(path) != ROOT)]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "maskdsl")]:
            del sys.modules[name]
        status = run(tests)
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def failure(tree: Path, tests: Sequence[str]) -> str | None:
    """The test that fails in this tree, None if all pass. Raises `Unclear`."""
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile() as output:
        process = os.fork()
        if not process:
            run_in(tree, tests, cache, output.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if status == 0:
        return None
    if status == -signal.SIGXCPU:
        return f"no end in {LIMIT_S} s"
    found = NOTICED.search(printed)
    if status != 1 or found is None:
        raise Unclear(f"{' '.join(tests)} ended with {status}:\n{printed[-2000:]}")
    return found[1] or f"{COMPARE}, {found[2]}"


def noticed(tree: Path, mutant: Mutant) -> str | None:
    """The test that notices a mutant. Raises `Unclear`."""
    path = tree / mutant.file
    text = path.read_text()
    path.write_text(mutant.applied(text))
    try:
        return failure(tree, mutant.tests)
    finally:
        path.write_text(text)


def fail_anyway(tree: Path, mutants: Iterable[Mutant]) -> list[str]:
    """What tests of these fail without any of them."""
    runs = dict.fromkeys(each.tests for each in mutants if each.tests[0] == COMPARE)
    nodes = [*dict.fromkeys(node for each in mutants if each.tests[0] != COMPARE for node in each.tests)]
    found = (failure(tree, run) for run in [*runs, *batched(nodes)])
    return [each for each in found if each is not None]


def batched(nodes: Sequence[str]) -> list[tuple[str, ...]]:
    """So many tests that a run of them has the time of one mutant."""
    return [tuple(nodes[first : first + TOGETHER]) for first in range(0, len(nodes), TOGETHER)]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def verdict(tree: Path, mutant: Mutant) -> str:
    try:
        by = noticed(tree, mutant)
    except Unclear as error:
        print(error)
        return "unclear"
    return "lives" if by is None else f"killed by {by}"


def record(file: Path, name: str, found: str, checked_out: str) -> None:
    """Writes what became of one mutant beside the others; those that are no more are left out."""
    known = json.loads(file.read_text()) if file.exists() else {}
    known[name] = {"found": found, "commit": checked_out}
    file.write_text(
        json.dumps({each.name: known[each.name] for each in MUTANTS if each.name in known}, indent=2) + "\n"
    )


def chosen(names: Sequence[str]) -> list[Mutant]:
    unknown = set(names) - {each.name for each in MUTANTS}
    if unknown:
        raise SystemExit(f"no mutant is called {', '.join(sorted(unknown))}")
    return [each for each in MUTANTS if not names or each.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="all, if none is given")
    parser.add_argument("--write", type=Path, help="a file for what was found, as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in IMPORTED:
        import_module(name)
    mutants, checked_out = chosen(asked.names), commit() if asked.write is not None else ""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        if failing := fail_anyway(tree, mutants):
            raise SystemExit(f"these fail without any mutant: {', '.join(failing)}")
        for mutant in mutants:
            began = cpu_seconds()
            found[mutant.name] = verdict(tree, mutant)
            if asked.write is not None:
                record(asked.write, mutant.name, found[mutant.name], checked_out)
            print(f"{mutant.name:34} {cpu_seconds() - began:5.1f} s  {found[mutant.name]}", flush=True)
    lived = [name for name, what in found.items() if not what.startswith("killed")]
    print(f"{len(found) - len(lived)} of {len(found)} mutants were noticed")
    sys.exit(bool(lived))


if __name__ == "__main__":
    main()
