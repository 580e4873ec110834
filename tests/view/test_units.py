"""Numbers as they are written for people."""

import pytest

from maskdsl.view import units


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (units.count(1048576), "1,048,576"),
        (units.about(0), "0"),
        (units.about(999), "999"),
        (units.about(8589934592, "FLOP"), "8.59 GFLOP"),
        (units.about(1e27, "FLOP"), "1000000000 EFLOP"),
        (units.size(512), "512 B"),
        (units.size(1536), "1.50 KiB"),
        (units.size(51_171_328), "48.8 MiB"),
        (units.percent(0), "0 %"),
        (units.percent(1), "100 %"),
        (units.percent(0.125), "12.5 %"),
        (units.percent(1e-9), "< 0.001 %"),
        (units.percent(0.9999999), "99.999 %"),
        (units.times(float("inf")), "no bound"),
        (units.times(1.6749), "1.67 x"),
        (units.duration(2), "2 s"),
        (units.duration(0.01234), "12.3 ms"),
        (units.duration(2e-9), "2 ns"),
        (units.numbers([0, 1, 2, 3, 6]), "0-3, 6"),
        (units.numbers([5]), "5"),
    ],
)
def test_units(found, expected):
    assert found == expected
