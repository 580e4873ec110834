"""What no query attends is never read: pages that a window has left, and those of others behind the last key."""

from typing import Any

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.decode.live_span import live_span

TEXT = """
pattern window(n = 3000, size = 40) { space t[n]  attend causal and backward(size) }
pattern sinks(n = 3000, size = 40) { space t[n]  attend causal and (backward(size) or k < 5) }
pattern strided(n = 3000) { space t[n]  attend causal and backward(200) and (q - k) % 7 == 0 }
pattern byhead(n = 3000) { space t[n]  attend causal and backward(20 + 30 * head) }
"""
MODULE = maskdsl.parse(TEXT)
BACKENDS = usable_backends()
HEADS, DIM = 4, 16


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(MODULE))
@pytest.mark.parametrize("cached", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("size", [16, 5])
@pytest.mark.thinned(3, "backend", "name", "cached", "count", "size")
def test_pages_of_others_are_not_read(name: str, backend: str, cached: torch.dtype, count: int, size: int) -> None:
    """All entries of the table but those of attended keys name a page of NaN.

    The result has the same bits, but if the kernel in C loads
    keys of several pages together, which it then computes again otherwise.
    """
    mask, many = MODULE[name].bind(heads=HEADS), -(-3000 // size)
    pages = torch.randn(2, 2 * many + 1, 2, size, DIM).to(cached)
    pages[:, -1] = torch.nan
    table = torch.randperm(2 * many).view(2, many)
    starts = torch.tensor([2000, 1203])
    where: dict[str, Any] = {"query_start": starts, "key_lengths": starts + count}
    q, attention = torch.randn(2, HEADS, count, DIM), mask.compile(backend)
    expected = attention(q, *pages, page_table=table, **where)
    stale = torch.full_like(table, 2 * many)
    for entry, start in enumerate(starts.tolist()):
        rows = [mask.dense(head=head)[start : start + count] for head in range(HEADS)]
        alive = np.unique(np.flatnonzero(np.any(rows, axis=(0, 1))) // size)
        stale[entry, alive] = table[entry, alive]
    assert (stale == 2 * many).sum() > many
    out = attention(q, *pages, page_table=stale, **where)
    if size == 16 or backend != "native":
        assert torch.equal(out, expected)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("name", list(MODULE))
def test_spans_have_all_attended_keys(name: str) -> None:
    mask = MODULE[name].bind(heads=HEADS)
    compiled, dense = mask.compile("tiled")._compiled, mask.dense(head=3)
    for start, count, keys in ((0, 1, 3000), (63, 2, 3000), (2999, 1, 3000), (700, 130, 1000), (500, 3, 120)):
        first, most = live_span(compiled, [start], count, keys)
        attended = np.flatnonzero(dense[start : start + count, :keys].any(axis=0))
        assert first >= 0 and first + most <= keys
        assert not len(attended) or (first <= attended.min() and attended.max() < first + most)
        if name == "window" and start == 2999:
            assert most <= 256


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(MODULE))
def test_every_position_of_a_long_cache(name: str, backend: str) -> None:
    """Also beside an entry that is elsewhere."""
    mask = MODULE[name].bind(heads=HEADS)
    k, v = torch.randn(2, 2, 2, 3000, DIM)
    attention, reference = mask.compile(backend), mask.compile("reference")
    for start in (0, 63, 64, 255, 256, 1023, 1500, 2047, 2996):
        starts = torch.tensor([start, 2996 - start])
        q = torch.randn(2, HEADS, 4, DIM)
        where: dict[str, Any] = {"query_start": starts, "key_lengths": starts + 4}
        torch.testing.assert_close(attention(q, k, v, **where), reference(q, k, v, **where))
