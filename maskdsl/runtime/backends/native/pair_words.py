"""The rows and panels of a call, with the words of its relation: evaluated by its generated module, in torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.panel_lists import (
    PanelGrid,
    PanelLists,
    PanelTokens,
    Relation,
    lists_of_words,
    panel_lists,
)
from maskdsl.runtime.backends.native.structures import LANES

_Array = NDArray[Any]


def lists_of_call(
    pairs: CallPairs, grid: PanelGrid, block_map: BlockMap, inputs: Mapping[str, Tensor], entries: range
) -> PanelLists:
    """The rows and panels of batch entries of a call with these inputs, by identifier."""
    shape = len(entries), pairs.heads
    by_batch, by_head = pairs.variation(pairs.module.MASK_READS)
    batch, head = np.indices(shape)
    of_head = np.broadcast_to(block_map.class_of_head, shape)
    kinds = np.stack([of_head, batch * by_batch, head * by_head], axis=-1).reshape(-1, 3)
    different, first, classes = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    relations = [
        (int(kind[0]), _relation(pairs, grid, inputs, entries[number // pairs.heads], number % pairs.heads))
        for kind, number in zip(different, first.tolist(), strict=True)
    ]
    return panel_lists(block_map, classes.reshape(shape), relations)


def lists_pair_by_pair(pairs: CallPairs, grid: PanelGrid, inputs: Mapping[str, Tensor], entry: int) -> PanelLists:
    """Those of one row of queries of a batch entry: all of its pairs are evaluated at once."""
    _, by_head = pairs.variation(pairs.module.MASK_READS)
    heads, panels = pairs.heads if by_head else 1, grid.panels
    queries, keys = grid.row_tokens(np.zeros(1)), grid.panel_tokens(np.arange(panels)).reshape(1, -1)
    read = pairs.values(PanelTokens(queries, keys), entry, slice(0, heads), inputs)
    attends = pairs.module.allowed(**read).expand(1, heads, grid.tallest, panels * LANES)[0].numpy()
    words = _packed(attends.reshape(heads, grid.tallest, panels, LANES)).transpose(0, 2, 1)
    return lists_of_words(grid, words)


def _relation(pairs: CallPairs, grid: PanelGrid, inputs: Mapping[str, Tensor], batch: int, head: int) -> Relation:
    """The relation of one head."""

    def words(row: _Array, panel: _Array) -> _Array:
        read = pairs.values(grid.tokens(row, panel), batch, slice(head, head + 1), inputs)
        attends = pairs.module.allowed(**read).expand(len(row), 1, grid.tallest, LANES)[:, 0].numpy()
        return _packed(attends)

    return words


def _packed(attends: _Array) -> _Array:
    """uint16 [...]: the lanes of bool [..., LANES]."""
    return np.packbits(attends.reshape(-1), bitorder="little").view("<u2").astype(np.uint16).reshape(attends.shape[:-1])
