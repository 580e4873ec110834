"""Slices, decoded, are the dense mask; of the masks that they are for there are as few as can be."""

from functools import cache
from itertools import product

import numpy as np
import pytest

import maskdsl
from tests.support.engine_cases import OF_EVERY_FILE, bound, cases_of
from tests.support.engine_decoders import of_slices


@pytest.mark.thinned(3, "file")
@OF_EVERY_FILE
def test_slices(file: str) -> None:
    for case in cases_of(file):
        size = case.mask.query_length, case.mask.key_length
        for batch in range(case.entries):
            attended = case.dense[batch]
            for head, each in enumerate(attended):
                made = case.mask.slices(head, batch=batch, **case.inputs)
                assert [array.dtype for array in made] == [np.int32, np.int32, np.int8]
                assert np.array_equal(of_slices(*made, *size), each)
            if any((each != attended[0]).any() for each in attended):
                with pytest.raises(maskdsl.AttnError, match="E653"):
                    case.mask.slices(batch=batch, **case.inputs)
            else:
                assert len(case.mask.slices(batch=batch, **case.inputs)[0]) == len(made[0])


def fewest(attended: np.ndarray) -> int:
    """The number of slices in the smallest disjoint cover, by search over all of them."""
    queries, keys = attended.shape
    inside = sum(1 << int(pair) for pair in np.flatnonzero(attended))
    possible = set()
    for q_start, k_start in product(range(queries), range(keys)):
        for q_end, k_end, kind in product(range(q_start + 1, queries + 1), range(k_start + 1, keys + 1), range(4)):
            ranges = np.array([[q_start, q_end]]), np.array([[k_start, k_end]]), np.array([kind])
            pairs = sum(1 << int(pair) for pair in np.flatnonzero(of_slices(*ranges, queries, keys)))
            if pairs and pairs & ~inside == 0:
                possible.add(pairs)
    by_pair = {bit: [each for each in possible if each >> bit & 1] for bit in range(queries * keys)}

    @cache
    def cover(left: int, most: int) -> bool:
        """Whether so many cover what is left."""
        if not left:
            return True
        first = (left & -left).bit_length() - 1
        return most > 0 and any(cover(left & ~each, most - 1) for each in by_pair[first] if each & ~left == 0)

    return next(count for count in range(len(by_pair) + 1) if cover(inside, count))


WINDOWS = "pattern p(n, size) { space t[n] attend causal and backward(size) }"
BOTH_SIDES = "pattern p(n, size) { space t[n] attend window(size) }"
PREFIX = "pattern p(n, size) { space t[n] attend causal or k < size }"
DOCUMENTS = "pattern p(n, size) { space t[n] attend causal and q // size == k // size }"
WHOLE_DOCUMENTS = "pattern p(n, size) { space t[n] attend q // size == k // size }"


@pytest.mark.parametrize("text", [WINDOWS, BOTH_SIDES, PREFIX, DOCUMENTS, WHOLE_DOCUMENTS])
@pytest.mark.parametrize(("n", "size"), [(4, 2), (5, 3), (6, 2), (6, 3), (6, 4)])
def test_as_few_as_can_be(text: str, n: int, size: int) -> None:
    mask = bound(text, n=n, size=size)
    assert len(mask.slices()[0]) == fewest(mask.dense())


def test_slices_of_known_masks() -> None:
    q_ranges, k_ranges, kinds = bound(WINDOWS, n=100, size=10).slices()
    assert q_ranges.tolist() == [[0, 10], [10, 100]] and k_ranges.tolist() == [[0, 10], [1, 100]]
    assert kinds.tolist() == [1, 3]
    q_ranges, k_ranges, kinds = bound(PREFIX, n=100, size=10).slices()
    assert q_ranges.tolist() == [[0, 10], [10, 100]] and k_ranges.tolist() == [[0, 10], [0, 100]]
    assert kinds.tolist() == [0, 1]
    assert bound(DOCUMENTS, n=90, size=9).slices()[2].tolist() == [1] * 10
    assert bound(WHOLE_DOCUMENTS, n=90, size=9).slices()[2].tolist() == [0] * 10
