"""Random programs and every example: four processes compute what one does, and receive what the plan says."""

from itertools import islice

import pytest

from tests.distributed.one_and_many import Outcome, outcomes
from tests.distributed.sharded_cases import drawn_programs, every_example, small_examples

PROGRAMS = 3_000_000
"""The seed of the first random program; others are of the campaign."""


def _check(found: dict[str, Outcome]) -> None:
    wrong = {name: each for name, each in found.items() if not each.is_right}
    assert not wrong


def test_some_examples_and_programs() -> None:
    _check(outcomes([*small_examples(), *islice(drawn_programs(PROGRAMS), 8)]))


@pytest.mark.long
def test_every_example() -> None:
    _check(outcomes(list(every_example(1))))


@pytest.mark.long
def test_random_programs() -> None:
    _check(outcomes(list(islice(drawn_programs(PROGRAMS), 60))))
