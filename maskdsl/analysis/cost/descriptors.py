"""Which launch configurations load keys and values by tensor descriptors: those whose loops are shorter with them.

By a descriptor one thread has a whole tile copied, which takes some instructions however small the tile is. Else each
thread copies its share of the tile, 16 bytes by an instruction. The rule is what kernels say that were compiled both
ways: `tests/triton/test_descriptors.py` compiles them, and `benchmarks/results/aot.json` has those of every example.
"""

from collections.abc import Sequence
from itertools import chain

from maskdsl.analysis.cost.tile_table import LAST, Architecture, KernelName, TileChoice

_FEWEST = 4
"""From so many copies of a thread on, of a tile of keys, descriptors take fewer instructions."""
_FEWEST_BESIDE_LISTS = 8
"""The same on Blackwell where lists hold the tiles: with fewer, many loops over partial tiles are longer."""
_KEYS = 64
"""As many keys of a tile count: of longer ones scores take so many instructions that others matter less."""
_COPIED = 32 * 16
"""Bytes that the threads of a warp copy by an instruction."""
HAVE_DESCRIPTORS = (Architecture.SM90, Architecture.SM100)
"""The GPUs whose copy engine reads them."""
DESCRIBED_KERNELS = (KernelName.FORWARD, KernelName.QUERY_GRADIENT)
"""The kernels whose loops load keys and values. That of dK and dV loads shorter tiles, and is longer with them."""


def with_descriptors(
    choices: Sequence[TileChoice],
    architecture: Architecture,
    kernel: KernelName,
    dim: int,
    element_size: int,
    *,
    has_lists: bool,
    changes_scores: bool,
) -> tuple[TileChoice, ...]:
    """A ladder in which each choice that is better with descriptors stands with them before it stands without.

    The latter is for kernels that spill registers with them, and where a driver refuses them. `dim` and `element_size`
    are those of `ladder`; `has_lists` says that lists hold the tiles of a row, `changes_scores` that scores or weights
    are more than scaled products. Such kernels hold more registers, and gain less: a hundredth or nothing where scores
    are long, and of ALiBi at 128 dims on Hopper products would wait for each other. The interpreter takes descriptors
    everywhere.
    """
    row = (1 << (dim - 1).bit_length()) * element_size
    fewest = _FEWEST_BESIDE_LISTS if has_lists and architecture is Architecture.SM100 else _FEWEST
    may_gain = architecture in HAVE_DESCRIPTORS and element_size == 2 and not changes_scores

    def is_better(choice: TileChoice) -> bool:
        copies = min(choice.key_block, _KEYS) * row // (_COPIED * choice.warps)
        return copies >= fewest and choice.stages > 1

    def both(choice: TileChoice) -> tuple[TileChoice, ...]:
        takes_them = architecture is Architecture.INTERPRETER or (may_gain and is_better(choice))
        return (choice._replace(descriptors=True), choice) if takes_them and choice not in LAST else (choice,)

    return tuple(chain.from_iterable(map(both, choices))) if kernel in DESCRIBED_KERNELS else tuple(choices)
