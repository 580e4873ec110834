"""Routed attention never synchronizes with the device: it runs on meta tensors, which cannot be copied to the host.

Kernel launches are recorded, not run; all else is as in a call on a GPU.
"""

from pathlib import Path

import pytest
import torch
from ahead import KERNELS, TILE_KERNELS, Recorder, example, kernel_names
from torch import Tensor

import maskdsl
from maskdsl.analysis.cost.tile_table import TileChoice
from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.runtime.backends import triton_backend
from maskdsl.runtime.base.call import Saved
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode import regrouped as regroup
from maskdsl.runtime.decode.regrouped import two_passes
from maskdsl.runtime.torch_ops.attention_op import attention, attention_backward

ROUTING = Path(__file__).parents[2] / "examples" / "routing"
BATCH, HEADS, DIM = 2, 2, 16
OF_MANY_RUNS = TILE_KERNELS[1:3]
EXAMPLES = [
    ("antidiagonal", "antidiagonal"),
    ("biformer", "biformer"),
    ("clusters", "clusters"),
    ("dhsa", "dhsa"),
    ("infllm", "infllm"),
    ("infllm", "nosa"),
    ("knn", "kca"),
    ("knn", "knn"),
    ("moba", "moba"),
    ("nsa", "nsa"),
    ("permuted_blocks", "permuted_blocks"),
    ("proxy", "proxy"),
    ("proxy", "proxy_budget"),
    ("routing_transformer", "routing_transformer_union"),
    ("seer", "seer"),
    ("seer", "seer_above"),
    ("sparsifiner", "sparsifiner"),
    ("vertical_slash", "vertical_slash"),
    ("vmoba", "vmoba"),
]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Triton backend accepts tensors of any device and launches no kernel."""
    monkeypatch.setattr(triton_backend, "check", lambda q, v: None)
    monkeypatch.setattr(triton_backend.Launch, "choose", lambda *_: TileChoice(64, 64, 4, 2))
    monkeypatch.setattr(triton_backend, "architecture", lambda device: None)
    monkeypatch.setattr(triton_backend, "processors", lambda device: 132)


def record(monkeypatch: pytest.MonkeyPatch, compiled: Bound) -> None:
    for name in kernel_names(compiled.plan):
        monkeypatch.setattr(compiled.default_kernel.module, name, Recorder())


def inputs_of(plan: KernelPlan) -> list[Tensor]:
    """A meta tensor for every input, routed ones too; int32, as the values of int64 would be checked."""
    tensors = []
    for each in plan.mask.inputs:
        called = {DimensionKind.BATCH: BATCH, DimensionKind.DIM: DIM}
        sizes = [called.get(dimension.kind, dimension.size or 1) for dimension in each.dimensions]
        values = example(each)
        dtype = torch.int32 if values.dtype == torch.int64 else values.dtype
        tensors.append(torch.empty(sizes, dtype=dtype, device="meta"))
    return tensors


def started(compiled: Bound, names: tuple[str, ...]) -> bool:
    return all(getattr(compiled.default_kernel.module, name).arguments for name in names)


PATTERNS = {name: maskdsl.load(ROUTING / f"{file}.attn")[name] for file, name in EXAMPLES}
PATTERNS["coordinates"] = maskdsl.parse("""
pattern coordinates(n = 256) {
    space tokens[n]
    input document: int[batch, tokens]
    coord part = document % 4 * 2 + i % 2
    coord chunk = i // 64
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past and same(part) or same(chunk))
}
""")["coordinates"]


@pytest.mark.parametrize("name", PATTERNS)
def test_tiles_and_passes_wait_for_nothing(name: str, recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = PATTERNS[name].bind(heads=HEADS).compile("triton")._compiled
    plan = compiled.plan
    lengths = plan.mask.queries.given_length, *[plan.mask.keys.given_length] * 2
    q, k, v = (torch.empty(BATCH, HEADS, length, DIM, device="meta") for length in lengths)
    inputs = inputs_of(plan)
    passes = two_passes(compiled)
    if passes is None:
        record(monkeypatch, compiled)
        out, lse = attention(q, k, v, inputs, compiled.handle, "declared", True)
        saved = Saved(q, k, v, out, lse, out, lse)
        grads = attention_backward(*saved, inputs, compiled.handle, "declared", [True] * 3 + [False] * len(inputs))
        assert [grad.shape for grad in grads] == [q.shape] * 3
        assert started(compiled, tuple(name for name in kernel_names(plan) if name not in OF_MANY_RUNS))
        return
    monkeypatch.setattr(regroup, "ATTENTION", attention)  # the operator would give shapes alone
    record(monkeypatch, passes.derived.compiled)
    if passes.fixed is not None:
        record(monkeypatch, passes.fixed)
    out, lse = passes.attend(q, k, v, inputs)
    assert (out.shape, lse.shape) == (q.shape, q.shape[:3])
    assert started(passes.derived.compiled, (KERNELS[0], "tiles_kernel"))
