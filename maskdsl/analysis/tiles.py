"""Mask to block map: the exact class of every tile, in laid-out order, without work on all pairs."""

from collections.abc import Mapping

from maskdsl.analysis.blockmap import Array, BlockMap
from maskdsl.analysis.descent import classify
from maskdsl.analysis.variants import find_variants, problems
from maskdsl.ir.mask import MaskIR


def tiles(
    mask: MaskIR,
    block: tuple[int, int] = (128, 128),
    inputs: Mapping[str, Array] | None = None,
    batch: int | None = None,
) -> BlockMap:
    """`inputs` are arrays, of the shapes that they have at the call.

    `batch` is the number of batch entries, for a mask that reads the batch index without any input that has one.
    """
    given = inputs or {}
    variants = find_variants(mask, given, batch)
    maps = tuple(classify(problem) for problem in problems(mask, variants.different, block, given))
    return BlockMap(block, mask.queries.length, mask.keys.length, maps, variants.index)
