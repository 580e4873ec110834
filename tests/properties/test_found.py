"""Patterns that random ones have shown to be handled wrongly once, each as small as it could be made."""

import pytest

from maskdsl.testing import RandomPattern
from tests.support.found import FOUND, found_case
from tests.support.properties import check_backends, check_layout, check_round_trip, check_stats, check_tiles


@pytest.mark.parametrize("body", FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("block", [(2, 3), (64, 64)])
def test_found(body: str, block: tuple[int, int]) -> None:
    call = found_case(body, block)
    check_round_trip(call[0].pattern)
    check_tiles(call[0])
    check_stats(call[0])
    check_backends(*call)
    check_layout(*call)


def test_any_name_for_the_parameter_of_a_macro() -> None:
    text = (
        "def near(self, frame) = abs(q - k) <= self + frame pattern random_pattern() { space a[9] attend near(1, 2) }"
    )
    assert RandomPattern(text).bind().dense().sum() == 9 * 7 - 2 * (1 + 2 + 3)
