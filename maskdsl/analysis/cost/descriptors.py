"""Which launch configurations load keys and values by tensor descriptors: those whose loops are shorter with them.

By a descriptor one thread has a whole tile copied, which takes some instructions however small the tile is. Else each
thread copies its share of the tile, 16 bytes by an instruction. The rule is what kernels say that were compiled both
ways: `tests/triton/test_descriptors.py` compiles them.
"""

from collections.abc import Sequence
from itertools import chain

from maskdsl.analysis.cost.tile_table import LAST, Architecture, KernelName, TileChoice

_FEWEST = 4
"""From so many copies of a thread on, of a tile of keys, descriptors take fewer instructions."""
_KEYS = 64
"""As many keys of a tile count: of longer ones scores take so many instructions that others matter less."""
_COPIED = 32 * 16
"""Bytes that the threads of a warp copy by an instruction."""
_HAVE_THEM = (Architecture.SM90, Architecture.SM100)
_ROWS = (KernelName.FORWARD, KernelName.QUERY_GRADIENT)
"""The kernels whose loops load keys and values. That of dK and dV loads shorter tiles, and is longer with them."""


def with_descriptors(
    choices: Sequence[TileChoice], architecture: Architecture, kernel: KernelName, dim: int, element_size: int
) -> tuple[TileChoice, ...]:
    """A ladder in which each choice that is better with descriptors stands with them before it stands without.

    The latter is for kernels that spill registers with them. The interpreter takes descriptors everywhere. `dim` and
    `element_size` are those of `ladder`.
    """
    row = (1 << (dim - 1).bit_length()) * element_size

    def is_better(choice: TileChoice) -> bool:
        copies = min(choice.key_block, _KEYS) * row // (_COPIED * choice.warps)
        return copies >= _FEWEST and choice.stages > 1 and element_size == 2 and architecture in _HAVE_THEM

    def both(choice: TileChoice) -> tuple[TileChoice, ...]:
        takes_them = choice not in LAST and (architecture is Architecture.INTERPRETER or is_better(choice))
        return (choice._replace(descriptors=True), choice) if takes_them else (choice,)

    return tuple(chain.from_iterable(map(both, choices))) if kernel in _ROWS else tuple(choices)
