"""The tile table: tile sizes, warps and stages of kernels, by GPU family, head dim, element size and work per pair.

Plain data and lookups. `runtime` reads a ladder of launch configurations: it takes the first that fits the GPU, or
measures all if asked to. `python benchmarks/ladders.py` derives those at two bytes from machine code. They were
compiled ahead of time for all examples: no register spills forward at head dims 64 and 128, nor backward at 64 (`make
aot` records it, tests hold it).
"""

from collections.abc import Callable, Sequence
from enum import IntEnum, StrEnum
from itertools import chain
from typing import NamedTuple

from maskdsl.base.records import dataclass


class TileChoice(NamedTuple):
    """A launch configuration: the tile of a kernel, its warps and pipeline stages."""

    query_block: int
    key_block: int
    warps: int
    stages: int
    descriptors: bool = False
    """Whether loops load by tensor descriptors, where strides allow it."""

    @property
    def block(self) -> tuple[int, int]:
        """Queries and keys of a tile."""
        return self.query_block, self.key_block

    @property
    def options(self) -> dict[str, int]:
        """The keyword arguments of a kernel launch."""
        query, key = self.block
        return {"QUERY_BLOCK": query, "KEY_BLOCK": key, "num_warps": self.warps, "num_stages": self.stages}


class Architecture(StrEnum):
    """A family of GPUs with the same matrix instructions and similar memory."""

    SM80 = "sm80"  # 8.x; 12.x too, which has only these instructions, and as little memory as 8.6
    SM90 = "sm90"
    SM100 = "sm100"
    GFX942 = "gfx942"  # all of AMD: 64 KiB of shared memory
    INTERPRETER = "interpreter"


class KernelName(StrEnum):
    """The kernels of a generated module, by name."""

    FORWARD = "forward_kernel"
    QUERY_GRADIENT = "query_gradient_kernel"
    KEY_GRADIENT = "key_gradient_kernel"


class TileWork(IntEnum):
    """The work per pair of a pattern besides matrix products."""

    WIDE = 0  # mostly full tiles and little work per pair: wider blocks of keys waste no pairs
    USUAL = 1
    BUSY = 2  # much arithmetic, or many addresses in registers, for every pair
    HEAVY = 3  # scores with several tables of pairs, whose tiles are in shared memory beside those of keys and values


@dataclass(frozen=True)
class _TableEntry:
    """A configuration of some kernels on some GPUs, for head dims and element sizes up to these."""

    architectures: frozenset[Architecture]
    kernels: frozenset[KernelName]
    dim: int
    element_size: int
    choice: TileChoice
    serves: TileWork
    """The heaviest work that it is for: heavier work would spill registers."""
    reason: str


def ladder(
    architecture: Architecture, kernel: KernelName, dim: int, element_size: int, work: TileWork = TileWork.USUAL
) -> tuple[TileChoice, ...]:
    """The configurations to try, best first; each needs less memory, or fewer registers, than the one before.

    `dim` is the head dim, 1 to 256; `element_size` is in bytes.
    """
    covering = [
        each
        for each in TABLE
        if architecture in each.architectures
        and kernel in each.kernels
        and dim <= each.dim
        and element_size <= each.element_size
    ]
    nearest = min((each.element_size, each.dim) for each in covering)
    entries = [each for each in covering if (each.element_size, each.dim) == nearest and each.serves >= work]
    choices = [each.choice for each in entries]
    query, key = choices[-1].block
    smaller = (each for each in LAST if each.query_block * each.key_block <= query * key)
    return *choices, *(each for each in smaller if each not in choices)


