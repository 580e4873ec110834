"""Mask to kernels compiled ahead of time for GPUs that need not be present: registers, spills, shared memory, assembly.

Triton compiles, with the tools that it ships: `ptxas` for NVIDIA, LLVM for AMD. Tests and budgets use it.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel
from triton.tools.tensor_descriptor import TensorDescriptor

from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice, first_choice
from maskdsl.emit.plan import KernelPlan, decode_plan, make_plan
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.emit.triton.backward_body import GradientBody
from maskdsl.emit.triton.decoding.decode_module import emit_decode, loop_work
from maskdsl.emit.triton.selection.selection_module import emit_selection
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.expressions import PAIR
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.product_inputs import unpooled, weighed, with_given_products
from maskdsl.ir.rewrites.transpose import transposed, without_softmax
from maskdsl.runtime.backends.tile_choice import choices_of
from maskdsl.runtime.backends.triton_backend import precision
from maskdsl.runtime.backends.tuning import failures
from maskdsl.runtime.base.call import Saved
from maskdsl.runtime.base.module_cache import load_module
from maskdsl.runtime.kernels.split_kernel import decode_block

TARGETS: Mapping[str, GPUTarget] = {
    "sm80": GPUTarget("cuda", 80, 32),
    "sm90": GPUTarget("cuda", 90, 32),
    "sm100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED = {"sm80": 163 * 1024, "sm90": 227 * 1024, "sm100": 227 * 1024, "gfx942": 64 * 1024}
"""Bytes of shared memory that a program may use: on an A100, H100, B200 and MI300."""
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
POINTERS = {
    **{dtype: f"*{name}" for name, dtype in DTYPES.items()},
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}


@dataclass(frozen=True)
class Usage:
    """The resources of a compiled kernel."""

    registers: int
    """Registers a thread."""
    spills: int
    """Spilled bytes (NVIDIA) or spilled registers (AMD) a thread."""
    shared: int
    """Bytes of shared memory a program."""


def spilled_words(spills: int, target: str) -> int:
    """The `spills` of a kernel for a target in words of four bytes, as calls count them."""
    return spills if TARGETS[target].backend == "hip" else spills // 4


@dataclass(frozen=True)
class Compiled:
    usage: Usage
    assembly: str
    """PTX or AMD GCN."""
    binary: bytes
    """The machine code."""

    @property
    def loads_by_descriptors(self) -> bool:
        """Whether tiles are copied by tensor descriptors."""
        return "cp.async.bulk.tensor" in self.assembly


class Started(NamedTuple):
    """A kernel and the arguments of its launch, by parameter."""

    kernel: Any
    values: dict[str, Any]


class Recorder:
    """Stands in for a kernel and records the arguments of its launch."""

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __getitem__(self, grid: object) -> "Recorder":
        return self

    def __call__(self, *arguments: object, **options: object) -> None:
        self.arguments, self.options = arguments, options


KERNELS = tuple(map(str, KernelName))
DECODE_KERNELS = ("decode_kernel", "merge_kernel")
PAIRS_KERNEL = "pairs_kernel"
"""That of decoding that reads tables of pairs, where there are any."""
TILE_KERNELS = ("extremes_kernel", "count_kernel", "ranges_kernel", "tiles_kernel", "order_kernel")
"""Those that find tiles: the first where coordinates decide them, the second and third only where rows may have more
runs than lists have room for."""
MANY = 1 << 14


def kernel_masks(mask: MaskIR) -> dict[str, MaskIR]:
    """The masks whose kernels a call of a mask runs, by what they are of it: "" for the mask itself."""
    if mask.branches:
        parts = {each.branch: kernel_masks(each) for each in mask.branches}
        return {f"{branch} {what}".strip(): part for branch, masks in parts.items() for what, part in masks.items()}
    if mask.normalize is Normalize.BY_KEY:
        return {"sums": transposed(mask), "probabilities": without_softmax(mask)}
    if not mask.multiplies:
        return {"": mask}
    masses = {f"masses {number}": weighed(mask, term) for number, term in enumerate(mask.values, 1)}
    return {name: unpooled(with_given_products(each)) for name, each in {"": mask, **masses}.items()}


def is_decoded(what: str) -> bool:
    """Whether calls of some queries run the mask of `kernel_masks` that has this name."""
    return not (what.startswith("masses") or what in ("sums", "probabilities"))


def decode_kernel_names(plan: KernelPlan) -> tuple[str, ...]:
    """The kernels of decoding: partial results without a softmax are added, not merged."""
    return DECODE_KERNELS if plan.mask.normalize is not Normalize.NONE else DECODE_KERNELS[:1]


def kernel_names(plan: KernelPlan) -> tuple[str, ...]:
    """The kernels of a plan's module: `KERNELS`, that of delta, and those that find tiles if inputs decide them."""
    names = GradientBody(plan).names
    tile_kernels = TILE_KERNELS if any(map(names.bounded, PAIR)) else TILE_KERNELS[1:]
    return (*KERNELS, "delta_kernel", *(tile_kernels if plan.finds_device_tiles else ()))


