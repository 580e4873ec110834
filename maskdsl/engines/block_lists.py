"""The lists of blocks of a block map, as the `BlockMask` of torch's FlexAttention takes them."""

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, BlockMap, TileMap


def block_lists(tiles: BlockMap) -> dict[str, Array]:
    """By the names that `BlockMask` gives them, int32 [batch, 1 or heads, blocks] and [..., blocks, blocks].

    Counts and numbers of the partial and full key blocks of every query block, and of the query blocks of every key
    block. Torch wants room for every block in each list. As in its `create_block_mask`, a tile that the end of a
    sequence cuts is partial.
    """
    classes = tiles.class_of_head
    classes = classes if (classes != classes[:, :1]).any() else classes[:, :1]
    made = [_lists(tiles, each) for each in tiles.head_classes]
    return {name: np.stack([each[name] for each in made])[classes] for name in made[0]}


def _lists(tiles: BlockMap, head_class: TileMap) -> dict[str, Array]:
    (partial_row, partial_column), (row, column) = head_class.partial.expand(), head_class.full.expand()
    cut = (row + 1) * tiles.block[0] > tiles.query_length
    cut |= (column + 1) * tiles.block[1] > tiles.key_length
    partial = np.concatenate([partial_row, row[cut]]), np.concatenate([partial_column, column[cut]])
    lists: dict[str, Array] = {}
    for prefix, (rows, columns) in (("", partial), ("full_", (row[~cut], column[~cut]))):
        lists |= _listed(f"{prefix}kv", rows, columns, (tiles.query_blocks, tiles.key_blocks))
        lists |= _listed(f"{prefix}q", columns, rows, (tiles.key_blocks, tiles.query_blocks))
    return lists


def _listed(name: str, row: Array, column: Array, shape: tuple[int, int]) -> dict[str, Array]:
    order = np.lexsort((column, row))
    row, column = row[order], column[order]
    counts = np.bincount(row, minlength=shape[0]).astype(np.int32)
    indices = np.zeros(shape, dtype=np.int32)
    indices[row, np.arange(len(row)) - (np.cumsum(counts) - counts)[row]] = column
    return {f"{name}_num_blocks": counts, f"{name}_indices": indices}
