"""What a call costs that is like an earlier one: the Python functions that run before the generated ones."""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import torch
from ahead import Recorder
from torch.utils._python_dispatch import TorchDispatchMode

import maskdsl
from maskdsl.analysis.cost.tile_table import TileChoice
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends import triton_backend
from maskdsl.runtime.backends.native.library import library
from maskdsl.runtime.compiled.mask_calls import MOST_CACHED
from maskdsl.runtime.kernels import dispatch

needs_compiler = pytest.mark.skipif(library() is None, reason="no C compiler works here")

WINDOW = maskdsl.parse("pattern w(n = 256) { space t[n] attend window(33) }")["w"].bind(heads=2)
DOCUMENTS = maskdsl.parse("pattern d(n = 256) { space t[n] input doc: int[batch, t] attend same(doc) }")["d"].bind(
    heads=2
)
Q, K, V = (torch.randn(1, 2, 256, 16) for _ in range(3))


def frames(call: Callable[[], object]) -> int:
    """Python functions that run in the second call, until the first of a generated module does, if one does."""
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
    return next((n for n, name in enumerate(names) if name.startswith("maskdsl_generated")), len(names))


def test_a_call_of_a_window() -> None:
    attention = WINDOW.compile("tiled")
    assert frames(lambda: attention(Q, K, V)) <= 24


def test_a_call_of_documents() -> None:
    attention, doc = DOCUMENTS.compile("tiled"), torch.zeros(1, 256, dtype=torch.int64)
    assert frames(lambda: attention(Q, K, V, doc=doc)) <= 60


def test_a_decoded_token() -> None:
    attention = WINDOW.compile("tiled")
    assert frames(lambda: attention(Q[:, :, :1], K, V, query_start=255)) <= 62


@needs_compiler
def test_a_token_decoded_by_the_kernel_in_c() -> None:
    attention = WINDOW.compile("native")
    assert frames(lambda: attention(Q[:, :, :1], K, V, query_start=255, key_lengths=256)) <= 56


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """The forward kernel of WINDOW: it is started on tensors of any device, and does nothing."""
    monkeypatch.setattr(triton_backend, "check", lambda q, v: None)
    monkeypatch.setattr(triton_backend.Launch, "choose", lambda *_: TileChoice(64, 64, 4, 2))
    kernel = Recorder()
    monkeypatch.setattr(compiled()._compiled.default_kernel.module, "forward_kernel", kernel)
    yield kernel


def compiled() -> Attention:
    return WINDOW.compile("triton")


def test_a_call_of_a_kernel(recorder: Recorder) -> None:
    attention = compiled()
    assert frames(lambda: attention(Q, K, V)) <= 24


def test_what_is_kept_of_a_call_does_not_decide_the_next_one(recorder: Recorder) -> None:
    attention = compiled()
    attention(Q, K, V)
    assert (recorder.arguments[0], recorder.options["PRECISION"]) == (Q, "ieee")
    assert recorder.arguments[5:8] == (0, Q.stride(1) // 8, Q.stride(2) // 8)  # in units; there is one batch entry
    swapped = Q.transpose(1, 2).contiguous().transpose(1, 2)
    assert attention(swapped, K, V, return_lse=True)[1].shape == Q.shape[:3]
    assert recorder.arguments[0] is swapped
    assert recorder.arguments[5:8] == (0, swapped.stride(1) // 8, swapped.stride(2) // 8)
    assert swapped.stride() != Q.stride()
    attention(Q.double(), K.double(), V.double())
    assert recorder.arguments[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("owner", "name", "value", "expected"),
    [
        (torch.backends.cuda.matmul, "allow_tf32", True, "tf32"),
        (torch.backends.cuda.matmul, "fp32_precision", "tf32", "tf32"),
        (torch.backends.mkldnn.matmul, "fp32_precision", "bf16", "ieee"),
    ],
)
def test_products_are_as_exact_as_torch_is_told_now(
    recorder: Recorder, owner: Any, name: str, value: object, expected: str
) -> None:
    attention, tiled = compiled(), WINDOW.compile("tiled")
    before = getattr(owner, name)
    attention(Q, K, V)
    assert recorder.options["PRECISION"] == "ieee"
    setattr(owner, name, value)
    try:
        attention(Q, K, V)
        tiled(Q, K, V)
    finally:
        setattr(owner, name, before)
    assert recorder.options["PRECISION"] == expected
    attention(Q, K, V)
    assert recorder.options["PRECISION"] == "ieee"


def test_few_kinds_of_calls_are_kept(recorder: Recorder) -> None:
    attention = compiled()
    for batch in range(1, MOST_CACHED + 20):
        attention(*[x.expand(batch, -1, -1, -1) for x in (Q, K, V)])
        assert len(attention._compiled.prepared_calls) <= MOST_CACHED


def test_nothing_is_kept_of_calls_that_the_batch_decides() -> None:
    """They have a state for every number of entries, of which the last few are kept."""
    attention = maskdsl.parse("pattern p(n = 8) { space t[n] attend q <= k + batch }")["p"].bind().compile("tiled")
    for batch in range(1, 20):
        attention(*[torch.randn(batch, 1, 8, 4) for _ in range(3)])
    assert len(attention._compiled.states.states) <= attention._compiled.states.LIMIT
    assert not attention._compiled.prepared_calls


class Seen(TorchDispatchMode):
    """Keeps the names of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


def test_modes_and_views_of_torch_are_not_passed_by() -> None:
    attention = WINDOW.compile("tiled")
    plain = attention(Q, K, V)
    with Seen() as seen:
        assert torch.equal(attention(Q, K, V), plain)
    assert "maskdsl::attention" in seen.names
    assert torch.equal(attention(torch._neg_view(-Q), K, V), plain)  # type: ignore[attr-defined]


def test_what_calls_share_is_no_tensor_of_inference_mode():
    """The empty log-sum-exp of a first call in inference mode is that of later calls, which may record."""
    attention = maskdsl.parse("pattern p(n) { space t[n] attend causal }")["p"].bind(n=7).compile("tiled")
    q, call = torch.randn(1, 1, 7, 8), torch.ops.maskdsl.attention.default
    dispatch._no_lse.cache_clear()
    with torch.inference_mode():
        call(q, q, q, [], attention._single.handle.name, "declared", False)
    assert not call(q, q, q, [], attention._single.handle.name, "declared", False)[1].is_inference()
