"""The longest range of keys that some consecutive queries attend, against all pairs."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.closed.live_range import longest_range
from maskdsl.emit.plan import make_plan

PATTERNS = maskdsl.parse(
    """
    pattern dense(n = 37) { space t[n]  attend t -> t }
    pattern causal(n = 37) { space t[n]  attend causal }
    pattern window(n = 37) { space t[n]  attend window(9) and causal }
    pattern behind(n = 37) { space t[n]  attend q - k >= 5 and q - k < 16 }
    pattern blocks(n = 37) { space t[n]  attend q // 6 == k // 6 }
    pattern falls(n = 37) { space t[n]  attend k <= 36 - q }
    pattern shorter(n = 37, m = 20) { space t[n]  space c[m]  queries t  keys c  attend abs(q - 2 * k) < 9 }
    """
)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("queries", [1, 4, 50])
def test_ranges_of_all_queries(name: str, queries: int) -> None:
    mask = PATTERNS[name].bind()
    limits = make_plan(mask.ir).limits_of_all_heads
    assert limits is not None
    pairs = mask.dense()
    rows = (pairs[first : first + queries].any(axis=0).nonzero()[0] for first in range(len(pairs)))
    lengths = [keys[-1] - keys[0] + 1 if len(keys) else 0 for keys in rows]
    assert longest_range(mask.ir, limits, queries) == np.max(lengths)


def test_a_window_that_sees_nothing() -> None:
    mask = maskdsl.parse("pattern late(n = 8) { space t[n]  attend k - q > 20 }")["late"].bind()
    limits = make_plan(mask.ir).limits_of_all_heads
    assert limits is None or longest_range(mask.ir, limits, 2) == 0
