"""`order auto`: the order that the analysis finds for a mask, one pure function of it."""

from dataclasses import replace
from functools import lru_cache

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.orders.clues import reads_inputs, without_inputs
from maskdsl.analysis.orders.layouts import Keys, laid_out, own_layout
from maskdsl.analysis.orders.search import OrderSearch
from maskdsl.analysis.tiles.head_classes import MOST_TOKENS
from maskdsl.ir.mask import MaskIR

_BLOCK = 128, 128
_DEVICE = find_device("H100")
_HEAD_DIM = 64
_KEPT = 64
"""Masks whose orders are remembered."""


def settled(mask: MaskIR) -> MaskIR:
    """The mask with an order for its spaces that say `order auto`: the best for tiles of `_BLOCK` on `_DEVICE`.

    Inputs are not known yet: conditions that read them are taken to hold, and orders by them are no candidates.
    """
    return laid_out(mask, {**own_layout(mask), **dict(_found(mask))}) if mask.auto else mask


@lru_cache(maxsize=_KEPT)
def _found(mask: MaskIR) -> tuple[tuple[str, Keys], ...]:
    """Space by space, the keys for those that say `order auto`. Masks too long to be analysed stay as they are."""
    if max(mask.queries.length, mask.keys.length) > MOST_TOKENS:
        return ()
    own = own_layout(mask)
    known = {name: keys for name, keys in own.items() if not any(reads_inputs(mask, key) for key in keys)}
    bare = replace(laid_out(mask, {}), relation=without_inputs(mask))
    best = OrderSearch(bare, {}, _BLOCK, _DEVICE, _HEAD_DIM, mask.auto, known).run()
    return tuple((name, best.layout.get(name, ())) for name in mask.auto)
