"""Mask to block map: the exact class of every tile, in memory order, without work on all pairs."""

from collections.abc import Mapping

from maskdsl.analysis.tiles.block_map import Array, BlockMap
from maskdsl.analysis.tiles.head_classes import ALL, Region, check_size, find_head_classes, problems, region_lengths
from maskdsl.analysis.tiles.listed_pairs import ListedPairs
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs


def tiles(
    mask: MaskIR,
    block: tuple[int, int] = (128, 128),
    inputs: Mapping[str, object] | None = None,
    batch: int | None = None,
    region: Region = ALL,
    entry: int | None = None,
) -> BlockMap:
    """The block map of a mask with tiles of `block` = (queries, keys).

    `inputs` are arrays as at the call; those that only scores read may be left out. `batch` is the number of batch
    entries of a mask that reads the batch index and has no input with a batch dimension. `region` restricts the map to
    these queries and keys; its first tile begins at the first of them. With an `entry` it is of this batch entry alone.
    Raises `AttnError` if an input is missing or does not fit, or the mask is too long.
    """
    return tiles_with_pairs(mask, block, inputs, batch, region, entry)[0]


def tiles_with_pairs(
    mask: MaskIR,
    block: tuple[int, int],
    inputs: Mapping[str, object] | None = None,
    batch: int | None = None,
    region: Region = ALL,
    entry: int | None = None,
) -> tuple[BlockMap, tuple[ListedPairs | None, ...]]:
    """The block map as of `tiles`, and the attending pairs of each head class, if lists of entries bound them."""
    check_size(mask, block)
    given = input_arrays(mask, inputs or {}, relation_inputs(mask, inputs or {}))
    head_classes = find_head_classes(mask, given, batch, entry)
    solved = problems(mask, head_classes.different, block, given, region)
    maps, pairs = zip(*((classify(problem), problem.listed) for problem in solved), strict=True)
    queries, keys = region_lengths(mask, region)
    return BlockMap(block, queries, keys, maps, head_classes.index), pairs


def class_of_head(mask: MaskIR, inputs: Mapping[str, object]) -> Array:
    """`BlockMap.class_of_head` of every block map of a mask, without finding tiles. Raises `AttnError` for inputs."""
    return find_head_classes(mask, input_arrays(mask, inputs, relation_inputs(mask, inputs))).index