def first_choice(
    choices: Sequence[TileChoice], fits: Callable[[TileChoice], bool], spilled: Callable[[TileChoice], int]
) -> TileChoice:
    """The first configuration that `fits` the GPU and has no words of a thread `spilled` from registers to memory.

    Both functions compile a kernel, so they are called lazily. The smallest tiles (`LAST`) are taken to avoid `_MANY`
    spilled words, and not to avoid less: they cost more. If nothing fits, the last configuration is taken; its launch
    raises the error. Spills count outside of loops too, where they cost little: calls know their number, and not where
    they are.
    """
    fitting = filter(fits, choices)
    first = next(fitting, None)
    if first is None:
        return choices[-1]

    def is_better(choice: TileChoice) -> bool:
        return spilled(choice) == 0 and (choice not in LAST or spilled(first) >= _MANY)

    return next(filter(is_better, chain([first], fitting)), first)


def architecture_of(capability: tuple[int, int]) -> Architecture:
    """The family of an NVIDIA GPU, by its compute capability (major, minor)."""
    match capability[0]:
        case 9:
            return Architecture.SM90
        case 10 | 11:
            return Architecture.SM100
        case _:
            return Architecture.SM80


LAST = (TileChoice(32, 32, 4, 1), TileChoice(16, 16, 4, 1))
"""The end of every ladder: 16 is the smallest size of matrix instructions."""
_MANY = 128
"""Words of a thread. In a loop that computes 16 pairs, so many spills take 16 instructions more for each of them, which
is what the smallest tiles take more."""

_NVIDIA = frozenset({Architecture.SM80, Architecture.SM90, Architecture.SM100})
_AMD = frozenset({Architecture.GFX942})
_INTERPRETER = frozenset({Architecture.INTERPRETER})
_GPUS = _NVIDIA | _AMD
_FORWARD = frozenset({KernelName.FORWARD})
_QUERY_GRADIENT = frozenset({KernelName.QUERY_GRADIENT})
_KEY_GRADIENT = frozenset({KernelName.KEY_GRADIENT})
_GRADIENTS = _QUERY_GRADIENT | _KEY_GRADIENT
_SM80, _SM90, _SM100 = (frozenset({each}) for each in (Architecture.SM80, Architecture.SM90, Architecture.SM100))
_WIDE, _USUAL, _BUSY, _HEAVY = TileWork


def _entry(
    architectures: frozenset[Architecture],
    kernels: frozenset[KernelName],
    dim: int,
    element_size: int,
    choice: tuple[int, int, int, int],
    serves: TileWork,
    reason: str,
) -> _TableEntry:
    return _TableEntry(architectures, kernels, dim, element_size, TileChoice(*choice), serves, reason)


