"""Blocks and an order for cliques, where queries then share tiles with fewer keys. For CPUs: blocks have any size."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from maskdsl.analysis.orders.cliques import Cliques, find_cliques
from maskdsl.analysis.orders.head_orders import MOST_GROUPS, by_head, head_groups
from maskdsl.analysis.orders.layouts import laid_out
from maskdsl.analysis.orders.order_hints import without_inputs
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.simplify import for_head

_FEWEST = 96
"""Calls with fewer tokens take as long either way."""
_LEAST = 16
"""Smaller cliques share blocks: the products of many tiny blocks take longer than those of pairs between them."""
_SHORT, _LONG = 32, 64
"""The least and the most tokens of the blocks that larger cliques are cut into. A row of the kernels has 64 queries."""
_MOVE = 32
"""Laying a token out, there and back, costs as much as the scores of about so many pairs."""
_GAIN = 0.9
"""With more of the usual keys than this share, nothing is gained."""
_SAMPLE = 4096
"""Rows with about so many queries, in the middle, stand for all."""
_CACHED = 64
"""The most masks whose tiles are cached."""


@dataclass(frozen=True)
class CliqueTiles:
    """A mask in the order of its cliques, and blocks of (queries, keys) that suit their size."""

    mask: MaskIR
    block: tuple[int, int]


@lru_cache(maxsize=_CACHED)
def clique_tiles(mask: MaskIR, usual: tuple[int, int], panel: int) -> CliqueTiles | None:
    """The tiles of a mask's cliques; None without cliques, or where they save nothing over tiles of the `usual` size.

    Keys are computed `panel` at a time. Conditions that read inputs, which are not known yet, are taken to hold.
    """
    is_short = max(mask.queries.length, mask.keys.length) < _FEWEST
    cliques = () if is_short else (*find_cliques(mask), *_cliques_of_heads(mask))
    least = _GAIN * _keys_of_a_row(mask, usual, panel) if cliques else 0.0
    best = None
    for each in cliques:
        ordered = laid_out(mask, each.layout) if each.layout else mask
        for block in dict.fromkeys((clique_blocks(each, usual, panel), usual)):
            keys = _keys_of_a_row(ordered, block, panel) + (_MOVE if each.layout else 0)
            if keys < least:
                best, least = CliqueTiles(ordered, block), keys
    return best


def _cliques_of_heads(mask: MaskIR) -> tuple[Cliques, ...]:
    """The cliques of heads with different relations, in an order that depends on the head; none if they are alike.

    Heads without cliques stay in declared order.
    """
    groups = head_groups(mask)
    if not 1 < len(groups) <= MOST_GROUPS or any(each.sort_keys for each in mask.sequences.values()):
        return ()
    of_groups = [find_cliques(replace(mask, relation=for_head(mask.relation, heads[0])))[:1] for heads in groups]
    layouts = [cliques[0].layout if cliques else {} for cliques in of_groups]
    sizes = {cliques[0].sizes if cliques else None for cliques in of_groups}
    return (Cliques(sizes.pop() if len(sizes) == 1 else None, by_head(groups, layouts)),) if any(layouts) else ()


def clique_blocks(cliques: Cliques, usual: tuple[int, int], panel: int) -> tuple[int, int]:
    """Tokens of a block of queries and of a block of keys: of whole cliques, or of equal pieces of large ones.

    Blocks of keys are multiples of `panel` where one divides the clique.
    """
    if cliques.sizes is None:
        return usual
    count = max(1, _LEAST // max(cliques.sizes))
    queries, keys = (size * count for size in cliques.sizes)
    return _piece(queries, 1) or usual[0], _piece(keys, panel) or _piece(keys, 1) or usual[1]


def _piece(size: int, step: int) -> int | None:
    """A size that is small enough; of another the largest multiple of `step` that divides it, if one is suitable."""
    if size <= _LONG:
        return size
    return next((each for each in range(_LONG, _SHORT - 1, -1) if each % step == 0 and size % each == 0), None)


def _keys_of_a_row(mask: MaskIR, block: tuple[int, int], panel: int) -> float:
    """The mean number of keys in a query's tiles, in whole panels."""
    rows = mask.queries.length // block[0]
    sampled = min(rows, _SAMPLE // block[0]) or 1
    first = (rows - sampled) // 2 * block[0]
    region = slice(first, first + sampled * block[0]), slice(None)
    block_map = tiles(replace(mask, relation=without_inputs(mask)), block, batch=1, region=region)
    counts = [each.full.count + each.partial.count for each in block_map.head_classes]
    return float(np.mean(np.array(counts)[block_map.class_of_head])) / sampled * (-(-block[1] // panel) * panel)
