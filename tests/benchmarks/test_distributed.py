"""`benchmarks/distributed.py`: what is on record, and one case counted again."""

import json

import pytest

from benchmarks import distributed

RECORD = json.loads(distributed.RESULTS.read_text())


def test_every_case_is_on_record() -> None:
    assert RECORD.keys() == distributed.CASES.keys()
    assert all(each.keys() == {*map(str, distributed.RANKS)} for each in RECORD.values())


@pytest.mark.parametrize("name", distributed.CASES)
def test_no_scheme_of_others_is_cheaper(name: str) -> None:
    assert all(each["score"] <= each["other score"] for each in RECORD[name].values())


def test_the_page_has_what_is_on_record() -> None:
    text = distributed.PAGE.read_text()
    assert distributed.page(text, RECORD) == text


def test_bars() -> None:
    """Of global rows; and of planning anew, in seconds."""
    assert RECORD["BigBird, blocks of 128"]["512"]["score"] <= 5.6
    assert RECORD["Longformer 4,096 and 16 globals"]["512"]["score"] <= 2
    assert all(RECORD[name]["64"]["planning anew"] <= 0.06 for name, (_, median) in distributed.CASES.items() if median)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "dilated window" else pytest.mark.long) for n in distributed.CASES]
)
def test_plans_are_those_on_record(name: str) -> None:
    for ranks, each in distributed.measured(*distributed.CASES[name]).items():
        known = RECORD[name][ranks]
        assert {key: each[key] for key in ("scheme", "score", "most received", "other score")} == {
            key: known[key] for key in ("scheme", "score", "most received", "other score")
        }
