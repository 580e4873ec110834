"""T5's buckets of the standard library, against the function of transformers."""

import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

import maskdsl
from maskdsl.ir.meaning.evaluate import Pairs

TEXT = """
pattern both_ways(n, buckets, distance) {
    space tokens[n]
    attend all -> all
    score float(t5_bucket(k - q, buckets, distance))
}
pattern backward_only(n, buckets, distance) {
    space tokens[n]
    attend all -> all
    score float(t5_bucket_causal(k - q, buckets, distance))
}
pattern usual(n) {
    space tokens[n]
    attend all -> all
    score float(t5_bucket(k - q) * 100 + t5_bucket_causal(k - q))
}
"""
MODULE = maskdsl.parse(TEXT)


def of_all_distances(name: str, reach: int, **values: int) -> np.ndarray:
    """Of the relative positions -reach to reach."""
    mask = MODULE[name].bind(n=2 * reach + 1, **values)
    keys = np.arange(2 * reach + 1)
    pairs = Pairs(mask.ir, np.full_like(keys, reach), keys)
    return pairs.evaluate(mask.ir.scores[0], np.asarray(True), np.zeros(len(keys)))


def published(reach: int, buckets: int, distance: int, bidirectional: bool) -> np.ndarray:
    relative = torch.arange(-reach, reach + 1)
    return T5Attention._relative_position_bucket(relative, bidirectional, buckets, distance).numpy()


SIZES = [(32, 128), (32, 100), (16, 64), (20, 77), (64, 1000), (8, 20), (12, 64), (4, 3), (7, 40), (320, 800)]


@pytest.mark.parametrize(("buckets", "distance"), SIZES)
def test_buckets_are_the_published_ones(buckets: int, distance: int) -> None:
    reach = 2 * distance + 9
    for name, bidirectional in (("both_ways", True), ("backward_only", False)):
        found = of_all_distances(name, reach, buckets=buckets, distance=distance)
        np.testing.assert_array_equal(found, published(reach, buckets, distance, bidirectional))


def test_defaults_are_those_of_t5() -> None:
    expected = published(300, 32, 128, True) * 100 + published(300, 32, 128, False)
    np.testing.assert_array_equal(of_all_distances("usual", 300), expected)
