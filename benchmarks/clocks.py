"""Machine code of a loop over tiles to its clocks on a multiprocessor, by a model: no GPU measured it.

A processor multiplies, issues instructions, computes exponentials and is sent tiles at these rates. A warp waits for
its products before it goes on, so that alone on a scheduler it takes all of its clocks one after the other. Warps that
share one fill the gaps of each other, up to the busiest of the four; with `tcgen05`, for whose products all warps of a
program wait, only those of several programs do.

- Products. A warp's `HMMA` or `v_mfma` takes its multiply-adds over the rate of a tensor core. Hopper's `HGMMA` of a
  warp group, m64nNk16, takes N / 2 clocks, and at least 16 + N / 4 where the left operand comes from shared memory,
  which is read at 128 bytes a clock. Blackwell's `tcgen05` takes as long for 128 rows as for 64, with twice the bytes.
- Exponentials: 16 results a clock.
- Tiles of the other side are sent at 32 bytes a clock, half of what the level-2 cache promises.
- A tile waits 200 clocks at its barriers, and 700 more for memory if its copies are not asynchronous.
"""

import re
from dataclasses import dataclass
from math import ceil, prod

from ahead import Compiled, machine_code
from assembly import KINDS, OPCODE, loop, loop_texts

from maskdsl.analysis.cost.tile_table import KernelName, TileChoice

KIB = 1024
BARRIERS, LATENCY = 200, 700
SENT = 32
TENSOR_MEMORY = 512
LOCAL = re.compile(r"\b(?:LDL|STL|scratch_load|scratch_store)")
ASYNCHRONOUS = re.compile(r"\b(?:LDGSTS|UTMALDG)")
WARP_PRODUCT = re.compile(r"\bHMMA\.(\d+)|\bv_mfma_f32_(\d+)x(\d+)x(\d+)")
GROUP_PRODUCT = re.compile(r"\bHGMMA\.64x(\d+)x16\S* R\d+, (gdesc)?")
COLUMNS = re.compile(r"tcgen05\.alloc\S+ \[\w*%?\w+\], (\d+)")


@dataclass(frozen=True)
class Processor:
    """A multiprocessor. Rates are those of each of its four schedulers."""

    shared: int
    """Bytes of shared memory that a program may use."""
    memory: int
    """The same of all programs together."""
    warps: int
    """At once, at most."""
    registers: int
    """For all threads of a scheduler's warps, by the threads of one warp."""
    issue: int
    """Clocks of an instruction of a warp."""
    exponential: int
    """Clocks of an exponential of a warp."""
    products: int
    """Multiply-adds a clock, of instructions of one warp."""


PROCESSORS = {
    "sm80": Processor(163 * KIB, 164 * KIB, 64, 512, 1, 8, 256),
    "sm89": Processor(99 * KIB, 100 * KIB, 48, 512, 1, 8, 128),  # 8.6 and 12.x too
    "sm90": Processor(227 * KIB, 228 * KIB, 64, 512, 1, 8, 256),
    "sm100": Processor(227 * KIB, 228 * KIB, 64, 512, 1, 8, 256),
    "gfx942": Processor(64 * KIB, 64 * KIB, 32, 512, 4, 16, 256),
}


@dataclass(frozen=True)
class LoopFigures:
    """A loop over tiles, by its machine code."""

    instructions: int
    """Of a thread, for a tile."""
    spills: int
    """Those of them that store or load registers in local memory."""
    products: str
    """The kinds of its matrix instructions."""
    asynchronous: bool
    """Whether tiles are copied while others are computed."""
    clocks: float
    """Of a tile, on a processor that is full of such programs."""


@dataclass(frozen=True)
class Figures:
    """A kernel with one launch configuration: what it uses, and its loops over full and over partial tiles."""

    registers: int
    spills: int
    shared: int
    programs: int
    """At once on a processor."""
    full: LoopFigures
    partial: LoopFigures


