"""`order auto`: the order that the analysis finds for a mask, one pure function of it."""

from dataclasses import replace
from functools import lru_cache

from maskdsl.analysis.devices import find_device
from maskdsl.ir.mask import MaskIR
from maskdsl.orders.clues import reads_inputs, without_inputs
from maskdsl.orders.layouts import laid_out, own_layout
from maskdsl.orders.search import Search

BLOCK = 128, 128
DEVICE = find_device("H100")
HEAD_DIM = 64


@lru_cache(maxsize=64)
def settled(mask: MaskIR) -> MaskIR:
    """The mask with orders for its spaces that say `order auto`: the best for tiles of `BLOCK` on `DEVICE`.

    Inputs are not known yet: conditions that read them are taken to hold, and orders by them are no candidates.
    """
    if not mask.auto:
        return mask
    own = own_layout(mask)
    known = {name: keys for name, keys in own.items() if not any(reads_inputs(mask, key) for key in keys)}
    bare = laid_out(replace(mask, relation=without_inputs(mask), inputs=()), {})
    best = Search(bare, {}, BLOCK, DEVICE, HEAD_DIM, mask.auto, known).run()
    return laid_out(mask, {**best.layout, **own})
