"""Generated kernels compiled ahead of time, for GPUs that need not be here, and what they use of them.

With Triton's own compiler and the tools that it carries: `ptxas` for NVIDIA, LLVM for AMD. Used by tests and budgets.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from maskdsl.emit.triton import emit_triton, pattern_types
from maskdsl.ir.mask import MaskIR
from maskdsl.plan import Device, TileChoice, make_plan, tile_choice
from maskdsl.runtime.modules import load_module

TARGETS: Mapping[str, GPUTarget] = {
    "sm80": GPUTarget("cuda", 80, 32),
    "sm90": GPUTarget("cuda", 90, 32),
    "sm100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SIZES = {"fp32": 4, "bf16": 2, "fp16": 2}
POINTERS = ("q", "k", "v", "out")
LISTS = ("variants", *(f"{kind}_{part}" for kind in ("full", "partial") for part in ("runs", "start", "end")))


@dataclass(frozen=True)
class Usage:
    """What one thread or one program of a compiled kernel uses."""

    registers: int
    spills: int
    """Bytes of registers kept in memory (NVIDIA), or registers spilled (AMD)."""
    shared: int
    """Bytes of shared memory a program."""


@dataclass(frozen=True)
class Compiled:
    usage: Usage
    assembly: str
    """PTX or AMD GCN."""


def compile_ahead(
    mask: MaskIR, target: str, dim: int = 64, dtype: str = "bf16", choice: TileChoice | None = None
) -> Compiled:
    """The forward kernel of a mask for one of `TARGETS`, a head dimension and a type of `SIZES`."""
    plan = make_plan(mask)
    module = load_module(emit_triton(plan), f"{mask.name}_triton")
    device = Device.AMD if TARGETS[target].backend == "hip" else Device.NVIDIA
    choice = choice or tile_choice(dim, SIZES[dtype], device)
    kernel = module.forward_kernel
    constants: dict[str, object] = {
        "QUERY_BLOCK": choice.query_block,
        "KEY_BLOCK": choice.key_block,
        "DIM": dim,
        "PADDED_DIM": max(16, triton.next_power_of_2(dim)),
        "VALUE_DIM": dim,
        "PADDED_VALUE_DIM": max(16, triton.next_power_of_2(dim)),
        "PRECISION": "tf32",
        "step_q_item": 1,
        "step_k_item": 1,
        "step_v_item": 1,
    }
    types = {
        **dict.fromkeys(kernel.arg_names, "i32"),
        **dict.fromkeys(POINTERS, f"*{dtype}"),
        **dict.fromkeys(LISTS, "*i32"),
        "lse": "*fp32",
        "scale": "fp32",
        **pattern_types(plan),
        **dict.fromkeys(constants, "constexpr"),
    }
    aligned = [name for name in kernel.arg_names if types[name].startswith("*") or name.startswith("step_")]
    attributes = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned if name not in constants
    }
    source = ASTSource(kernel, types, constants, attributes)
    options = {"num_warps": choice.warps, "num_stages": choice.stages}
    compiled = triton.compile(source, target=TARGETS[target], options=options)
    read: Callable[[object], Compiled] = _nvidia if TARGETS[target].backend == "cuda" else _amd
    return read(compiled)


def _nvidia(compiled: object) -> Compiled:
    binary: bytes = compiled.asm["cubin"]  # type: ignore[attr-defined]
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(_found(rf"{name}:(\d+)", text)) for name in ("REG", "STACK"))
    shared = int(compiled.metadata.shared)  # type: ignore[attr-defined]
    return Compiled(Usage(registers, stack, shared), compiled.asm["ptx"])  # type: ignore[attr-defined]


def _amd(compiled: object) -> Compiled:
    text: str = compiled.asm["amdgcn"]  # type: ignore[attr-defined]
    registers = int(_found(r"\.vgpr_count:\s+(\d+)", text))
    spills = int(_found(r"\.vgpr_spill_count:\s+(\d+)", text))
    shared = int(compiled.metadata.shared)  # type: ignore[attr-defined]
    return Compiled(Usage(registers, spills, shared), text)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern} in the report of the compiler:\n{text[:2000]}"
    return match[1]
