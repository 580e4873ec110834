"""Breaks the product in one place at a time; the tests have to notice: `python -m tests.independent.mutants [NAME...]`.

The checkout stays as it is: a mutant is made in a copy of it, where its tests run. First they run without any mutant,
as a test that fails anyway notices nothing. `--write FILE` records which test noticed each.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.independent.mutant_list import COMPARE, MUTANTS, Mutant
from tests.independent.records import commit

ROOT = Path(__file__).parents[2]
LIMIT_S = 120
"""CPU seconds for the tests of one mutant, which take few: what hangs is noticed too."""
TOGETHER = 16
"""Tests in one run without any mutant."""
NOTICED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+(?:\[\S+\])?)|^--- (seed \d+)", re.MULTILINE)


class Unclear(Exception):
    """The tests did not run to a verdict."""


def copied(folder: Path) -> Path:
    """A copy of the checkout, its package whole in one place: what is imported from there is the copy's."""
    tree = folder / "tree"
    left_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "node_modules")
    shutil.copytree(ROOT, tree, ignore=left_out)
    for name in ("codegen", "grammar"):
        (tree / "maskdsl" / name).symlink_to(tree / name)
    return tree


def command_of(tests: Sequence[str]) -> list[str]:
    """Of one run, which stops at the first failure: pytest, or `COMPARE FIRST COUNT`."""
    if tests[0] == COMPARE:
        return [sys.executable, "-m", *tests, "--stop"]
    drawn = ["--hypothesis-seed=0", "--hypothesis-profile=mutants"]
    return [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE", *drawn, *tests]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))


def failure(tree: Path, tests: Sequence[str]) -> str | None:
    """The test that fails in this tree, None if all pass. Raises `Unclear`."""
    with tempfile.TemporaryDirectory() as cache:
        added = {"MASKDSL_CACHE_DIR": cache, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
        if "--triton" in tests:
            added["TRITON_INTERPRET"] = "1"
        process = subprocess.run(
            command_of(tests),
            cwd=tree,
            env={**os.environ, **added},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=limited,
        )
    if process.returncode == 0:
        return None
    if process.returncode == -signal.SIGXCPU:
        return f"no end in {LIMIT_S} s"
    found = NOTICED.search(process.stdout)
    if process.returncode != 1 or found is None:
        raise Unclear(f"{' '.join(tests)} ended with {process.returncode}:\n{process.stdout[-2000:]}")
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
    mutants, checked_out = chosen(asked.names), commit() if asked.write is not None else ""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        if failing := fail_anyway(tree, mutants):
            raise SystemExit(f"these fail without any mutant: {', '.join(failing)}")
        for mutant in mutants:
            began = cpu_seconds()
            found[mutant.name] = verdict(tree, mutant)
            print(f"{mutant.name:34} {cpu_seconds() - began:5.1f} s  {found[mutant.name]}", flush=True)
    lived = [name for name, what in found.items() if not what.startswith("killed")]
    print(f"{len(found) - len(lived)} of {len(found)} mutants were noticed")
    if asked.write is not None:
        record = {"commit": checked_out, "mutants": found}
        asked.write.write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(bool(lived))


if __name__ == "__main__":
    main()