def compile_ahead(
    mask: MaskIR,
    target: str,
    dim: int = 64,
    dtype: str = "bf16",
    kernel_name: str = "forward_kernel",
    choice: TileChoice | None = None,
    input_gradients: bool = False,
    value_dim: int | None = None,
    descriptors: bool = True,
) -> Compiled:
    """Compiles one of the `kernel_names` or `DECODE_KERNELS` of a mask, for one of `TARGETS` and of `DTYPES`.

    Without a tile choice, one of `KERNELS` goes down its ladder, as calls do; all others take the top of the forward
    kernel's. Values have the head dim of keys, or their own. Without `descriptors` the ladder is that of
    calls under MASKDSL_DESCRIPTORS=0.
    """
    dims = dim, value_dim or dim
    if choice:
        return compile_choice(plan_of(mask), target, dims, DTYPES[dtype], kernel_name, choice, input_gradients)
    return choose_ahead(mask, target, dims, DTYPES[dtype], kernel_name, input_gradients, descriptors)[1]


plan_of = lru_cache(maxsize=8)(make_plan)
"""The plan of a mask's kernels, once for all of them."""


def choose_ahead(
    mask: MaskIR,
    target: str,
    dims: tuple[int, int],
    dtype: torch.dtype,
    kernel_name: str,
    input_gradients: bool = False,
    descriptors: bool = True,
) -> tuple[TileChoice, Compiled]:
    """A kernel for head dims of keys and of values, with the tile choice that is taken."""
    plan, has_ladder = plan_of(mask), kernel_name in KERNELS
    chooser = KernelName(kernel_name) if has_ladder else KernelName.FORWARD
    choices = choices_of(plan, Architecture(target), chooser, max(dims), dtype.itemsize, descriptors)

    @cache
    def compiled(choice: TileChoice) -> Compiled:
        return compile_choice(plan, target, dims, dtype, kernel_name, choice, input_gradients)

    def fits(choice: TileChoice) -> bool:
        try:
            return compiled(choice).usage.shared <= SHARED[target]
        except failures():
            return False

    if not has_ladder:
        return choices[0], compiled(choices[0])
    taken = first_choice(choices, fits, lambda each: spilled_words(compiled(each).usage.spills, target))
    return taken, compiled(taken)


def compile_choice(
    plan: KernelPlan,
    target: str,
    dims: tuple[int, int],
    dtype: torch.dtype,
    kernel_name: str,
    choice: TileChoice,
    input_gradients: bool,
) -> Compiled:
    """The kernel as a call with this tile choice would launch it."""
    architecture = Architecture(target)
    if kernel_name in (*DECODE_KERNELS, PAIRS_KERNEL):
        dim, _ = dims
        block = decode_block(16, dim, dtype.itemsize, architecture, loop_work(plan, one_query=True))
        started = started_decoding(plan, block, dim, dtype, precision(architecture))
    else:
        started = started_kernels(plan, choice, dims, dtype, precision(architecture), input_gradients)
    return compile_started(started[kernel_name], target)


