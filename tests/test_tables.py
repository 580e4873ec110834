"""Lists that are written by hand have all that they list, and nothing else."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import maskdsl
from maskdsl.analysis.cost.devices import DEVICES
from maskdsl.view.language_server import words

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("editors/*.md")]
}
CATALOGUE = "".join(path.read_text() for path in sorted(ROOT.glob("maskdsl/base/errors/**/*.py")))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LANGUAGE = PAGES["language.md"]
CALLED = {"PIL": "pillow"}
"""What packages are installed as, where it is not as they are imported."""
WORDS = ["KEYWORDS", "FUNCTIONS", "SELECTORS", "CALLED", "QUANTIFIERS", "TYPES", "RESERVED"]


@pytest.mark.parametrize("kind", WORDS)
def test_the_specification_has_every_word(kind: str) -> None:
    """Which `tests/language_server/test_words.py` holds against the grammar and the binder."""
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", LANGUAGE, re.S))
    assert {*getattr(words, kind)} <= {*re.findall(r"[A-Za-z_]\w*", code)}


def test_the_specification_has_every_macro_of_the_standard_library() -> None:
    library = maskdsl.parse("pattern p(n) { space t[n] attend causal }").program.standard
    macros = set(re.findall(r"^def (\w+)", library.span.source.text, re.M))
    rows = " ".join(re.findall(r"^\| (`.*?) \|", LANGUAGE[LANGUAGE.index("## The standard library") :], re.M))
    assert set(re.findall(r"`(\w+)\(", rows)) == macros


def test_codes_of_errors_are_declared_once() -> None:
    codes = re.findall(r'^    code = "([EW]\d{3})"$', CATALOGUE, re.M)
    assert len(codes) == len({*codes}) > 150


@pytest.mark.parametrize("page", PAGES)
def test_codes_named_in_texts_are_declared(page: str) -> None:
    assert set(re.findall(r"\b[EW]\d{3}\b", PAGES[page])) <= set(re.findall(r'code = "([EW]\d{3})"', CATALOGUE))


def test_every_declared_error_is_one_of_something() -> None:
    """A class that nothing names is an error that nobody gets."""
    names = re.findall(r"^class (\w+)\(Diagnostic\)", CATALOGUE, re.M)
    paths = [path for path in (ROOT / "maskdsl").rglob("*.py") if "errors" not in path.parts]
    used = {*re.findall(r"\w+", "".join(path.read_text() for path in paths))}
    assert names and not {*names} - used


def test_make_says_what_it_makes() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):(?! export)", text, re.M))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    assert targets == {*phony.split()}
    assert targets - {"help"} == set(re.findall(r'@echo "make ([\w-]+) ', text))
    named = {name for page in PAGES.values() for name in re.findall(r"`make ([\w-]+)", page)}
    assert named <= targets


def test_extras_named_in_texts_are_there() -> None:
    named = {
        name
        for page in PAGES.values()
        for found in re.findall(r"maskdsl\[([\w,]+)\]", page)
        for name in found.split(",")
    }
    assert named and named <= EXTRAS.keys()
    assert {*re.findall(r"\w+", EXTRAS["dev"][0])} == {"maskdsl", *EXTRAS} - {"dev", "vllm"}  # it pins a torch


def test_what_is_imported_is_declared() -> None:
    """By the project, or by an extra of it."""
    imported: set[str] = set()
    for path in (ROOT / "maskdsl").rglob("*.py"):
        for each in ast.walk(ast.parse(path.read_text())):
            match each:
                case ast.Import():
                    imported |= {alias.name.split(".")[0] for alias in each.names}
                case ast.ImportFrom(module=str(module)):
                    imported.add(module.split(".")[0])
    given = [PROJECT["dependencies"], *(needs for name, needs in EXTRAS.items() if name != "dev")]
    declared = {re.split(r"[^\w-]", need)[0].lower() for needs in given for need in needs}
    assert {CALLED.get(name, name) for name in imported - sys.stdlib_module_names - {"maskdsl"}} <= declared


def test_gpus_of_predictions_are_named() -> None:
    names = [each.name for each in DEVICES]
    told = " ".join((maskdsl.Mask.predict.__doc__ or "").split())
    assert f"{', '.join(names[:-1])} and {names[-1]}" in told
