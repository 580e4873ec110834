"""The rows and panels of a call, with the words of its relation: evaluated by its generated module, in torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.panel_lists import PanelLists, Relation, panel_lists
from maskdsl.runtime.backends.native.structures import LANES

_Array = NDArray[Any]


def lists_of_call(
    pairs: CallPairs, block_map: BlockMap, inputs: Mapping[str, Tensor], first_row: int = 0
) -> PanelLists:
    """The rows and panels of a call with these inputs, by identifier; those of the map begin at this row."""
    shape = pairs.batch, pairs.heads
    by_batch, by_head = pairs.variation(pairs.module.MASK_READS)
    batch, head = np.indices(shape)
    of_head = np.broadcast_to(block_map.class_of_head, shape)
    kinds = np.stack([of_head, batch * by_batch, head * by_head], axis=-1).reshape(-1, 3)
    different, first, classes = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    relations = [
        (int(kind[0]), _relation(pairs, inputs, first_row, *divmod(int(number), pairs.heads)))
        for kind, number in zip(different, first, strict=True)
    ]
    return panel_lists(block_map, classes.reshape(shape), relations)


def _relation(pairs: CallPairs, inputs: Mapping[str, Tensor], first_row: int, batch: int, head: int) -> Relation:
    """The relation of one head."""

    def words(row: _Array, panel: _Array) -> _Array:
        attends = pairs.module.allowed(**pairs.values(row + first_row, panel, batch, slice(head, head + 1), inputs))
        attends = attends.expand(len(row), 1, pairs.grid.tallest, LANES)[:, 0].numpy()
        return np.packbits(attends, axis=-1, bitorder="little").view("<u2")[..., 0].astype(np.uint16)

    return words