TABLE = (
    # Two bytes, forward. 128 queries read each key and value least often; two blocks of 64 feed 8 warps.
    _entry(_SM80, _FORWARD, 64, 2, (128, 64, 8, 3), _USUAL, "48 KiB: three stages hide memory latency"),
    _entry(_SM80, _FORWARD, 64, 2, (128, 64, 8, 2), _USUAL, "less memory, for the 99 KiB of 8.6, 8.9, 12.x"),
    _entry(_SM80, _FORWARD, 64, 2, (64, 64, 4, 2), _HEAVY, "half the pairs; two programs at once"),
    _entry(_SM80, _FORWARD, 64, 2, (128, 32, 8, 3), _HEAVY, "addresses, conditions of half the keys"),
    _entry(_SM80, _FORWARD, 64, 2, (64, 16, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM80, _FORWARD, 128, 2, (128, 64, 8, 3), _WIDE, "96 KiB: three stages, no coordinates to hold"),
    _entry(_SM80, _FORWARD, 128, 2, (128, 64, 8, 2), _USUAL, "64 KiB: a third stage costs registers"),
    _entry(_SM80, _FORWARD, 128, 2, (128, 32, 8, 3), _HEAVY, "addresses, conditions of half the pairs"),
    _entry(_SM80, _FORWARD, 128, 2, (128, 32, 8, 2), _HEAVY, "a third stage costs registers"),
    _entry(_SM80, _FORWARD, 128, 2, (128, 16, 8, 3), _HEAVY, "half the keys to hold conditions of"),
    _entry(_SM80, _FORWARD, 128, 2, (64, 32, 4, 2), _HEAVY, "half of that"),
    _entry(_SM80, _FORWARD, 128, 2, (32, 32, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM90, _FORWARD, 64, 2, (128, 128, 8, 2), _WIDE, "half the rescaling of results"),
    _entry(_SM90, _FORWARD, 64, 2, (128, 64, 8, 3), _BUSY, "a warp group for 64 queries; stages hide memory"),
    _entry(_SM90, _FORWARD, 64, 2, (128, 64, 8, 2), _HEAVY, "a third stage of two tables would serialize products"),
    _entry(_SM90, _FORWARD, 64, 2, (128, 32, 8, 3), _HEAVY, "addresses, conditions of half the pairs"),
    _entry(_SM90, _FORWARD, 64, 2, (64, 64, 4, 2), _USUAL, "two programs share a multiprocessor: for tuning"),
    _entry(_SM90, _FORWARD, 64, 2, (64, 32, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM90, _FORWARD, 128, 2, (128, 128, 8, 2), _WIDE, "160 KiB: half the rescaling of results"),
    _entry(_SM90, _FORWARD, 128, 2, (128, 64, 8, 3), _USUAL, "128 KiB: one warp group for 64 queries"),
    _entry(_SM90, _FORWARD, 128, 2, (128, 32, 8, 3), _HEAVY, "addresses, conditions of half the pairs"),
    _entry(_SM90, _FORWARD, 128, 2, (64, 64, 8, 2), _HEAVY, "as many pairs, half the results of a thread"),
    _entry(_SM90, _FORWARD, 128, 2, (64, 64, 4, 2), _USUAL, "two programs share a multiprocessor: for tuning"),
    _entry(_SM90, _FORWARD, 128, 2, (64, 32, 4, 2), _HEAVY, "half of that"),
    _entry(_SM90, _FORWARD, 128, 2, (64, 16, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM100, _FORWARD, 64, 2, (128, 64, 4, 3), _USUAL, "a query a thread; two programs share a processor"),
    _entry(_SM100, _FORWARD, 64, 2, (128, 64, 8, 2), _USUAL, "a third stage costs registers"),
    _entry(_SM100, _FORWARD, 64, 2, (128, 32, 8, 3), _HEAVY, "addresses, conditions of half the pairs"),
    _entry(_SM100, _FORWARD, 64, 2, (64, 64, 8, 2), _HEAVY, "as many pairs, half the results of a thread"),
    _entry(_SM100, _FORWARD, 64, 2, (64, 32, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM100, _FORWARD, 128, 2, (128, 32, 4, 3), _USUAL, "80 KiB, 256 columns: two programs share a processor"),
    _entry(_SM100, _FORWARD, 128, 2, (128, 32, 8, 3), _HEAVY, "addresses, conditions of half the pairs"),
    _entry(_SM100, _FORWARD, 128, 2, (64, 32, 4, 2), _HEAVY, "half of that"),
    _entry(_SM100, _FORWARD, 128, 2, (64, 32, 8, 2), _HEAVY, "half the pairs of a thread"),
    _entry(_SM100, _FORWARD, 128, 2, (64, 32, 8, 1), _HEAVY, "six products with tables"),
    _entry(_AMD, _FORWARD, 64, 2, (128, 64, 4, 2), _HEAVY, "4 wavefronts have 512 registers, 8 have 256"),
    _entry(_AMD, _FORWARD, 64, 2, (128, 64, 4, 1), _HEAVY, "compilers fail on some tables of pairs in two stages"),
    _entry(_AMD, _FORWARD, 64, 2, (128, 32, 4, 2), _HEAVY, "half the memory"),
    _entry(_AMD, _FORWARD, 64, 2, (64, 16, 8, 1), _HEAVY, "six products with tables"),
    _entry(
        _AMD, _FORWARD, 128, 2, (128, 64, 4, 1), _USUAL, "products of 32 rows: 8 wavefronts would compute all twice"
    ),
    _entry(_AMD, _FORWARD, 128, 2, (64, 64, 4, 1), _HEAVY, "conditions of half the pairs; two programs at once"),
    _entry(_AMD, _FORWARD, 128, 2, (64, 32, 4, 1), _HEAVY, "half of that"),
    _entry(_SM90, _FORWARD, 192, 2, (128, 64, 8, 2), _USUAL, "144 KiB, products of 64 keys in chunks of 128 dims"),
    _entry(_SM90, _FORWARD, 192, 2, (64, 64, 8, 2), _HEAVY, "half the results of a thread"),
    _entry(_SM90, _FORWARD, 192, 2, (64, 32, 8, 1), _HEAVY, "half the keys, and one stage: less memory"),
    _entry(_SM90, _FORWARD, 256, 2, (128, 64, 8, 2), _USUAL, "192 KiB: a warp group for 64 queries"),
    _entry(_NVIDIA, _FORWARD, 256, 2, (64, 64, 8, 2), _HEAVY, "results as large as 128 by 128"),
    _entry(_AMD, _FORWARD, 256, 2, (128, 64, 4, 1), _USUAL, "512 registers: results of 32 by 256 a wavefront"),
    _entry(_GPUS, _FORWARD, 256, 2, (64, 32, 8, 1), _HEAVY, "half the keys, and one stage: less memory"),
    _entry(_GPUS, _FORWARD, 256, 2, (32, 32, 4, 1), _HEAVY, "half of that"),
    # Two bytes, backward. The side with the gradient has the longer block: accumulators stay, the other side is read.
    _entry(_SM80, _QUERY_GRADIENT, 64, 2, (128, 32, 8, 2), _HEAVY, "with 64 keys each warp holds too much of them"),
    _entry(_SM80, _QUERY_GRADIENT, 64, 2, (64, 32, 4, 2), _USUAL, "half of that"),
    _entry(_SM80, _QUERY_GRADIENT, 64, 2, (64, 32, 8, 1), _HEAVY, "half the pairs of a thread: searches, tables"),
    _entry(_SM80, _QUERY_GRADIENT, 64, 2, (64, 16, 8, 1), _HEAVY, "half of that"),
    _entry(_SM80, _KEY_GRADIENT, 64, 2, (32, 128, 8, 2), _USUAL, "two results of 128 keys; 64 queries would spill"),
    _entry(_SM80, _KEY_GRADIENT, 64, 2, (32, 64, 8, 1), _HEAVY, "room for addresses and conditions"),
    _entry(_SM80, _KEY_GRADIENT, 64, 2, (16, 64, 8, 1), _HEAVY, "half of that"),
    _entry(_SM80, _KEY_GRADIENT, 64, 2, (16, 32, 8, 1), _HEAVY, "sums of two tables of pairs"),
    _entry(_SM90, _QUERY_GRADIENT, 64, 2, (128, 64, 8, 2), _USUAL, "64 KiB: one warp group for 64 queries"),
    _entry(_SM90, _QUERY_GRADIENT, 64, 2, (64, 64, 4, 2), _HEAVY, "half the pairs; two programs at once"),
    _entry(
        _SM90, _QUERY_GRADIENT, 64, 2, (128, 32, 8, 2), _USUAL, "as many pairs, half the keys to hold conditions of"
    ),
    _entry(_SM90, _QUERY_GRADIENT, 64, 2, (64, 32, 4, 2), _HEAVY, "half of that"),
    _entry(_SM90, _QUERY_GRADIENT, 64, 2, (64, 16, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM90, _KEY_GRADIENT, 64, 2, (64, 128, 8, 2), _USUAL, "products as wide as two warp groups need"),
    _entry(_SM90, _KEY_GRADIENT, 64, 2, (32, 128, 8, 2), _USUAL, "half the queries to hold scores of"),
    _entry(_SM90, _KEY_GRADIENT, 64, 2, (32, 64, 4, 2), _HEAVY, "half the pairs; two programs at once"),
    _entry(_SM90, _KEY_GRADIENT, 64, 2, (32, 64, 8, 2), _HEAVY, "half of that"),
    _entry(_SM90, _KEY_GRADIENT, 64, 2, (16, 64, 8, 1), _HEAVY, "sums of two tables of pairs"),
    _entry(_SM90, _KEY_GRADIENT, 64, 2, (16, 32, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM100, _QUERY_GRADIENT, 64, 2, (128, 64, 4, 2), _USUAL, "a query a thread; two programs share a processor"),
    _entry(_SM100, _QUERY_GRADIENT, 64, 2, (64, 64, 4, 2), _USUAL, "4 warps have 255 registers, as many as 8"),
    _entry(_SM100, _QUERY_GRADIENT, 64, 2, (128, 32, 4, 2), _HEAVY, "half the keys to hold conditions of"),
    _entry(
        _SM100, _QUERY_GRADIENT, 64, 2, (128, 32, 8, 2), _HEAVY, "as many pairs, half the keys to hold conditions of"
    ),
    _entry(_SM100, _QUERY_GRADIENT, 64, 2, (64, 32, 4, 2), _HEAVY, "room for addresses and conditions"),
    _entry(_SM100, _QUERY_GRADIENT, 64, 2, (64, 32, 8, 1), _HEAVY, "half the pairs of a thread"),
    _entry(_SM100, _KEY_GRADIENT, 64, 2, (32, 128, 4, 2), _USUAL, "a key a thread; two programs share a processor"),
    _entry(_SM100, _KEY_GRADIENT, 64, 2, (64, 64, 4, 2), _HEAVY, "half the results of a thread"),
    _entry(_SM100, _KEY_GRADIENT, 64, 2, (32, 128, 8, 2), _USUAL, "two results of 128 keys"),
    _entry(_SM100, _KEY_GRADIENT, 64, 2, (32, 128, 8, 1), _HEAVY, "a second stage costs registers"),
    _entry(_SM100, _KEY_GRADIENT, 64, 2, (32, 64, 8, 1), _HEAVY, "room for addresses and conditions"),
    _entry(_SM100, _KEY_GRADIENT, 64, 2, (16, 64, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM100, _KEY_GRADIENT, 64, 2, (32, 32, 8, 1), _HEAVY, "compilers fail on longer blocks of tables' sums"),
    _entry(
        _AMD, _QUERY_GRADIENT, 64, 2, (128, 32, 4, 2), _USUAL, "32 queries a wavefront: no product is computed twice"
    ),
    _entry(_AMD, _QUERY_GRADIENT, 64, 2, (64, 32, 4, 1), _HEAVY, "conditions of half the pairs"),
    _entry(_AMD, _KEY_GRADIENT, 64, 2, (32, 128, 4, 1), _USUAL, "32 keys a wavefront: no product is computed twice"),
    _entry(_AMD, _KEY_GRADIENT, 64, 2, (32, 64, 4, 1), _HEAVY, "conditions of half the pairs"),
    _entry(_SM80, _QUERY_GRADIENT, 128, 2, (128, 32, 8, 2), _USUAL, "80 KiB, which 8.6 has"),
    _entry(
        _SM80, _QUERY_GRADIENT, 128, 2, (64, 64, 8, 2), _HEAVY, "96 KiB, which 8.6 has: half the results of a thread"
    ),
    _entry(_SM80, _QUERY_GRADIENT, 128, 2, (64, 64, 8, 1), _HEAVY, "room for tables in shared memory"),
    _entry(_SM80, _QUERY_GRADIENT, 128, 2, (64, 32, 4, 1), _HEAVY, "half of that"),
    _entry(_SM90, _KEY_GRADIENT, 128, 2, (32, 128, 8, 2), _HEAVY, "products of 32 queries; of 16 they wait for memory"),
    _entry(_SM90, _KEY_GRADIENT, 128, 2, (64, 64, 8, 2), _USUAL, "as wide products, half the results of a thread"),
    _entry(_SM80, _KEY_GRADIENT, 128, 2, (64, 64, 8, 2), _USUAL, "96 KiB, which 8.6 has; two results of 64 by 128"),
    _entry(
        _SM80 | _SM90, _KEY_GRADIENT, 128, 2, (16, 128, 8, 2), _HEAVY, "results as wide; scores of half the queries"
    ),
    _entry(
        _SM80 | _SM90, _KEY_GRADIENT, 128, 2, (32, 64, 8, 2), _HEAVY, "two results of 64 by 128: room for conditions"
    ),
    _entry(_SM80 | _SM90, _KEY_GRADIENT, 128, 2, (16, 64, 8, 2), _HEAVY, "scores of half the queries"),
    _entry(_SM80 | _SM90, _KEY_GRADIENT, 128, 2, (16, 64, 8, 1), _HEAVY, "six products with tables"),
    _entry(_SM90, _QUERY_GRADIENT, 128, 2, (128, 64, 8, 3), _USUAL, "160 KiB: products as wide as warp groups need"),
    _entry(_SM90, _QUERY_GRADIENT, 128, 2, (128, 32, 8, 2), _USUAL, "a warp group for 64 queries, half the keys"),
    _entry(_SM90, _QUERY_GRADIENT, 128, 2, (64, 32, 4, 2), _HEAVY, "half the pairs; two programs at once"),
    _entry(
        _SM100, _QUERY_GRADIENT, 128, 2, (128, 32, 4, 2), _HEAVY, "96 KiB, 256 columns: two programs share a processor"
    ),
    _entry(_SM100, _QUERY_GRADIENT, 128, 2, (128, 32, 8, 2), _HEAVY, "half the pairs of a thread"),
    _entry(_SM90, _QUERY_GRADIENT, 128, 2, (64, 32, 8, 2), _HEAVY, "half the pairs of a thread"),
    _entry(_SM90 | _SM100, _QUERY_GRADIENT, 128, 2, (64, 32, 4, 1), _HEAVY, "one stage: less memory"),
    _entry(_SM90, _QUERY_GRADIENT, 128, 2, (64, 16, 8, 1), _HEAVY, "six products with tables"),
    _entry(
        _SM100, _KEY_GRADIENT, 128, 2, (32, 128, 8, 1), _HEAVY, "results in tensor memory; a second stage would spill"
    ),
    _entry(_SM100, _KEY_GRADIENT, 128, 2, (64, 64, 8, 2), _HEAVY, "half the results of a thread"),
    _entry(_SM100, _KEY_GRADIENT, 128, 2, (32, 64, 8, 1), _HEAVY, "half the queries to hold scores of"),
    _entry(_SM100, _KEY_GRADIENT, 128, 2, (16, 64, 8, 1), _HEAVY, "scores of half the queries"),
    _entry(_AMD, _QUERY_GRADIENT, 128, 2, (64, 32, 4, 1), _HEAVY, "4 wavefronts have 512 registers, 8 have 256"),
    _entry(_AMD, _KEY_GRADIENT, 128, 2, (32, 128, 4, 1), _HEAVY, "32 keys a wavefront: no product is computed twice"),
    _entry(_AMD, _KEY_GRADIENT, 128, 2, (16, 128, 4, 1), _HEAVY, "conditions of half the pairs"),
    _entry(_AMD, _KEY_GRADIENT, 128, 2, (32, 64, 4, 1), _HEAVY, "half the results of a thread"),
    _entry(_SM90, _QUERY_GRADIENT, 192, 2, (128, 64, 8, 2), _USUAL, "192 KiB: a warp group for 64 queries"),
    _entry(_SM90, _QUERY_GRADIENT, 192, 2, (64, 64, 8, 2), _HEAVY, "half the results of a thread"),
    _entry(_SM90, _GRADIENTS, 256, 2, (64, 64, 8, 2), _HEAVY, "192 KiB; warp groups need 64 rows of results"),
    _entry(_SM90, _KEY_GRADIENT, 256, 2, (32, 64, 8, 2), _HEAVY, "half the queries to hold scores of"),
    _entry(_SM100, _QUERY_GRADIENT, 256, 2, (64, 64, 8, 2), _HEAVY, "225 KiB; results in tensor memory"),
    _entry(
        _SM100, _QUERY_GRADIENT, 256, 2, (128, 32, 8, 2), _HEAVY, "as many pairs, half the keys to hold conditions of"
    ),
    _entry(_SM80 | _SM100, _QUERY_GRADIENT, 256, 2, (64, 32, 8, 2), _HEAVY, "copies while another tile is computed"),
    _entry(_SM80 | _SM100, _KEY_GRADIENT, 256, 2, (64, 32, 8, 2), _HEAVY, "two results of 64 by 256 would spill"),
    _entry(_SM80 | _SM100, _GRADIENTS, 256, 2, (32, 32, 8, 2), _HEAVY, "80 KiB, which 8.6 has"),
    _entry(_SM80 | _SM100, _GRADIENTS, 256, 2, (32, 32, 8, 1), _HEAVY, "results of 32 by 256 fill the registers"),
    _entry(_AMD, _QUERY_GRADIENT, 256, 2, (128, 32, 4, 1), _USUAL, "512 registers: results of 32 by 256 a wavefront"),
    _entry(_AMD, _QUERY_GRADIENT, 256, 2, (32, 16, 4, 1), _HEAVY, "two programs at once"),
    _entry(_AMD, _KEY_GRADIENT, 256, 2, (16, 32, 4, 1), _HEAVY, "two programs at once; 32 queries would spill"),
    _entry(_AMD, _GRADIENTS, 256, 2, (16, 16, 4, 1), _HEAVY, "results of 16 by 256 fill the registers"),
    # Four bytes: products of three tf32 products, or without tensor cores; they dominate the time.
    _entry(_NVIDIA, _FORWARD, 64, 4, (64, 32, 4, 2), _HEAVY, "twice the bytes: half the tiles"),
    _entry(_NVIDIA, _FORWARD, 128, 4, (64, 32, 4, 1), _HEAVY, "twice the bytes: half the stages"),
    _entry(_NVIDIA, _FORWARD, 256, 4, (32, 16, 4, 1), _HEAVY, "twice the bytes: half the queries and keys"),
    _entry(_AMD, _FORWARD, 64, 4, (64, 64, 4, 1), _HEAVY, "twice the bytes: half the queries, one stage"),
    _entry(_AMD, _FORWARD, 128, 4, (64, 32, 4, 1), _HEAVY, "half the keys of 64 dims"),
    _entry(_AMD, _FORWARD, 256, 4, (64, 16, 4, 1), _HEAVY, "half the keys of 128 dims"),
    _entry(_NVIDIA, _GRADIENTS, 64, 4, (64, 64, 8, 2), _HEAVY, "as many bytes as 128 dims of two"),
    _entry(_GPUS, _GRADIENTS, 128, 4, (32, 32, 4, 1), _HEAVY, "as many bytes as 256 dims of two"),
    _entry(_GPUS, _GRADIENTS, 256, 4, (16, 16, 4, 1), _HEAVY, "four tiles of 16 KiB"),
    # Eight bytes: for checking, not for speed.
    _entry(_GPUS, _FORWARD, 256, 8, (32, 16, 4, 1), _HEAVY, "as many bytes as 64 by 32 of four"),
    _entry(_GPUS, _GRADIENTS, 256, 8, (16, 16, 4, 1), _HEAVY, "four tiles of 32 KiB"),
    # No GPU: small problems should have several tiles.
    _entry(_INTERPRETER, _FORWARD, 256, 8, (32, 16, 4, 1), _HEAVY, "several tiles a row in small problems"),
    _entry(_INTERPRETER, _GRADIENTS, 256, 8, (16, 32, 4, 1), _HEAVY, "other blocks than forward"),
)
"""The entries of one kernel, family, head dim and element size form a ladder, largest tiles first."""
