"""The exact runs of every query and of every key, against all pairs."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.runs.token_runs import token_runs
from maskdsl.ir.expressions import Side
from tests.support.engine_cases import cases


@pytest.mark.parametrize("side", [Side.QUERY, Side.KEY])
def test_runs(side: Side) -> None:
    assert len(cases()) > 60
    for case in cases():
        for batch in range(case.entries):
            runs = token_runs(case.mask.ir, case.inputs, batch, side)
            for number, attended in zip(runs.class_of_head, case.dense[batch], strict=True):
                attended = attended if side is Side.QUERY else attended.T
                of_head = runs.head_classes[number]
                assert np.array_equal(of_head.dense(attended.shape[1]), attended), (case.name, batch)
                assert (of_head.end[:-1] < of_head.start[1:])[of_head.row[:-1] == of_head.row[1:]].all()


@pytest.mark.parametrize("size", [1, 1000, 1024, 5000])
def test_a_long_window_repeats(size: int) -> None:
    """Its partial tiles are refined once, and copied."""
    length = 1 << 17
    mask = maskdsl.parse("pattern p(n, size) { space t[n] attend causal and backward(size) }")["p"]
    runs = token_runs(mask.bind(n=length, size=size).ir, {}).head_classes[0]
    query = np.arange(length)
    assert np.array_equal(runs.start, np.maximum(query - size + 1, 0))
    assert np.array_equal(runs.end, query + 1)
