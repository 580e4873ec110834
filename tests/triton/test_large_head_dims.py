"""Head dims that kernels compute in two chunks, and large ones: what Hopper multiplies and copies, ahead of time."""

import re

import pytest
from ahead import Compiled, compile_ahead, is_serialized
from assembly import tile_loops

import maskdsl
from maskdsl.analysis.cost.tile_table import KernelName, TileChoice

CAUSAL = "pattern causal_layer(n = 4096) { space tokens[n] attend causal }"
LARGE_DIMS = [
    (96, 96, KernelName.FORWARD),
    (192, 128, KernelName.FORWARD),
    (192, 128, KernelName.QUERY_GRADIENT),
    (192, 128, KernelName.KEY_GRADIENT),
    (256, 256, KernelName.QUERY_GRADIENT),
    *(pytest.param(dim, dim, kernel, marks=pytest.mark.long) for dim in (96, 192, 256) for kernel in KernelName),
]


def compile_causal(kernel: KernelName, dim: int, value_dim: int, choice: TileChoice | None = None) -> Compiled:
    (pattern,) = maskdsl.parse(CAUSAL).values()
    return compile_ahead(pattern.bind().ir, "sm90", dim, "bf16", kernel, choice, value_dim=value_dim)


@pytest.mark.parametrize(("dim", "value_dim", "kernel"), LARGE_DIMS)
def test_large_head_dims_use_warp_groups_and_copy_ahead(dim: int, value_dim: int, kernel: KernelName) -> None:
    """On Hopper; and no product has more dims than there are, in two chunks."""
    compiled = compile_causal(kernel, dim, value_dim)
    assert all(loop.kinds == ("wgmma.mma_async",) for loop in tile_loops(compiled.assembly))
    assert "cp.async" in compiled.assembly
    assert not is_serialized(compiled)
    if kernel is not KernelName.KEY_GRADIENT or dim == 96:
        assert compiled.usage.spills == 0


def test_products_have_no_padded_dims() -> None:
    """Keys of 192 dims are multiplied in steps of 16, not 256; values of 96 are 64 and 32 wide."""
    compiled = compile_causal(KernelName.FORWARD, 192, 96, TileChoice(128, 64, 8, 2))
    full = tile_loops(compiled.assembly)[0]
    assert full.matrix_instructions == 192 // 16 + 2 * (64 // 16)
    assert {*re.findall(r"wgmma\.mma_async\S*\.m64n(\d+)k16", compiled.assembly)} == {"64", "32"}
