"""Published sums of softmaxes: one pattern and one call each, against float64 code of their released models."""

import pytest

from tests.support.branched_papers import PAPERS


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("name", PAPERS)
def test_papers(name: str, backend: str) -> None:
    PAPERS[name].check(backend)