def compile_started(started: Started, target: str) -> Compiled:
    """The kernel compiled for the arguments of its launch."""
    kernel, values = started.kernel, dict(started.values)
    if "APPROXIMATE" in values:  # calls look at their GPU
        values["APPROXIMATE"] = TARGETS[target].backend == "cuda" and values["q"].element_size() == 2
    types: dict[str, str] = {}
    constants: dict[str, object] = {}
    aligned = {}
    for number, name in enumerate(kernel.arg_names):
        value = values.pop(name)
        specialized = not kernel.params[number].do_not_specialize
        if (
            kernel.params[number].is_constexpr
            or value is None
            or (specialized and isinstance(value, int) and value == 1)
        ):
            types[name], constants[name] = "constexpr", value
        elif isinstance(value, TensorDescriptor):
            types[name] = f"tensordesc<{POINTERS[value.base.dtype][1:]}{value.block_shape}>"
        elif isinstance(value, Tensor):
            types[name] = POINTERS[value.dtype]
            aligned[(number,)] = [["tt.divisibility", 16]]
        else:
            types[name] = "i32"
            if specialized and value % 16 == 0:
                aligned[(number,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, types, constants, aligned)
    compiled = triton.compile(source, target=TARGETS[target], options=values)
    return nvidia(compiled) if TARGETS[target].backend == "cuda" else amd(compiled)


def compile_selection(mask: MaskIR, target: str, dim: int = 64, dtype: str = "bf16") -> dict[str, Compiled]:
    """The kernels that compute the selections of a mask's routes, by name; the pooling kernel as last launched."""
    plan = make_plan(mask)
    text = emit_selection(plan)
    names = re.findall(r"^def (\w+_kernel)\(", text, re.MULTILINE)
    if names == ["pool_kernel"]:
        return {}
    recording = Recording.of(text, names)
    recording.module.PRECISION = precision(Architecture(target))
    q, k, _ = examples(plan, (dim, dim), DTYPES[dtype])
    recording.module.find(q, k, example_values(plan))
    return {name: compile_started(each, target) for name, each in recording.started().items() if each.values}


@lru_cache(maxsize=32)
def started_kernels(
    plan: KernelPlan,
    choice: TileChoice,
    dims: tuple[int, int],
    dtype: torch.dtype,
    precision: str,
    input_gradients: bool = False,
) -> dict[str, Started]:
    """The kernels of a plan's module by name, with the arguments that calls on `examples` would launch them with."""
    recording = Recording.of(emit_triton(plan), kernel_names(plan))
    module, (q, k, v), inputs = recording.module, examples(plan, dims, dtype), example_values(plan)
    tiles = module.Tiles(*[torch.zeros(1, 3, dtype=torch.int32)] * 5) if hasattr(module, "Tiles") else None
    block = choice.query_block, choice.key_block
    options = {
        "precision": precision,
        "warps": choice.warps,
        "stages": choice.stages,
        "descriptors": choice.descriptors,
    }
    out, lse = module.attention(q, k, v, inputs, tiles, block, **options)
    module.gradients(
        **Saved(q, k, v, out, lse, grad_out=out, grad_lse=lse)._asdict(),
        inputs=inputs,
        row_tiles=tiles,
        column_tiles=tiles,
        row_options=choice.options,
        column_options=choice.options,
        precision=precision,
        descriptors=choice.descriptors,
        wanted=inputs if input_gradients else (),
    )
    if plan.finds_device_tiles:
        lengths = q.shape[2], k.shape[2]
        layout = tuple(torch.empty(1, 1, length, dtype=torch.int64, device=q.device) for length in lengths)
        for times in (MANY, 1):  # of so many tokens rows may have more runs than lists have room for
            shape = *q.shape[:2], k.shape[1], *(times * length for length in lengths)
            module.find_tiles(q.device, shape, module.block_bounds(q.device, shape, inputs, layout), block)
    return recording.started()


def started_decoding(
    plan: KernelPlan, block: tuple[int, int], dim: int, dtype: torch.dtype, precision: str
) -> dict[str, Started]:
    """The same for decoding, with pages of 16 keys and two query heads a key head."""
    plan = decode_plan(plan)
    recording = Recording.of(emit_decode(plan), (*decode_kernel_names(plan), PAIRS_KERNEL))
    q, k, v = examples(plan, (dim, dim), dtype)
    pages = [x.new_empty(99, max(1, x.shape[1] // 2), 16, dim) for x in (k, v)]
    entries = torch.zeros(2, dtype=torch.int32, device="meta")
    lengths = plan.mask.queries.length, plan.mask.keys.length
    recording.module.decode(
        q[:, :, :1],
        *pages,
        inputs=example_values(plan),
        query_starts=entries,
        key_lengths=entries,
        lengths=lengths,
        page_table=entries[:, None],
        splits=2,
        block=block,
        precision=precision,
    )
    return recording.started()


@dataclass(frozen=True, eq=False)
class Recording:
    """A generated module whose kernels are replaced by recorders."""

    module: ModuleType
    kernels: Mapping[str, Any]
    recorders: Mapping[str, Recorder]

    @staticmethod
    def of(text: str, names: Sequence[str]) -> "Recording":
        module = load_module.__wrapped__(text, "ahead")  # uncached, as it is changed
        # a pattern that is not normalized merges its splits without a kernel
        kernels = {name: module.__dict__[name] for name in names if name in module.__dict__}
        recorders = {name: Recorder() for name in kernels}
        module.__dict__.update(recorders)
        return Recording(module, kernels, recorders)

    def started(self) -> dict[str, Started]:
        """Each kernel with the arguments of its last launch, by name."""
        return {
            name: Started(
                self.kernels[name],
                {**dict(zip(self.kernels[name].arg_names, each.arguments, strict=False)), **each.options},
            )
            for name, each in self.recorders.items()
        }


def examples(plan: KernelPlan, dims: tuple[int, int], dtype: torch.dtype) -> list[Tensor]:
    """q, k and v of two batch entries, on the meta device: [batch, heads, tokens, dim], the second dim that of v."""
    (dim, value_dim), heads = dims, plan.mask.heads
    shapes = (plan.mask.queries.length, dim), (plan.mask.keys.length, dim), (plan.mask.keys.length, value_dim)
    return [torch.empty(2, heads, *shape, dtype=dtype, device="meta") for shape in shapes]


def example_values(plan: KernelPlan, dim: int = 64) -> dict[str, Tensor]:
    """All given inputs and tables of curves, by identifier, on the meta device."""
    inputs = {plan.input_identifiers[each.name]: example(each, dim) for each in plan.mask.inputs}
    for kind, sequence, names in plan.curve_names:
        for name in names:
            values = torch.zeros(sequence.length, dtype=torch.int64, device="meta")
            inputs[f"{kind}_{plan.identifiers[name]}"] = values
    return inputs


def example(declared: Input, dim: int = 64) -> Tensor:
    """An input as generated modules take it, for two batch entries, on the meta device."""
    kinds = [dimension.kind for dimension in declared.dimensions]
    shape = [dim if each.kind is DimensionKind.DIM else each.size or 2 for each in declared.dimensions]
    sizes = dict(zip(kinds, shape, strict=True))
    if declared.is_coordinate:
        shape = [sizes.get(kind, 1) for kind in (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)]
    dtypes = {Type.INT: torch.int64, Type.FLOAT: torch.float32, Type.BOOL: torch.bool}
    return torch.zeros(shape, dtype=dtypes[declared.type], device="meta")


def nvidia(compiled: CompiledKernel) -> Compiled:
    text = told("cuobjdump", "-res-usage", content=compiled.asm["cubin"])
    registers, stack = (figure(rf"{name}:(\d+)", text) for name in ("REG", "STACK"))
    usage = Usage(registers, stack, compiled.metadata.shared)
    return Compiled(usage, compiled.asm["ptx"], compiled.asm["cubin"])


def machine_code(compiled: Compiled) -> str:
    """The assembly of what the GPU runs: SASS or AMD GCN."""
    is_ptx = ".version" in compiled.assembly[:1000]
    return told("nvdisasm", "-c", "-ndf", content=compiled.binary) if is_ptx else compiled.assembly


def is_serialized(compiled: Compiled) -> bool:
    """Whether `ptxas` lets each matrix product of a kernel for sm90 wait for the one before it."""
    return bool(product_warnings(compiled))


def product_warnings(compiled: Compiled) -> list[str]:
    """The warnings of `ptxas` of lost performance in the matrix products of a kernel for sm90: `C7515`."""
    options = "--gpu-name", "sm_90a", "--verbose", "--output-file", os.devnull
    said = told("ptxas", *options, content=compiled.assembly.encode())
    return sorted(set(re.findall(r"C75\d\d", said)))


def told(tool: str, *options: str, content: bytes) -> str:
    """What a tool that Triton ships prints of a file."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        done = subprocess.run([path, *options, file.name], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def amd(compiled: CompiledKernel) -> Compiled:
    text: str = compiled.asm["amdgcn"]
    registers, spills = figure(r"\.vgpr_count:\s+(\d+)", text), figure(r"\.vgpr_spill_count:\s+(\d+)", text)
    return Compiled(Usage(registers, spills, compiled.metadata.shared), text, compiled.asm["hsaco"])


def figure(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern} in the report of the compiler:\n{text[:2000]}"
    return int(match[1])
