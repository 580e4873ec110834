"""Bands of keys, against the dense meaning of each pattern."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.reach.key_bands import KeyBand, key_band

pytestmark = pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")

PATTERNS = {
    "causal": (299, 0),
    "all -> all": (299, 299),
    "k <= q + 2": (299, 2),
    "window(9)": (4, 4),
    "backward(5)": (4, 0),
    "k >= q and k < q + 5": (0, 4),
    "q == k": (0, 0),
    "q - k <= 260 and k - q <= 3": None,  # the query in the middle reaches the first key
    "window(9) and dilated(2)": None,
    "causal or k < 3": None,
    "k // 4 <= q // 4": None,
    "backward(4 * (head + 1))": None,
    "window(9) and q > 3": None,
    "q + k < 300": None,
    "q > 200": None,
}


def band(attends, n):
    mask = maskdsl.parse(f"pattern some(n) {{ space tokens[n] attend {attends} }}")["some"].bind(n=n, heads=2)
    return mask, key_band(mask.ir, {})


@pytest.mark.parametrize("attends", PATTERNS)
def test_bands(attends):
    _, result = band(attends, 300)
    wanted = PATTERNS[attends]
    assert result == (wanted and KeyBand(300, *wanted))


@pytest.mark.parametrize("n", [3, 4, 7, 64])
@pytest.mark.parametrize("attends", PATTERNS)
def test_what_is_a_band_attends_its_pairs(attends, n):
    mask, result = band(attends, n)
    if result is not None:
        behind = np.arange(n)[:, None] - np.arange(n)
        pairs = (behind <= result.before) & (behind >= -result.after)
        assert (mask.dense(head=0) == pairs).all() and (mask.dense(head=1) == pairs).all()
        assert result.pairs == pairs.sum()
        assert result.is_full == pairs.all()
        assert result.is_causal == (pairs == np.tri(n, dtype=bool)).all()


def test_inputs_decide():
    text = "pattern some(n) { space tokens[n] input document: int[tokens] attend causal and same(document) }"
    mask = maskdsl.parse(text)["some"].bind(n=20)
    assert key_band(mask.ir, {"document": np.zeros(20, np.int32)}) == KeyBand(20, 19, 0)
    assert key_band(mask.ir, {"document": np.arange(20) // 7}) is None
    with pytest.raises(maskdsl.AttnError):
        key_band(mask.ir, {})


def test_an_order_changes_nothing():
    text = "pattern some(n) { space tokens[n] attend causal order by -i }"
    assert key_band(maskdsl.parse(text)["some"].bind(n=20).ir, {}) == KeyBand(20, 19, 0)