def figures(compiled: Compiled, target: str, kernel: KernelName, choice: TileChoice, dim: int) -> Figures:
    """The figures of a kernel for one of `PROCESSORS`, compiled for a head dim."""
    usage, texts = compiled.usage, loop_texts(machine_code(compiled))
    programs = resident(compiled, target, choice.warps)
    loops = (loop_figures(text, target, kernel, choice, dim, programs) for text in texts)
    full, *_, partial = sorted(loops, key=lambda each: each.instructions) * 2  # the second is the longer one, if any
    return Figures(usage.registers, usage.spills, usage.shared, programs, full, partial)


def resident(compiled: Compiled, target: str, warps: int) -> int:
    """How many programs of so many warps a processor holds at once, at least one."""
    processor, usage = PROCESSORS[target], compiled.usage
    by_registers = processor.registers // (8 * ceil(usage.registers / 8)) * 4 // warps
    columns = max(map(int, COLUMNS.findall(compiled.assembly)), default=1)
    held = by_registers, processor.memory // (usage.shared + KIB), processor.warps // warps, TENSOR_MEMORY // columns
    return max(1, min(held))


def loop_figures(
    text: str, target: str, kernel: KernelName, choice: TileChoice, dim: int, programs: int
) -> LoopFigures:
    """The figures of one loop, of so many programs on a processor."""
    processor, counts = PROCESSORS[target], loop(text)
    exponentials = sum(bool(KINDS["exponentials"].match(each)) for each in OPCODE.findall(text))
    is_asynchronous = bool(ASYNCHRONOUS.search(text)) or (target == "gfx942" and choice.stages > 1)
    of_warps = choice.warps / 4
    multiplied = of_warps * warp_products(text, processor) + of_warps * group_products(text)
    if "UTCHMMA" in text:
        multiplied += tensor_products(kernel, choice, dim)
    issued = of_warps * processor.issue * counts.instructions
    raised = of_warps * processor.exponential * exponentials
    sent = 2 * other_block(kernel, choice) * dim * 2 / SENT
    wait = BARRIERS + LATENCY * (not is_asynchronous)
    alone = (multiplied + max(issued, raised)) / (1 if "UTCHMMA" in text else of_warps) + wait
    clocks = max(multiplied, issued, raised, sent, alone / programs)
    kinds = " ".join(counts.kinds + tuple(sorted({f"n{n}" for n, _ in GROUP_PRODUCT.findall(text)})))
    return LoopFigures(counts.instructions, len(LOCAL.findall(text)), kinds, is_asynchronous, round(clocks, 1))


def warp_products(text: str, processor: Processor) -> float:
    """Clocks of the products of single warps: `HMMA.16816` multiplies 16 by 8 by 16."""
    shapes = (
        (16, 8, int(nvidia[3:])) if nvidia else tuple(map(int, amd)) for nvidia, *amd in WARP_PRODUCT.findall(text)
    )
    return sum(map(prod, shapes)) / processor.products


def group_products(text: str) -> float:
    """Clocks of the products of warp groups."""
    return sum(max(int(n) / 2, 16 + int(n) / 4 if shared else 0) for n, shared in GROUP_PRODUCT.findall(text))


def tensor_products(kernel: KernelName, choice: TileChoice, dim: int) -> float:
    """Clocks of the products of `tcgen05` in a tile; their shapes are not in their text."""
    own, other = own_block(kernel, choice), other_block(kernel, choice)
    scores, results = {KernelName.FORWARD: (1, 1), KernelName.QUERY_GRADIENT: (2, 1)}.get(kernel, (2, 2))
    return scores * dim / 16 * max(own / 4 + other / 4, other / 2) + results * other / 16 * dim / 2


def own_block(kernel: KernelName, choice: TileChoice) -> int:
    """The tokens whose results a program holds."""
    return choice.key_block if kernel is KernelName.KEY_GRADIENT else choice.query_block


def other_block(kernel: KernelName, choice: TileChoice) -> int:
    """The tokens of the other side in a tile."""
    return choice.query_block if kernel is KernelName.KEY_GRADIENT else choice.key_block
