"""Terms of scores that depend on a distance alone: which they are, and their values."""

import math

import pytest

import maskdsl
from maskdsl.ir.facts.distance_terms import DistanceTerm, distance_terms


def terms(lines: str, n: int = 50) -> tuple[DistanceTerm, ...]:
    text = f"pattern p(n) {{ space t[n] input r: float[heads, 32] input x: float[t] attend all -> all {lines} }}"
    return distance_terms(maskdsl.parse(text)["p"].bind(n=n, heads=2).ir)


def bucket(distance: int, buckets: int, longest: int) -> int:
    """T5's, as its authors publish it."""
    half = buckets // 2
    exact = half // 2
    size = abs(distance)
    if size >= exact:
        rest = int(math.log(size / exact) / math.log(longest / exact) * (half - exact))
        size = min(exact + rest, half - 1)
    return size + half * (distance > 0)


def test_values_of_buckets() -> None:
    (term,) = terms("score s + r[head, t5_bucket(k - q, 32, 20)]")
    assert term.distances == (-49, 49)
    assert [*term.values] == [bucket(distance, 32, 20) for distance in range(-49, 50)]
    assert term.range == (0, 31)


def test_the_difference_may_be_of_either_sign() -> None:
    ahead, behind = (terms(f"score s + r[head, t5_bucket({each}, 32, 20)]")[0] for each in ("k - q", "q - k"))
    assert [*ahead.values] == [*behind.values[::-1]]


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_tables_are_as_long_as_there_are_distances(n: int) -> None:
    (term,) = terms("score s + r[head, t5_bucket(k - q, 32, 20)]", n)
    assert len(term.values) == 2 * n - 1


@pytest.mark.parametrize(
    "lines",
    [
        "score s + r[head, clamp(k - q + 16, 0, 31)]",  # takes no longer than a load
        "score s - 0.5 * abs(k - q)",
        "score s + r[head, t5_bucket(k - 2 * q, 32, 20)]",
        "score s + r[head, clamp(t5_bucket(k, 32, 20) + t5_bucket(q, 32, 20), 0, 31)]",
        "score s + x[clamp(k - q, 0, n - 1)]",
    ],
)
def test_other_terms_are_none(lines: str) -> None:
    assert terms(lines) == ()


def test_a_term_that_two_lines_read_is_one() -> None:
    lines = "score s + r[head, t5_bucket(k - q, 32, 20)] weight r[head, t5_bucket(k - q, 32, 20)]"
    assert len(terms(lines)) == 1
