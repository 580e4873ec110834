"""The field's words, as docs/glossary.md has them, in place of words of our own: names in the code, and the pages."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [
    *sorted((ROOT / "codegen").glob("*.py")),
    *sorted(
        path for path in (ROOT / "maskdsl").rglob("*.py") if not {"codegen", "grammar", "example_files"} & {*path.parts}
    ),
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    "soften": "online_softmax_step",
    "decay": "rescale",
    "slope": "ds, or a derivative",
    "sent": "a contribution",
    "place": "a position, an offset or a span",
    "found": "what it is: routed, a result, errors",
    "own": "whose it is",
    "few": "gathered",
    "variant": "a head class",
    "rung": "a tile choice",
    "recipe": "a compiled mask",
    "part": "operands, partial results, contributions",
}
"""What names said in place of the field's word, and what they say now."""
WORD = re.compile(rf"({'|'.join(ELSEWHERE)})s?")
DISTRIBUTED = ROOT / "maskdsl" / "distributed"
"""Where `sent` is what a process sends."""
ERRORS = ROOT / "maskdsl" / "base" / "errors"
"""Where `found` is what was found in place of what is expected."""


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Those that a module gives."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


def split(name: str) -> list[str]:
    return [each.lower() for each in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


FOLDERS = sorted({path.parent for path in CODE if not path.is_relative_to(ERRORS)})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_names_are_the_words_of_the_field(folder: Path) -> None:
    fit = {"sent"} if folder.is_relative_to(DISTRIBUTED) else set()
    given = [
        (path.name, name, line)
        for path in CODE
        if path.parent == folder
        for name, line in names(ast.parse(path.read_text()))
        if name not in fit and any(map(WORD.fullmatch, split(name)))
    ]
    assert not given, given


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_have_the_words_of_the_field(path: Path) -> None:
    plain = re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", path.read_text(), flags=re.S))
    assert not re.findall(r"\b(?:soften|variants?|rungs?|recipes?)\b", plain)
