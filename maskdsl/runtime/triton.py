"""The Triton backend: tiles of a call as the kernel reads them, and its launch."""

import os
from functools import partial

import numpy as np
import torch
from torch import Tensor

from maskdsl.analysis.blockmap import BlockMap, Runs
from maskdsl.diagnostics import AttnError
from maskdsl.emit.triton import emit_triton
from maskdsl.errors import call as errors
from maskdsl.plan import Device, KernelPlan, TileChoice, tile_choice
from maskdsl.runtime.call import Call


class Triton:
    """Generated kernels, on GPUs, and in Triton's interpreter anywhere."""

    name = "triton"
    has_backward = False
    in_layout = True
    poison = False
    """Whether results are filled with NaN before the kernel writes them; for tests."""

    def emit(self, plan: KernelPlan) -> str:
        return emit_triton(plan)

    def run(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        if q.dtype == torch.float64:
            raise AttnError(errors.KernelType(dtype="float64"))
        if not interpreted() and q.device.type == "cpu":
            raise AttnError(errors.NeedsDevice(device=str(q.device)))
        choice = tile_choice(max(q.shape[3], v.shape[3]), q.element_size(), device_kind())
        tiles = call.state.keep(("triton", choice, q.device), partial(kernel_tiles, call, choice, q.device))
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        dtype = q.dtype
        if interpreted() and dtype == torch.bfloat16:  # the interpreter would multiply bit patterns
            q, k, v = q.float(), k.float(), v.float()
        out, lse = call.module.attention(q, k, v, call.values, tiles, call.layout, choice, precision, self.poison)
        return out.to(dtype), lse if call.wants_lse else None


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, which its environment variable decides."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def device_kind() -> Device:
    if interpreted():
        return Device.INTERPRETER
    return Device.AMD if torch.version.hip else Device.NVIDIA


def kernel_tiles(call: Call, choice: TileChoice, device: torch.device) -> dict[str, Tensor]:
    """The lists of runs of all variants one behind the other, int32, by the names of the kernel's arguments."""
    block_map = call.state.tiles((choice.query_block, choice.key_block))
    parts = [without_ragged(block_map, number) for number in range(len(block_map.variants))]
    arrays: dict[str, np.ndarray] = {"variants": block_map.variant_of}
    for kind, several in zip(("full", "partial"), zip(*parts, strict=True), strict=True):
        before = np.cumsum([0, *(len(runs.start) for runs in several)])[:-1]
        arrays[f"{kind}_runs"] = np.concatenate([runs.row_start + n for runs, n in zip(several, before, strict=True)])
        arrays[f"{kind}_start"] = np.concatenate([*(runs.start for runs in several), [0]])
        arrays[f"{kind}_end"] = np.concatenate([*(runs.end for runs in several), [0]])
    return {name: torch.as_tensor(array.astype(np.int32), device=device) for name, array in arrays.items()}


def without_ragged(block_map: BlockMap, variant: int) -> tuple[Runs, Runs]:
    """The full and the partial runs of a variant, in which a last block of fewer keys is never full."""
    tiles = block_map.variants[variant]
    last = block_map.key_length // block_map.block[1]  # of whole blocks: the number of a ragged one
    full, partial_runs = tiles.full, tiles.partial
    cut = full.end > last
    if not cut.any():
        return full, partial_runs
    rows = full.row[cut]
    kept = full.start < np.minimum(full.end, last)
    whole = Runs.of_segments(full.rows, full.row[kept], full.start[kept], np.minimum(full.end, last)[kept])
    row = np.concatenate([partial_runs.row, rows])
    start = np.concatenate([partial_runs.start, np.full(len(rows), last, dtype=np.int32)])
    end = np.concatenate([partial_runs.end, np.full(len(rows), last + 1, dtype=np.int32)])
    return whole, Runs.of_segments(full.rows, row, start, end)
