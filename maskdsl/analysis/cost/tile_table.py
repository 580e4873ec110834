"""The table of tile sizes, warps and stages: what a kernel starts with, by GPU, head dim, bytes of a number and work.

Plain data and look-ups; read by `runtime`, which falls down a ladder where a GPU has less than its family, or measures
its rungs where asked to. What kernels start with at two bytes was compiled ahead of time for all examples: nothing is
spilled forward at 64 and 128 dims, nor backward at 64 (`make aot` records it, tests hold it).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import chain
from typing import NamedTuple


class TileChoice(NamedTuple):
    """How a kernel cuts its work. The tiles of a call are found for these blocks."""

    query_block: int
    key_block: int
    warps: int
    stages: int

    @property
    def block(self) -> tuple[int, int]:
        return self.query_block, self.key_block

    @property
    def options(self) -> dict[str, int]:
        """What a kernel is started with."""
        query, key = self.block
        return {"QUERY_BLOCK": query, "KEY_BLOCK": key, "num_warps": self.warps, "num_stages": self.stages}


class Architecture(StrEnum):
    """What kernels run on, by the matrix instructions and memory that a family of GPUs has."""

    SM80 = "sm80"  # 8.x; 12.x too, which has these instructions alone, and the little memory of 8.6
    SM90 = "sm90"
    SM100 = "sm100"
    GFX942 = "gfx942"  # all of AMD: 64 KiB of shared memory
    INTERPRETER = "interpreter"


class KernelName(StrEnum):
    """The kernels of a generated module, by their names there."""

    FORWARD = "forward_kernel"
    QUERY_GRADIENT = "query_gradient_kernel"
    KEY_GRADIENT = "key_gradient_kernel"


class TileWork(IntEnum):
    """What a tile of a pattern asks for besides its matrix products."""

    WIDE = 0  # rows mostly of full tiles, with little to compute for a pair: wider blocks of keys waste no pairs
    USUAL = 1
    HEAVY = 2  # much to compute, or addresses to hold, for every pair


@dataclass(frozen=True)
class Rung:
    """One rung of a ladder: what some kernels start with on some GPUs, for head dims and bytes up to these."""

    architectures: frozenset[Architecture]
    kernels: frozenset[KernelName]
    dim: int
    element_size: int
    choice: TileChoice
    serves: TileWork
    """The heaviest work that it is for: heavier work would not keep its registers."""
    reason: str


def ladder(
    architecture: Architecture, kernel: KernelName, dim: int, element_size: int, work: TileWork = TileWork.USUAL
) -> tuple[TileChoice, ...]:
    """What to try, best first, for a head dim of 1 to 256: each needs less than the one before it."""
    covering = [
        each
        for each in TABLE
        if architecture in each.architectures
        and kernel in each.kernels
        and dim <= each.dim
        and element_size <= each.element_size
    ]
    nearest = min((each.element_size, each.dim) for each in covering)
    rungs = [each for each in covering if (each.element_size, each.dim) == nearest and each.serves >= work]
    choices = [each.choice for each in rungs]
    query, key = choices[-1].block
    return *choices, *(each for each in LAST if each.query_block * each.key_block < query * key)


def first_choice(
    rungs: Sequence[TileChoice], fits: Callable[[TileChoice], bool], keeps: Callable[[TileChoice], bool]
) -> TileChoice:
    """The first that fits the GPU and keeps its numbers in registers; both are asked of few, as compilers answer.

    For registers alone nothing goes down to what every ladder ends with: spills cost less than tiles so small.
    Where nothing fits the last rung is taken, whose own error says what is missing.
    """
    fitting = filter(fits, rungs)
    first = next(fitting, rungs[-1])
    return next((each for each in chain([first], fitting) if each not in LAST and keeps(each)), first)


def architecture_of(capability: tuple[int, int]) -> Architecture:
    """The family of an NVIDIA GPU, by the numbers of its compute capability."""
    match capability[0]:
        case 9:
            return Architecture.SM90
        case 10 | 11:
            return Architecture.SM100
        case _:
            return Architecture.SM80


LAST = (TileChoice(32, 32, 4, 1), TileChoice(16, 16, 4, 1))
"""What every ladder ends with: 16 is the least that matrix instructions take."""

NVIDIA = frozenset({Architecture.SM80, Architecture.SM90, Architecture.SM100})
AMD = frozenset({Architecture.GFX942})
INTERPRETER = frozenset({Architecture.INTERPRETER})
GPUS = NVIDIA | AMD
FORWARD = frozenset({KernelName.FORWARD})
QUERY_GRADIENT = frozenset({KernelName.QUERY_GRADIENT})
KEY_GRADIENT = frozenset({KernelName.KEY_GRADIENT})
GRADIENTS = QUERY_GRADIENT | KEY_GRADIENT
SM80, SM90, SM100 = (frozenset({each}) for each in (Architecture.SM80, Architecture.SM90, Architecture.SM100))
WIDE, USUAL, HEAVY = TileWork


def entry(
    architectures: frozenset[Architecture],
    kernels: frozenset[KernelName],
    dim: int,
    element_size: int,
    choice: tuple[int, int, int, int],
    serves: TileWork,
    reason: str,
) -> Rung:
    return Rung(architectures, kernels, dim, element_size, TileChoice(*choice), serves, reason)


TABLE = (
    # Two bytes, forward. 128 queries read each key and value least often; two blocks of 64 feed 8 warps.
    entry(SM80, FORWARD, 64, 2, (128, 64, 8, 3), HEAVY, "48 KiB: three stages hide the way from memory"),
    entry(SM80, FORWARD, 64, 2, (128, 64, 8, 2), HEAVY, "tables of pairs in the 99 KiB of 8.6, 8.9, 12.x"),
    entry(SM80, FORWARD, 64, 2, (128, 32, 8, 3), HEAVY, "addresses, conditions of half the pairs"),
    entry(SM80, FORWARD, 64, 2, (64, 64, 4, 2), HEAVY, "half of that"),
    entry(SM80, FORWARD, 128, 2, (128, 64, 8, 3), WIDE, "96 KiB: three stages, no coordinates to hold"),
    entry(SM80, FORWARD, 128, 2, (128, 64, 8, 2), USUAL, "64 KiB: a third stage costs registers"),
    entry(SM80, FORWARD, 128, 2, (128, 32, 8, 3), HEAVY, "addresses, conditions of half the pairs"),
    entry(SM80, FORWARD, 128, 2, (128, 32, 8, 2), HEAVY, "a third stage costs registers"),
    entry(SM80, FORWARD, 128, 2, (128, 16, 8, 3), HEAVY, "half the keys to hold conditions of"),
    entry(SM80, FORWARD, 128, 2, (64, 32, 4, 2), HEAVY, "half of that"),
    entry(SM90, FORWARD, 64, 2, (128, 128, 8, 2), WIDE, "half the rescaling of results"),
    entry(SM90, FORWARD, 64, 2, (128, 64, 8, 3), HEAVY, "a warp group for 64 queries; stages hide memory"),
    entry(SM90, FORWARD, 64, 2, (128, 64, 8, 2), HEAVY, "two stages, for less memory"),
    entry(SM90, FORWARD, 64, 2, (128, 32, 8, 3), HEAVY, "addresses, conditions of half the pairs"),
    entry(SM90, FORWARD, 128, 2, (128, 128, 8, 2), WIDE, "160 KiB: half the rescaling of results"),
    entry(SM90, FORWARD, 128, 2, (128, 64, 8, 3), USUAL, "128 KiB: one warp group for 64 queries"),
    entry(SM90, FORWARD, 128, 2, (128, 32, 8, 3), HEAVY, "addresses, conditions of half the pairs"),
    entry(SM90, FORWARD, 128, 2, (64, 64, 8, 2), HEAVY, "as many pairs, half the results of a thread"),
    entry(SM90, FORWARD, 128, 2, (64, 32, 4, 2), HEAVY, "half of that"),
    entry(SM100, FORWARD, 64, 2, (128, 64, 8, 3), WIDE, "three stages, no coordinates to hold"),
    entry(SM100, FORWARD, 64, 2, (128, 64, 8, 2), USUAL, "a third stage costs registers"),
    entry(SM100, FORWARD, 64, 2, (128, 32, 8, 3), HEAVY, "addresses, conditions of half the pairs"),
    entry(SM100, FORWARD, 64, 2, (64, 64, 8, 2), HEAVY, "as many pairs, half the results of a thread"),
    entry(SM100, FORWARD, 128, 2, (128, 64, 8, 2), WIDE, "104 KiB: no registers for conditions"),
    entry(SM100, FORWARD, 128, 2, (128, 32, 8, 3), HEAVY, "addresses, conditions of half the pairs"),
    entry(SM100, FORWARD, 128, 2, (64, 32, 4, 2), HEAVY, "half of that"),
    entry(SM100, FORWARD, 128, 2, (64, 32, 8, 2), HEAVY, "half the pairs of a thread"),
    entry(AMD, FORWARD, 64, 2, (128, 64, 4, 2), HEAVY, "4 wavefronts have 512 registers, 8 have 256"),
    entry(AMD, FORWARD, 64, 2, (128, 64, 4, 1), HEAVY, "compilers fail on some tables of pairs in two stages"),
    entry(AMD, FORWARD, 64, 2, (128, 32, 4, 2), HEAVY, "half the memory"),
    entry(AMD, FORWARD, 128, 2, (128, 64, 8, 1), WIDE, "one stage: two would need all 64 KiB"),
    entry(AMD, FORWARD, 128, 2, (128, 32, 8, 1), HEAVY, "conditions of half the pairs"),
    entry(AMD, FORWARD, 128, 2, (64, 32, 4, 1), HEAVY, "half of that"),
    entry(NVIDIA, FORWARD, 256, 2, (64, 64, 8, 2), HEAVY, "results as large as 128 by 128"),
    entry(GPUS, FORWARD, 256, 2, (64, 32, 8, 1), HEAVY, "half the keys, and one stage: less memory"),
    entry(GPUS, FORWARD, 256, 2, (32, 32, 4, 1), HEAVY, "half of that"),
    # Two bytes, backward. The side whose gradient it is has the longer block: results stay, the other side is read.
    entry(SM80, QUERY_GRADIENT, 64, 2, (128, 32, 8, 2), HEAVY, "with 64 keys each warp holds too much of them"),
    entry(SM80, QUERY_GRADIENT, 64, 2, (64, 32, 4, 2), USUAL, "half of that"),
    entry(SM80, KEY_GRADIENT, 64, 2, (32, 128, 8, 2), USUAL, "two results of 128 keys; 64 queries would spill"),
    entry(SM80, KEY_GRADIENT, 64, 2, (32, 64, 8, 1), HEAVY, "room for addresses and conditions"),
    entry(SM80, KEY_GRADIENT, 64, 2, (16, 64, 8, 1), HEAVY, "half of that"),
    entry(SM90, QUERY_GRADIENT, 64, 2, (128, 64, 8, 2), HEAVY, "64 KiB: one warp group for 64 queries"),
    entry(SM90, QUERY_GRADIENT, 64, 2, (64, 64, 8, 2), HEAVY, "half the queries"),
    entry(SM90, QUERY_GRADIENT, 64, 2, (128, 32, 8, 2), HEAVY, "as many pairs, half the keys to hold conditions of"),
    entry(SM90, QUERY_GRADIENT, 64, 2, (64, 32, 4, 2), HEAVY, "half of that"),
    entry(SM90, KEY_GRADIENT, 64, 2, (32, 128, 8, 2), HEAVY, "two results of 128 keys; 64 queries would spill"),
    entry(SM90, KEY_GRADIENT, 64, 2, (32, 64, 8, 2), HEAVY, "half of that"),
    entry(SM100, QUERY_GRADIENT, 64, 2, (64, 64, 4, 2), USUAL, "4 warps have 255 registers, as many as 8"),
    entry(SM100, QUERY_GRADIENT, 64, 2, (128, 32, 8, 2), HEAVY, "as many pairs, half the keys to hold conditions of"),
    entry(SM100, QUERY_GRADIENT, 64, 2, (64, 32, 4, 2), HEAVY, "room for addresses and conditions"),
    entry(SM100, KEY_GRADIENT, 64, 2, (32, 128, 8, 2), USUAL, "two results of 128 keys"),
    entry(SM100, KEY_GRADIENT, 64, 2, (32, 128, 8, 1), HEAVY, "a second stage costs registers"),
    entry(SM100, KEY_GRADIENT, 64, 2, (32, 64, 8, 1), HEAVY, "room for addresses and conditions"),
    entry(AMD, QUERY_GRADIENT, 64, 2, (64, 64, 4, 1), USUAL, "4 wavefronts have 512 registers, 8 have 256"),
    entry(AMD, QUERY_GRADIENT, 64, 2, (64, 32, 4, 1), HEAVY, "conditions of half the pairs"),
    entry(AMD, KEY_GRADIENT, 64, 2, (64, 64, 4, 1), USUAL, "4 wavefronts have 512 registers, 8 have 256"),
    entry(AMD, KEY_GRADIENT, 64, 2, (32, 64, 4, 1), HEAVY, "conditions of half the pairs"),
    entry(SM80, QUERY_GRADIENT, 128, 2, (128, 32, 8, 2), USUAL, "80 KiB, which 8.6 has"),
    entry(SM80, QUERY_GRADIENT, 128, 2, (64, 64, 8, 1), HEAVY, "room for addresses; both stages would not fit"),
    entry(SM80, QUERY_GRADIENT, 128, 2, (64, 32, 4, 1), HEAVY, "half of that"),
    entry(SM80 | SM90, KEY_GRADIENT, 128, 2, (32, 64, 8, 2), HEAVY, "two results of 64 by 128; 128 keys would spill"),
    entry(
        SM90 | SM100, QUERY_GRADIENT, 128, 2, (128, 32, 8, 2), HEAVY, "a warp group for 64 queries; 64 keys would spill"
    ),
    entry(SM90 | SM100, QUERY_GRADIENT, 128, 2, (64, 32, 4, 1), HEAVY, "half of that"),
    entry(SM100, KEY_GRADIENT, 128, 2, (32, 128, 8, 1), HEAVY, "results in tensor memory; a second stage would spill"),
    entry(SM100, KEY_GRADIENT, 128, 2, (32, 64, 4, 1), HEAVY, "half of that"),
    entry(AMD, QUERY_GRADIENT, 128, 2, (64, 32, 4, 1), HEAVY, "4 wavefronts have 512 registers, 8 have 256"),
    entry(AMD, KEY_GRADIENT, 128, 2, (32, 64, 4, 1), HEAVY, "4 wavefronts have 512 registers, 8 have 256"),
    entry(NVIDIA, GRADIENTS, 256, 2, (32, 32, 8, 1), HEAVY, "results of 32 by 256 fill the registers"),
    entry(AMD, GRADIENTS, 256, 2, (16, 16, 4, 1), HEAVY, "results of 16 by 256 fill the registers"),
    # Four bytes: products in three parts of tf32, or one by one, whose time hides all else.
    entry(NVIDIA, FORWARD, 64, 4, (64, 32, 4, 2), HEAVY, "twice the bytes: half the tiles"),
    entry(NVIDIA, FORWARD, 128, 4, (64, 32, 4, 1), HEAVY, "twice the bytes: half the stages"),
    entry(NVIDIA, FORWARD, 256, 4, (32, 16, 4, 1), HEAVY, "twice the bytes: half the queries and keys"),
    entry(AMD, FORWARD, 64, 4, (64, 64, 4, 1), HEAVY, "twice the bytes: half the queries, one stage"),
    entry(AMD, FORWARD, 128, 4, (64, 32, 4, 1), HEAVY, "half the keys of 64 dims"),
    entry(AMD, FORWARD, 256, 4, (64, 16, 4, 1), HEAVY, "half the keys of 128 dims"),
    entry(NVIDIA, GRADIENTS, 64, 4, (64, 64, 8, 2), HEAVY, "as many bytes as 128 dims of two"),
    entry(GPUS, GRADIENTS, 128, 4, (32, 32, 4, 1), HEAVY, "as many bytes as 256 dims of two"),
    entry(GPUS, GRADIENTS, 256, 4, (16, 16, 4, 1), HEAVY, "four tiles of 16 KiB"),
    # Eight bytes: for checking, not for speed.
    entry(GPUS, FORWARD, 256, 8, (32, 16, 4, 1), HEAVY, "as many bytes as 64 by 32 of four"),
    entry(GPUS, GRADIENTS, 256, 8, (16, 16, 4, 1), HEAVY, "four tiles of 32 KiB"),
    # No GPU: small problems should have several tiles.
    entry(INTERPRETER, FORWARD, 256, 8, (32, 16, 4, 1), HEAVY, "several tiles a row in small problems"),
    entry(INTERPRETER, GRADIENTS, 256, 8, (16, 32, 4, 1), HEAVY, "other blocks than forward"),
)
"""The entries of one kernel, GPU, head dim and size are a ladder, its largest tiles first."""
