"""The exact runs of every query and of every key, against all pairs."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.runs.token_runs import token_runs
from maskdsl.ir.expressions import Side
from tests.support.engine_cases import OF_EVERY_FILE, cases_of


@pytest.mark.thinned(4, "file", "side")
@OF_EVERY_FILE
@pytest.mark.parametrize("side", [Side.QUERY, Side.KEY])
def test_runs(file: str, side: Side) -> None:
    for case in cases_of(file):
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


LONG = {
    "causal": "attend causal and same(d)",
    "both_sides": "attend same(d) and window(300)",
    "first_keys": "attend causal and same(d) and (backward(100) or k < 40)",
    "dilated": "attend causal and (q - k) % 3 == 0 and same(d)",
    "sums": "attend q + k < n and (q + k) % 64 < 40",
    "extremes": "attend min(q - k, k + 70 - q) >= 0 or max(q, k) < 200",
    "blocks": "attend q // 100 >= k // 70",
    "table": "attend keep[q // 64, k // 64] and causal",
    "floats": "attend x[q] + 0.25 * (q - k) >= x[k] and window(40)",
    "levels": "attend abs(d[q] - d[k]) <= 1 and causal",
    "products": "attend causal and q * k % 5 < 3 and backward(200)",
    "every_other": "attend causal and (same(d) or q % 16 == 0)",
}


@pytest.mark.parametrize("side", [Side.QUERY, Side.KEY])
@pytest.mark.parametrize("name", LONG)
def test_pairs_of_nodes_that_attend_alike(name: str, side: Side) -> None:
    """Long masks, most of whose nodes are like others: each is solved once, and copied."""
    inputs = "input d: int[t] input x: float[t] input keep: bool[n // 64 + 1, n // 64 + 1]"
    text = f"pattern p(n) {{ space t[n] {inputs} {LONG[name]} }}"
    random = np.random.default_rng(0)
    for length in (2048, 3001):
        mask = maskdsl.parse(text)["p"].bind(n=length)
        given = {
            "d": np.cumsum(random.random(length) < 1 / 250),
            "x": np.repeat(random.integers(0, 3, length // 32 + 1), 32)[:length] / 2,
            "keep": random.random((length // 64 + 1, length // 64 + 1)) < 0.5,
        }
        given = {each.name: given[each.name] for each in mask.inputs if each.name in given}
        runs = token_runs(mask.ir, given, side=side).head_classes[0]
        attended = mask.dense(**given)
        attended = attended if side is Side.QUERY else attended.T
        assert np.array_equal(runs.dense(length), attended)
        assert (runs.end[:-1] < runs.start[1:])[runs.row[:-1] == runs.row[1:]].all()
