"""Blocks and an order for cliques, where queries then share tiles with fewer keys. For CPUs: blocks have any size."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from maskdsl.analysis.orders.cliques import Cliques, find_cliques
from maskdsl.analysis.orders.layouts import laid_out
from maskdsl.analysis.orders.order_hints import without_inputs
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR

_FEWEST = 96
"""Calls with fewer queries take as long either way."""
_LEAST = 4
"""Smaller cliques share blocks: the products of many tiny blocks take longer than those of pairs between them."""
_SHORT, _LONG = 32, 64
"""The least and the most tokens of the blocks that larger cliques are cut into. A row of the kernels has 64 queries."""
_PANEL = 16
"""Keys that a processor takes at a time; blocks of keys are a multiple of it where one divides the clique."""
_MOVE = 32
"""Laying a token out, there and back, costs as much as the scores of about so many pairs."""
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
def clique_tiles(mask: MaskIR, usual: tuple[int, int]) -> CliqueTiles | None:
    """The tiles of a mask's cliques; None without cliques, or where they save nothing over tiles of the `usual` size.

    Conditions that read inputs, which are not known yet, are taken to hold.
    """
    cliques = None if mask.queries.length < _FEWEST else find_cliques(mask)
    if cliques is None:
        return None
    chosen = CliqueTiles(laid_out(mask, cliques.layout) if cliques.layout else mask, clique_blocks(cliques))
    before = _keys_of_a_row(mask, usual)
    after = _keys_of_a_row(chosen.mask, chosen.block) + (_MOVE if cliques.layout else 0)
    return chosen if after < before else None


def clique_blocks(cliques: Cliques) -> tuple[int, int]:
    """Tokens of a block of queries and of a block of keys."""
    queries = _block(cliques.queries, 1) or _LONG
    return queries, _block(cliques.keys, _PANEL) or _block(cliques.keys, 1) or _LONG


def _block(size: int, step: int) -> int | None:
    """The size of small cliques; of larger ones the largest multiple of `step` that divides it, if one is suitable."""
    if size <= _LONG:
        return size if size >= _LEAST else _PANEL // size * size
    return next((each for each in range(_LONG, _SHORT - 1, -1) if each % step == 0 and size % each == 0), None)


def _keys_of_a_row(mask: MaskIR, block: tuple[int, int]) -> float:
    """The mean number of keys in a query's tiles."""
    rows = mask.queries.length // block[0]
    sampled = min(rows, _SAMPLE // block[0]) or 1
    first = (rows - sampled) // 2 * block[0]
    region = slice(first, first + sampled * block[0]), slice(None)
    block_map = tiles(replace(mask, relation=without_inputs(mask)), block, batch=1, region=region)
    counts = [each.full.count + each.partial.count for each in block_map.head_classes]
    return float(np.mean(np.array(counts)[block_map.class_of_head])) / sampled * block[1]
