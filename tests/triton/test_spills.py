"""Kernels that are heavy for a GPU keep their values in registers, at some step of their ladder."""

from pathlib import Path

import pytest
import torch
from ahead import choose_ahead, compile_ahead

import maskdsl
from maskdsl.analysis.cost.tile_table import KernelName

EXAMPLES = Path(__file__).parents[2] / "examples"
QUERIES, KEYS = KernelName.QUERY_GRADIENT, KernelName.KEY_GRADIENT
HEAVY = [
    ("language/bigbird", "bigbird", "sm90", 128, KEYS),
    ("language/bigbird", "bigbird", "gfx942", 128, KEYS),
    ("routing/nsa", "nsa", "sm100", 128, KEYS),
    ("language/causal", "causal_dense", "sm80", 96, KEYS),
]
HEAVIEST = (("sam", "window"), ("uplift", "star"))
LONG = [
    ("language/deberta", "deberta", "sm90", 128, KEYS),
    ("language/combiner", "combiner_logsparse", "sm90", 128, KEYS),
    ("routing/infllm", "nosa", "sm90", 128, KEYS),
    ("routing/flexprefill", "flexprefill", "sm90", 128, KEYS),
    *((f"vision/{file}", name, "sm90", 128, kernel) for file, name in HEAVIEST for kernel in (QUERIES, KEYS)),
    ("language/bigbird", "bigbird", "sm80", 96, KEYS),
    ("language/bigbird", "bigbird", "sm100", 128, KEYS),
    *(
        ("language/bigbird", "bigbird", target, 256, kernel)
        for target in ("sm80", "sm100", "gfx942")
        for kernel in (QUERIES, KEYS)
    ),
]


@pytest.mark.parametrize(
    ("file", "name", "target", "dim", "kernel"),
    [*HEAVY, *(pytest.param(*each, marks=pytest.mark.long) for each in LONG)],
)
def test_heavy_gradients_spill_nothing(file: str, name: str, target: str, dim: int, kernel: KernelName) -> None:
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=4).ir
    assert compile_ahead(mask, target, dim, kernel_name=kernel).usage.spills == 0


@pytest.mark.parametrize(
    ("file", "name"), [("sliding_window", "sliding_window"), ("modernbert", "local"), ("chunked", "chunked")]
)
def test_windows_take_128_keys_on_hopper(file: str, name: str) -> None:
    """With 64 keys both warp groups would compute the same products of dK and dV."""
    mask = maskdsl.load(EXAMPLES / f"language/{file}.attn")[name].bind(heads=4).ir
    choice, compiled = choose_ahead(mask, "sm90", (128, 128), torch.bfloat16, KEYS)
    assert choice.block == (32, 128)
    assert compiled.usage.spills == 0
