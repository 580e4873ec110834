"""The examples against their sources."""

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest

import maskdsl
from benchmarks.gallery_page import compared
from tests.catalogue import routing_sources, sources
from tests.catalogue.compared import EXAMPLES, Attends, Computes, Row, Selects

ROWS: list[Row] = [
    row
    for package in (sources, routing_sources)
    for module in iter_modules(package.__path__)
    for row in import_module(f"{package.__name__}.{module.name}").ROWS
]
ATTENDS = [row for row in ROWS if isinstance(row, Attends)]
COMPUTES = [row for row in ROWS if isinstance(row, Computes)]
SELECTS = [row for row in ROWS if isinstance(row, Selects)]


def in_turn(rows: Iterable[Row]) -> Iterator[object]:
    """Every second row of each pattern, from the first on; the others in `make test-long`."""
    seen = Counter[tuple[str, str]]()
    for row in rows:
        yield pytest.param(row, marks=pytest.mark.long if seen[row.file, row.pattern] % 2 else ())
        seen[row.file, row.pattern] += 1


@pytest.mark.parametrize("row", [*in_turn([*ATTENDS, *SELECTS])], ids=str)
def test_pairs(row: Attends | Selects) -> None:
    row.check()


@pytest.mark.thinned(2, "row", "backend")
@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("row", COMPUTES, ids=str)
def test_outputs_and_gradients(row: Computes, backend: str) -> None:
    row.check(backend)


@pytest.mark.thinned(2, "row", "backend")
@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("row", SELECTS, ids=str)
def test_outputs_over_selected_pairs(row: Selects, backend: str) -> None:
    row.check_outputs(backend)


@pytest.mark.parametrize("row", {(row.file, row.pattern): row for row in ROWS}.values(), ids=str)
def test_examples_name_what_they_are_compared_with(row: Row) -> None:
    pattern = maskdsl.load(EXAMPLES / f"{row.file}.attn")[row.pattern]
    assert compared(pattern.doc) == row.named


ALONG_CURVES = {("vision/hilbert_window", "hilbert_window")}
"""`test_examples.py` says what is asked of it, whatever the curve."""


def test_every_example_that_names_a_source_is_compared_with_it() -> None:
    rows = {(row.file, row.pattern) for row in ROWS}
    named = {
        (f"{file.parent.name}/{file.stem}", name)
        for file in EXAMPLES.rglob("*.attn")
        for name, pattern in maskdsl.load(file).items()
        if compared(pattern.doc)
    }
    assert named - ALONG_CURVES == rows
