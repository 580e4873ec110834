"""Generated kernels compiled ahead of time, for GPUs that need not be here, and what they use of them.

With Triton's own compiler and the tools that it carries: `ptxas` for NVIDIA, LLVM for AMD. Used by tests and budgets.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from maskdsl.emit.triton import emit_triton
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from maskdsl.plan import KernelPlan, make_plan
from maskdsl.runtime.modules import load_module
from maskdsl.runtime.triton import precision
from maskdsl.tile_table import Architecture, Kernel, TileChoice, ladder

TARGETS: Mapping[str, GPUTarget] = {
    "sm80": GPUTarget("cuda", 80, 32),
    "sm90": GPUTarget("cuda", 90, 32),
    "sm100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
POINTERS = {
    **{dtype: f"*{name}" for name, dtype in DTYPES.items()},
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
}


@dataclass(frozen=True)
class Usage:
    """What one thread or one block of a compiled kernel uses."""

    registers: int
    spills: int
    """Bytes of registers kept in memory (NVIDIA), or registers spilled (AMD)."""
    shared: int
    """Bytes of shared memory a block."""


@dataclass(frozen=True)
class Compiled:
    usage: Usage
    assembly: str
    """PTX or AMD GCN."""


class Recorder:
    """Stands in for a kernel and keeps what it is started with."""

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __getitem__(self, grid: object) -> "Recorder":
        return self

    def __call__(self, *arguments: object, **options: object) -> None:
        self.arguments, self.options = arguments, options


KERNELS = tuple(map(str, Kernel))


def kernel_names(plan: KernelPlan) -> tuple[str, ...]:
    """The kernels of a plan's module: the `KERNELS` of all, and that which finds tiles that depend on inputs."""
    return (*KERNELS, "tiles_kernel") if plan.finds_device_tiles else KERNELS


def compile_ahead(
    mask: MaskIR,
    target: str,
    dim: int = 64,
    dtype: str = "bf16",
    kernel_name: str = "forward_kernel",
    choice: TileChoice | None = None,
    input_gradients: bool = False,
) -> Compiled:
    """One of the `kernel_names` of a mask for one of `TARGETS`, a head dim and a type of `DTYPES`."""
    plan, architecture, size = make_plan(mask), Architecture(target), DTYPES[dtype].itemsize
    chooser = Kernel(kernel_name) if kernel_name in KERNELS else Kernel.FORWARD
    choice = choice or ladder(architecture, chooser, dim, size, plan.work)[0]
    started = started_kernels(plan, choice, dim, DTYPES[dtype], precision(architecture), input_gradients)
    kernel, values = started[kernel_name]
    types: dict[str, str] = {}
    constants: dict[str, object] = {}
    aligned = {}
    for number, name in enumerate(kernel.arg_names):
        value = values.pop(name)
        if kernel.params[number].is_constexpr or value is None:
            types[name], constants[name] = "constexpr", value
        elif isinstance(value, Tensor):
            types[name] = POINTERS[value.dtype]
            aligned[(number,)] = [["tt.divisibility", 16]]
        else:
            types[name] = "i32"
            if value % 16 == 0 and not kernel.params[number].do_not_specialize:
                aligned[(number,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, types, constants, aligned)
    compiled = triton.compile(source, target=TARGETS[target], options=values)
    return nvidia(compiled) if TARGETS[target].backend == "cuda" else amd(compiled)


def started_kernels(
    plan: KernelPlan, choice: TileChoice, dim: int, dtype: torch.dtype, precision: str, input_gradients: bool = False
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The kernels of a plan's module, and what calls on tensors like these would start them with, by name."""
    module = load_module.__wrapped__(emit_triton(plan), f"{plan.mask.name}_triton")  # its own, to be changed
    kernels = {name: module.__dict__[name] for name in kernel_names(plan)}
    recorders = {name: Recorder() for name in kernels}
    module.__dict__.update(recorders)
    lengths = plan.mask.queries.length, plan.mask.keys.length, plan.mask.keys.length
    q, k, v = (torch.empty(2, plan.mask.heads, length, dim, dtype=dtype, device="meta") for length in lengths)
    inputs = {plan.input_identifiers[each.name]: example(each) for each in plan.mask.inputs}
    for kind, sequence, names in plan.curve_names:
        for name in names:
            values = torch.zeros(sequence.length, dtype=torch.int64, device="meta")
            inputs[f"{kind}_{plan.identifiers[name]}"] = values
    lists = torch.zeros(1, 1, dtype=torch.int32), *[torch.zeros(1, dtype=torch.int32)] * 6
    tiles = module.Tiles(*lists) if hasattr(module, "Tiles") else None
    block = choice.query_block, choice.key_block
    options = {"precision": precision, "warps": choice.warps, "stages": choice.stages}
    out, lse = module.attention(q, k, v, inputs, tiles, block, **options)
    wanted = inputs if input_gradients else ()
    arguments = q, k, v, out, lse, out, lse, inputs, tiles, tiles, choice.options, choice.options
    module.gradients(*arguments, precision=precision, wanted=wanted)
    if plan.finds_device_tiles:
        module.find_tiles(q.device, (*q.shape[:3], k.shape[2]), inputs, block)
    return {
        name: (
            kernels[name],
            {**dict(zip(kernels[name].arg_names, each.arguments, strict=False)), **each.options},
        )
        for name, each in recorders.items()
    }


def example(declared: Input) -> Tensor:
    """An input as generated modules take it, for two batch entries, without values."""
    kinds = [dimension.kind for dimension in declared.dimensions]
    sizes = dict(zip(kinds, (each.size or 2 for each in declared.dimensions), strict=True))
    shape = [each.size or 2 for each in declared.dimensions]
    if declared.is_coordinate:
        shape = [sizes.get(kind, 1) for kind in (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)]
    dtypes = {Type.INT: torch.int64, Type.FLOAT: torch.float32, Type.BOOL: torch.bool}
    return torch.zeros(shape, dtype=dtypes[declared.type], device="meta")


def nvidia(compiled: CompiledKernel) -> Compiled:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (found(rf"{name}:(\d+)", text) for name in ("REG", "STACK"))
    return Compiled(Usage(registers, stack, compiled.metadata.shared), compiled.asm["ptx"])


def amd(compiled: CompiledKernel) -> Compiled:
    text: str = compiled.asm["amdgcn"]
    registers, spills = found(r"\.vgpr_count:\s+(\d+)", text), found(r"\.vgpr_spill_count:\s+(\d+)", text)
    return Compiled(Usage(registers, spills, compiled.metadata.shared), text)


def found(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern} in the report of the compiler:\n{text[:2000]}"
    return int(match[1])
