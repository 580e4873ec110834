"""The list of mutants goes with the sources and the tests that are there; `make mutants` runs them."""

import ast
import json
import re
from pathlib import Path

import pytest

from tests.independent.mutant import COMPARE, Mutant
from tests.independent.mutant_list import MUTANTS
from tests.independent.mutants import copied, noticed

ROOT = Path(__file__).parents[2]


def test_they_have_names_of_their_own() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 60


def test_those_recorded_were_noticed() -> None:
    recorded = json.loads((ROOT / "benchmarks" / "results" / "mutants.json").read_text())
    assert recorded.keys() <= {each.name for each in MUTANTS}
    assert all(each["found"].startswith("killed by ") for each in recorded.values())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_it_applies(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    applied = mutant.applied(text)
    if mutant.file.endswith(".py"):
        assert ast.dump(ast.parse(applied)) != ast.dump(ast.parse(text))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_its_tests_are_there(mutant: Mutant) -> None:
    if mutant.tests[0] == COMPARE:
        assert int(mutant.tests[2]) > 0
        return
    for node in mutant.tests:
        file, test = node.split("::")
        assert re.search(rf"^def {test.partition('[')[0]}\(", (ROOT / file).read_text(), re.MULTILINE), node


@pytest.mark.long
def test_one_that_no_test_looks_for_lives(tmp_path: Path) -> None:
    """Where what is broken is not asked for, nobody notices; and the checkout stays as it is."""
    mutant = next(each for each in MUTANTS if each.name == "damaged files")
    before = (ROOT / mutant.file).read_text()
    tree = copied(tmp_path)
    assert noticed(tree, mutant) == "tests/test_cache.py::test_damaged_content_is_not_read"
    assert noticed(tree, mutant._replace(tests=("tests/test_cache.py::test_kept_again",))) is None
    assert (ROOT / mutant.file).read_text() == (tree / mutant.file).read_text() == before
