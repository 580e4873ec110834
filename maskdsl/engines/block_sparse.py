"""Whole blocks of a mask, and its bits, as FlashInfer takes them (`indptr` and `indices`, `packed_custom_mask`)."""

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, BlockMap, Runs
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.engines import PartialBlock, UnevenBlocks


def block_sparse(tiles: BlockMap, head: int) -> tuple[Array, Array]:
    """Block-sparse rows: `indptr`, int32 [query blocks + 1], and `indices`, int32, the key blocks of each row.

    Raises `PartialBlock` if some pairs of a block attend and some do not, and `UnevenBlocks` if the last is narrower.
    """
    map_ = tiles.tile_map(head)
    if tiles.key_length % tiles.block[1]:
        raise AttnError(UnevenBlocks(keys=tiles.key_length, block=tiles.block[1]))
    if map_.partial.count:
        raise AttnError(PartialBlock(row=int(map_.partial.row[0]), column=int(map_.partial.start[0])))
    indptr = np.concatenate([[0], np.cumsum(map_.full.counts)]).astype(np.int32)
    return indptr, map_.full.expand()[1]


def bits(runs: Runs, keys: int) -> Array:
    """uint8: one bit for each pair, query by query, the first in the lowest bit of a byte; n x n, as the answer is."""
    return np.packbits(runs.dense(keys), bitorder="little")
