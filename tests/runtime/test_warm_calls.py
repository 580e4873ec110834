"""What a call costs that is like an earlier one: the Python functions that run before the generated ones."""

import sys
from collections.abc import Callable
from types import FrameType

import torch

import maskdsl

WINDOW = maskdsl.parse("pattern w(n = 256) { space t[n] attend window(33) }")["w"].bind(heads=2)
DOCUMENTS = maskdsl.parse("pattern d(n = 256) { space t[n] input doc: int[batch, t] attend same(doc) }")["d"].bind(
    heads=2
)
Q, K, V = (torch.randn(1, 2, 256, 16) for _ in range(3))


def frames(call: Callable[[], object]) -> int:
    """Python functions that run in the second call until the first of a generated module does."""
    call()
    names: list[str] = []

    def seen(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            names.append(frame.f_globals["__name__"])

    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(None)
    return next(n for n, name in enumerate(names) if name.startswith("maskdsl_generated"))


def test_a_call_of_a_window() -> None:
    attention = WINDOW.compile("tiled")
    assert frames(lambda: attention(Q, K, V)) <= 45


def test_a_call_of_documents() -> None:
    attention, doc = DOCUMENTS.compile("tiled"), torch.zeros(1, 256, dtype=torch.int64)
    assert frames(lambda: attention(Q, K, V, doc=doc)) <= 60


def test_a_decoded_token() -> None:
    attention = WINDOW.compile("tiled")
    assert frames(lambda: attention(Q[:, :, :1], K, V, query_start=255)) <= 70
