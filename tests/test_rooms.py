"""The folders of the product: small, each with a sentence of what belongs there, and names that mean one thing."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.public_names import idle_public_names

PACKAGE = Path(__file__).parents[1] / "maskdsl"
LINKS = {PACKAGE / "codegen", PACKAGE / "grammar", PACKAGE / "example_files"}
"""Folders that stand beside `maskdsl`."""
FOLDERS = [PACKAGE, *sorted({path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE} - LINKS)]
SIBLINGS = 15
"""As many at most, beside what people import by name."""
IMPORTED = {PACKAGE: {"inputs", "nn", "testing"}}
SHARED = {"base", "inputs", "patterns"}
"""Names of modules in several folders, which mean the same in each."""


def siblings(folder: Path) -> list[str]:
    """Modules and folders of modules, `__init__` and links aside."""
    modules = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")]
    return modules + [path.name for path in folder.iterdir() if path in FOLDERS and path not in LINKS]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE.parent).as_posix())
def test_folders_are_small_and_say_what_they_are(folder: Path) -> None:
    assert len(set(siblings(folder)) - IMPORTED.get(folder, set())) <= SIBLINGS
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert said and said.rstrip().endswith(".")


MOST_LINES = {"maskdsl": 400, "codegen": 400, "tests": 500, "benchmarks": 500}
LONGER = {
    "codegen/forward.py": "one generated module, which is read and filled whole",
    "codegen/tiled.py": "one generated module, which is read and filled whole",
    "tests/independent/meaning.py": "the second evaluator, read from top to bottom beside the page of the language",
    "tests/independent/mutant_list.py": "a table",
}
"""Why these files are longer."""


def test_files_are_short() -> None:
    root = PACKAGE.parent
    files = {path.relative_to(root).as_posix(): path for top in MOST_LINES for path in (root / top).rglob("*.py")}
    lines = {name: path.read_text().count("\n") for name, path in files.items()}
    assert {name for name, count in lines.items() if count > MOST_LINES[name.split("/")[0]]} == {*LONGER}


def test_names_of_modules_mean_one_thing() -> None:
    """In the catalogue of errors modules are named for the subject that their errors have."""
    names = Counter(name for folder in FOLDERS if "errors" not in folder.parts for name in siblings(folder))
    assert {name for name, count in names.items() if count > 1} == SHARED


def test_names_of_classes_mean_one_thing() -> None:
    names = Counter(
        node.name.lstrip("_")
        for path in PACKAGE.rglob("*.py")
        if path.parent not in LINKS
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]


def test_names_are_public_where_another_module_uses_them() -> None:
    assert idle_public_names() == []


MAP = (PACKAGE.parent / "docs" / "compiler.md").read_text()
ANSWERS = re.findall(r"^\| (.*?) \| `([^`]+)` in \[`([^`]+)`\]\((\S+)\) \|$", MAP.split("## Where is")[1], re.M)


def test_the_map_answers_twenty_questions() -> None:
    assert len(ANSWERS) >= 20


@pytest.mark.parametrize(("question", "name", "file", "link"), ANSWERS)
def test_answers_of_the_map_are_there(question: str, name: str, file: str, link: str) -> None:
    assert link == f"../{file}"
    assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", (PACKAGE.parent / file).read_text())


def test_the_map_has_every_room() -> None:
    rooms = {folder for folder in FOLDERS if folder.parent == PACKAGE}
    rows = MAP.split("| room | makes | rooms inside |")[1].split("\n\n")[0]
    for room in rooms:
        (row,) = (row for row in rows.splitlines() if f"`maskdsl/{room.name}`" in row)
        inside = {folder.name for folder in FOLDERS if folder.parent == room}
        assert inside <= {*re.findall(r"`(\w+)`", row)}, room


GLOSSARY = (PACKAGE.parent / "docs" / "glossary.md").read_text()


@pytest.mark.parametrize("path", sorted({*re.findall(r"`((?:maskdsl|codegen)/[\w/.]*)`", GLOSSARY)}))
def test_places_of_the_glossary_are_there(path: str) -> None:
    assert (PACKAGE.parent / path).exists()
