"""The keys that later queries attend, against all pairs."""

import numpy as np
import pytest

import maskdsl
from tests.support.engine_cases import OF_EVERY_FILE, bound, cases_of


@pytest.mark.thinned(3, "file")
@OF_EVERY_FILE
def test_live_keys(file: str) -> None:
    for case in cases_of(file):
        attended = np.array(case.dense).any(axis=0)
        for position in (0, 1, case.mask.query_length // 2, case.mask.query_length):
            for head in (None, case.mask.heads - 1):
                runs = case.mask.live_keys(position, head=head, **case.inputs)
                assert runs.dtype == np.int64 and (runs[1:, 0] > runs[:-1, 1]).all()
                live = np.zeros(case.mask.key_length, dtype=bool)
                for start, end in runs:
                    live[start:end] = True
                of_heads = attended.any(axis=0) if head is None else attended[head]
                assert np.array_equal(live, of_heads[position:].any(axis=0))
                last = case.mask.last_queries(head=head, **case.inputs)
                assert last.dtype == np.int64 and np.array_equal(live, last >= position)


def test_what_a_cache_keeps_of_a_window() -> None:
    mask = bound("pattern p(n, size) { space t[n] attend causal and (k < 4 or backward(size)) }", n=1000, size=100)
    assert mask.live_keys(600).tolist() == [[0, 4], [501, 1000]]
    assert mask.last_queries().tolist() == [999] * 4 + [min(key + 99, 999) for key in range(4, 1000)]
    with pytest.raises(maskdsl.AttnError, match="E462"):
        mask.live_keys(1001)


def test_batch_entries_that_no_input_has() -> None:
    mask = bound("pattern p(n) { space t[n] input d: int[batch, t] attend k % 5 == batch and same(d) }", n=12)
    one, two = np.zeros((1, 12), dtype=int), np.zeros((2, 12), dtype=int)
    assert mask.live_keys(0, d=one).tolist() == [[0, 1], [5, 6], [10, 11]]
    assert mask.live_keys(0, batch=3, d=one).tolist() == [[0, 3], [5, 8], [10, 12]]
    last = [11 if key % 5 < 3 else -1 for key in range(12)]
    assert mask.last_queries(batch=3, d=one).tolist() == last
    keys = np.arange(12) % 5 == np.arange(3)[:, None]
    assert np.array_equal(mask.sdpa_mask(batch=3, d=one)[:, 0, 7].numpy(), keys)
    for wrong in (lambda: mask.live_keys(0, batch=3, d=two), lambda: mask.sdpa_mask(batch=3, d=two)):
        with pytest.raises(maskdsl.AttnError, match=r"E460.*`batch` is 3\n.*give 2, as the inputs have"):
            wrong()
