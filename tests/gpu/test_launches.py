"""How kernels are started: compiled once for all lengths, and fit for CUDA graphs.

What is compiled shows without a GPU as well: Triton is told of one, and no kernel is started.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import maskdsl
from maskdsl.runtime.backends import tile_choice, triton_backend

triton = pytest.importorskip("triton")

EXAMPLES = Path(__file__).parents[2] / "examples"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = pytest.mark.skipif(triton_backend.interpreted(), reason="the interpreter compiles nothing")


@pytest.fixture
def misses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The names of the kernels that have been compiled, which no earlier run has left on disk."""
    compiled: list[str] = []

    def listen(*, src: Any, cache_hit: bool, **others: object) -> None:
        if not cache_hit:
            compiled.append(src.name)

    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    monkeypatch.setattr(triton.knobs.compilation, "listener", listen)
    if DEVICE.type != "cuda":
        pretend(monkeypatch)
    yield compiled


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are compiled for a GPU that is not here, and not started."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import CompiledKernel
    from triton.runtime.jit import JITFunction

    class Driver:
        def get_current_target(self) -> Any:
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

    run = JITFunction.run
    monkeypatch.setattr(JITFunction, "run", lambda self, *a, **o: run(self, *a, **{**o, "warmup": True}))
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver())
    monkeypatch.setattr(CompiledKernel, "run", None)  # nothing is loaded, as nothing is started
    monkeypatch.setattr(CompiledKernel, "n_spills", 0, raising=False)
    monkeypatch.setattr(tile_choice, "largest_shared_memory", lambda device: 227 * 1024)
    monkeypatch.setattr(triton_backend, "interpreted", lambda: True)


def call(pattern: maskdsl.Pattern, batch: int, heads: tuple[int, int], dim: int = 64, **lengths: int) -> None:
    """Forward and backward once."""
    mask = pattern.bind(heads=heads[0], **lengths)
    inputs = {
        each.name: torch.zeros([dimension.size or batch for dimension in each.dimensions], device=DEVICE).int()
        for each in mask.inputs
    }
    shapes = ((heads[0], mask.query_length), (heads[1], mask.given_key_length), (heads[1], mask.given_key_length))
    tensors = [torch.zeros(batch, *shape, dim, device=DEVICE).half().requires_grad_() for shape in shapes]
    out = mask.compile("triton")(*tensors, **inputs)
    torch.autograd.grad(out, tensors, torch.zeros_like(out))


CASES = [
    ("language/sliding_window.attn", "sliding_window", [{"n": 300, "size": 100}, {"n": 1024, "size": 100}]),
    ("language/packed.attn", "packed", [{"n": 4096}, {"n": 1}, {"n": 1000}]),
    ("vision/maxvit.attn", "block", [{"h": 14, "w": 14}, {"h": 16, "w": 28}]),
]
SPLIT = {"block": Counter(key_gradient_kernel=1, sum_kernel=2)}
"""Kernels of pieces, which are compiled once: many heads share the few key blocks of a small image."""


@pytest.mark.parametrize(("file", "name", "settings"), CASES)
def test_other_lengths_compile_nothing(file: str, name: str, settings: list[dict[str, int]], misses: list[str]) -> None:
    pattern = maskdsl.load(EXAMPLES / file)[name]
    call(pattern, 1, (2, 1), **settings[0])
    first = len(misses)
    assert set(misses) >= {"forward_kernel", "query_gradient_kernel", "key_gradient_kernel"}
    for number, lengths in enumerate(settings):
        for batch, heads in ((1, (2, 1)), (2, (4, 2)), (3, (16, 1))):
            call(pattern, batch, heads, **lengths)
            compiled = Counter(misses[first:])
            assert compiled <= SPLIT.get(name, Counter()), f"setting {number} at batch {batch} compiled {compiled}"
    call(pattern, 1, (2, 1), dim=32, **settings[0])
    assert "forward_kernel" in misses[first:]


def decode(pattern: maskdsl.Pattern, length: int, batch: int, heads: tuple[int, int]) -> None:
    """One token of each entry, the last one of a cache."""
    mask = pattern.bind(n=length, heads=heads[0])
    q, k = (torch.zeros(batch, *shape, 64, device=DEVICE).half() for shape in ((heads[0], 1), (heads[1], length)))
    mask.compile("triton")(q, k, k, query_start=torch.full((batch,), length - 1, device=DEVICE))


def test_other_caches_compile_nothing(misses: list[str]) -> None:
    """Two kernels serve them: one where several programs share the keys of a token, one where batches are large."""
    pattern = maskdsl.load(EXAMPLES / "language/streaming.attn")["streaming"]
    decode(pattern, 1000, 1, (2, 1))
    decode(pattern, 1000, 64, (16, 8))
    first = len(misses)
    assert sorted(misses) == ["decode_kernel", "decode_kernel", "merge_kernel"]
    for length in (1, 17, 4096):
        for batch, heads in ((1, (2, 1)), (2, (4, 2)), (64, (16, 8))):
            decode(pattern, length, batch, heads)
            assert len(misses) == first, f"{length} keys at batch {batch} compiled {misses[first:]}"


READS = ("cpu", "numpy", "item", "tolist", "__int__", "__float__", "__bool__", "__index__", "__array__")


def test_documents_stay_on_the_device(misses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The host reads no tensor, and so never waits: neither for tiles nor for checks of 32-bit integers."""

    def read(self: torch.Tensor, *arguments: object) -> None:
        raise AssertionError("the host reads a tensor")

    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, read)
    call(maskdsl.load(EXAMPLES / "language/packed.attn")["packed"], 2, (2, 1), n=300)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="no GPU")
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("language/causal", "causal_dense"),
        ("language/sliding_window", "sliding_window"),
        ("language/longformer", "longformer"),
        ("language/packed", "packed"),
        ("routing/moba", "moba"),
        ("routing/infllm", "infllm"),
        ("routing/antidiagonal", "antidiagonal"),
    ],
)
def test_cuda_graphs(file: str, name: str) -> None:
    """Captured once, and run again on other numbers, other selections, and other documents, in the same memory."""
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(n=1000, heads=2)
    attention = mask.compile("triton")
    tensors = [torch.randn(1, 2, 1000, 64, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    toward = torch.randn_like(tensors[0])
    documents = torch.arange(1000, device=DEVICE, dtype=torch.int32) // 300
    inputs = {each.name: documents for each in mask.inputs}

    def step() -> tuple[torch.Tensor, ...]:
        out = attention(*tensors, **inputs)
        return out.detach(), *torch.autograd.grad(out, tensors, toward)

    graph, captured = capture(step)
    for tensor in tensors:
        tensor.data.copy_(torch.randn_like(tensor))
    documents.copy_(torch.arange(1000, device=DEVICE) // 77)
    graph.replay()
    for found, expected in zip(captured, step(), strict=True):
        torch.testing.assert_close(found, expected)


def capture(step: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...]]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    return graph, captured
