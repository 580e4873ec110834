"""`order auto`: chooses the order of a mask, as a pure function of the mask."""

from dataclasses import replace
from functools import lru_cache

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.orders.layouts import Keys, laid_out, written_layout
from maskdsl.analysis.orders.order_hints import reads_inputs, without_inputs
from maskdsl.analysis.orders.search import OrderSearch
from maskdsl.analysis.tiles.head_classes import MOST_TOKENS
from maskdsl.ir.mask import MaskIR

_BLOCK = 128, 128
_DEVICE = find_device("H100")
_HEAD_DIM = 64
_KEPT = 64
"""The most masks whose orders are cached."""


def with_auto_orders(mask: MaskIR) -> MaskIR:
    """The mask with orders for its spaces that say `order auto`: the best for tiles of `_BLOCK` on `_DEVICE`.

    Inputs are not known yet: conditions that read them are taken to hold, and orders by them are no candidates.
    """
    layout = {**written_layout(mask), **dict(_best_keys(mask))}
    return mask.throughout(lambda each: laid_out(each, layout))


@lru_cache(maxsize=_KEPT)
def _best_keys(mask: MaskIR) -> tuple[tuple[str, Keys], ...]:
    """The sort keys of each space that says `order auto`; none for masks that are too long to analyse."""
    if max(mask.queries.length, mask.keys.length) > MOST_TOKENS:
        return ()
    written = written_layout(mask)
    fixed = {name: keys for name, keys in written.items() if not any(reads_inputs(mask, key) for key in keys)}
    bare = replace(laid_out(mask, {}), relation=without_inputs(mask))
    best = OrderSearch(bare, {}, _BLOCK, _DEVICE, _HEAD_DIM, mask.auto, fixed).run()
    return tuple((name, best.layout.get(name, ())) for name in mask.auto)
