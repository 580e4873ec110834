"""Mask to block map: the exact class of every tile, in laid-out order, without work on all pairs."""

from collections.abc import Mapping

from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.analysis.tiles.descent import classify
from maskdsl.analysis.tiles.head_classes import ALL, Part, check_size, find_head_classes, part_lengths, problems
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs


def tiles(
    mask: MaskIR,
    block: tuple[int, int] = (128, 128),
    inputs: Mapping[str, object] | None = None,
    batch: int | None = None,
    part: Part = ALL,
) -> BlockMap:
    """`inputs` as at the call, as anything that NumPy takes for an array; those that only scores read may be left out.

    `batch` is the number of batch entries, for a mask that reads the batch index without any input that has one. With a
    `part`, the map has these queries and keys alone, its first tile beginning at the first of them.
    """
    check_size(mask, block)
    given = input_arrays(mask, inputs or {}, relation_inputs(mask, inputs or {}))
    head_classes = find_head_classes(mask, given, batch)
    maps = tuple(classify(problem) for problem in problems(mask, head_classes.different, block, given, part))
    queries, keys = part_lengths(mask, part)
    return BlockMap(block, queries, keys, maps, head_classes.index)
