"""What layers launch that share a tensor of documents: kernels, which are recorded and not run, and operators of torch.

Operators are seen by torch's profiler, which is no mode: calls go the way that they go without it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ahead import kernel_names
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import maskdsl
from maskdsl.analysis.cost.tile_table import TileChoice
from maskdsl.runtime.backends import triton_backend

LANGUAGE = Path(__file__).parents[2] / "examples" / "language"
LAUNCH_NOTHING = {
    *("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::resize_", "aten::detach"),
    *("aten::view", "aten::reshape", "aten::expand", "aten::as_strided", "aten::select", "aten::slice", "aten::alias"),
    *(
        "aten::transpose",
        "aten::permute",
        "aten::unsqueeze",
        "aten::squeeze",
        "aten::contiguous",
        "aten::to",
        "aten::promote_types",
    ),
}
"""Operators that allocate, or make views."""
OF_CHECKS = {"aten::aminmax", "aten::item"}
"""What checks that 64-bit documents fit into 32 bits, and waits for it."""
Q, K, V = (torch.randn(2, 2, 256, 64, dtype=torch.float16, requires_grad=True) for _ in range(3))
TOWARD = torch.ones(2, 2, 256, 64, dtype=torch.float16)


class Counting:
    """A kernel that is counted and does nothing."""

    def __init__(self, name: str, counts: Counter[str]) -> None:
        self.name, self.counts = name, counts

    def __getitem__(self, grid: object) -> "Counting":
        return self

    def __call__(self, *arguments: object, **options: object) -> None:
        self.counts[self.name] += 1


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    counts: Counter[str] = Counter()
    monkeypatch.setattr(triton_backend, "check", lambda q, v: None)
    monkeypatch.setattr(triton_backend.Launch, "choose", lambda *_: TileChoice(64, 64, 4, 2))
    compiled = attention()._compiled
    for name in kernel_names(compiled.plan):
        monkeypatch.setattr(compiled.default_kernel.module, name, Counting(name, counts))
    yield counts


def attention() -> Any:
    return maskdsl.load(LANGUAGE / "packed.attn")["packed"].bind(n=256, heads=2).compile("triton")


def gradients(out: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out, (Q, K, V), TOWARD)


def launched(call: Callable[[], Tensor | tuple[Tensor, ...]], counts: Counter[str]) -> tuple[Any, int, list[str]]:
    """The result, the number of kernels, and the operators of torch that launch some."""
    counts.clear()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        result = call()
    launching = [each for each in seen.events() if each.name.startswith("aten::") and each.name not in LAUNCH_NOTHING]
    called = {id(inner) for each in launching for inner in each.cpu_children}
    return result, counts.total(), [each.name for each in launching if id(each) not in called]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("is_prepared", [False, True])
def test_layers_after_the_first(counts: Counter[str], dtype: torch.dtype, is_prepared: bool) -> None:
    packed, document = attention(), (torch.arange(256) // 100).to(dtype)
    attend = packed.prepare(document=document)

    def layer() -> Tensor:
        out: Tensor = attend(Q, K, V) if is_prepared else packed(Q, K, V, document=document)
        return out

    out, kernels, operators = launched(layer, counts)
    assert kernels == 4, "extremes of blocks, tiles, their order, and the attention"
    converting = [each for each in operators if each not in OF_CHECKS]
    assert converting == ["aten::_to_copy"] * (dtype != torch.int32), "to 32 bits for kernels"
    _, kernels, operators = launched(partial(gradients, out), counts)
    assert kernels == 5, "tiles by rows are those of the forward pass here, and bounds are in any case"
    assert {*operators} <= {"aten::zeros"}, "for what has no gradient, once"
    for _ in range(2):
        out, kernels, operators = launched(layer, counts)
        assert (kernels, operators) == (1, [])
        _, kernels, operators = launched(partial(gradients, out), counts)
        assert kernels == 3, counts
        assert operators == []


def test_a_pattern_without_inputs(counts: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    causal: Any = maskdsl.load(LANGUAGE / "causal.attn")["causal_dense"].bind(n=256, heads=2).compile("triton")
    for name in kernel_names(causal._compiled.plan):
        monkeypatch.setattr(causal._compiled.default_kernel.module, name, Counting(name, counts))
    for _ in range(2):
        out, kernels, operators = launched(lambda: causal(Q, K, V), counts)
        assert kernels == 1
    assert not operators
    gradients(causal(Q, K, V))
    _, kernels, operators = launched(partial(gradients, out), counts)
    assert (kernels, operators) == (3, [])
