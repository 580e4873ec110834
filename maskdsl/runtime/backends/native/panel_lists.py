"""The rows of queries and the panels of keys of a block map, as `codegen/native.c` takes them. Plain data, no torch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.block_map import BlockMap, TileMap
from maskdsl.runtime.backends.native.structures import LANES, ROW, RUN

Array = NDArray[Any]
Relation = Callable[[Array, Array], Array]
"""Maps rows and columns of tiles to their words, uint16 [tiles, panels of a block, queries of a block]."""

_TILES = 2**10
"""Tiles whose relation is evaluated at once."""
_FULL = _NO_BIAS = -1
_SEVERAL = 1.25
"""Keys are packed before rows take them, if rows take a panel so often on average."""


class PanelLists(NamedTuple):
    """The rows and panels of all heads."""

    classes: Array
    """int32 [batch, heads]: which rows a head has."""
    class_rows: Array
    """int64 [classes + 1]: where the rows of each class begin, and the last ones end."""
    rows: Array
    """`ROW` [rows]"""
    runs: Array
    """`RUN` [runs]"""
    words: Array
    """uint16 [masks, queries of a block]: the lanes that attend. Each mask is there once."""
    packs: bool
    """Whether keys are packed before rows take them."""


class _ClassRows(NamedTuple):
    """Those of one class; runs count within it, and its masks are none yet but their words."""

    rows: Array
    runs: Array
    words: Array
    """uint16 [masks, queries of a block], in the order of the runs that have masks."""


def panel_lists(block_map: BlockMap, classes: Array, relations: Sequence[tuple[int, Relation]]) -> PanelLists:
    """The lists of all heads: `relations` are a head class and its relation, and `classes` which one a head has."""
    made = [_rows_of(block_map, block_map.head_classes[number], relation) for number, relation in relations]
    rows = np.concatenate([each.rows for each in made])
    runs = np.concatenate([each.runs for each in made])
    words, number = _each_once(np.concatenate([each.words for each in made]))
    runs["mask"][runs["mask"] != _FULL] = number
    firsts = np.cumsum([0, *(len(each.runs) for each in made)])[:-1]
    rows["run"] += np.repeat(firsts, [len(each.rows) for each in made])
    class_rows = np.cumsum([0, *(len(each.rows) for each in made)])
    panels = block_map.key_blocks * panels_of_block(block_map.block[1])
    uses = sum(int(each.runs["panels"].sum()) for each in made) / max(1, len(made))
    heads = classes.shape[1]
    return PanelLists(
        np.ascontiguousarray(classes, np.int32), class_rows, rows, runs, words, uses * heads > _SEVERAL * panels * heads
    )


def panels_of_block(key_block: int) -> int:
    """The panels of a block of keys: they do not cross blocks."""
    return -(-key_block // LANES)


def _lanes_of_panels(panels: Array, key_block: int, keys: int) -> Array:
    """uint16: the lanes of these panels that hold keys."""
    per_block = panels_of_block(key_block)
    block, within = panels // per_block, panels % per_block * LANES
    count = np.clip(np.minimum((block + 1) * key_block, keys) - (block * key_block + within), 0, LANES)
    return np.asarray((1 << count) - 1, np.uint16)


def _rows_of(block_map: BlockMap, tiles: TileMap, relation: Relation) -> _ClassRows:
    height, width = block_map.block
    per_block = panels_of_block(width)
    full = np.zeros(len(tiles.full.row), RUN)
    full["panel"] = tiles.full.start.astype(np.int64) * per_block
    full["panels"] = (tiles.full.end - tiles.full.start) * per_block
    full["mask"] = _FULL
    rows, runs, masks = [tiles.full.row], [full], [np.zeros((0, min(height, block_map.query_length)), np.uint16)]
    for row, column in tiles.partial.batches(_TILES):
        words = relation(row, column)
        panel = (column[:, None].astype(np.int64) * per_block + np.arange(per_block)).ravel()
        row, words = np.repeat(row, per_block), words.reshape(len(panel), -1)
        lanes = _lanes_of_panels(panel, width, block_map.key_length)
        real = np.arange(words.shape[1]) < (block_map.query_length - row * height)[:, None]
        is_full = (words == lanes[:, None] * real).all(axis=1)
        kept = words.any(axis=1)
        partial = np.zeros(len(panel), RUN)
        partial["panel"], partial["panels"], partial["mask"] = panel, 1, np.where(is_full, _FULL, 0)
        rows.append(row[kept])
        runs.append(partial[kept])
        masks.append(words[kept & ~is_full])
    row, run = np.concatenate(rows), np.concatenate(runs)
    run["bias"] = _NO_BIAS
    masked = np.flatnonzero(run["mask"] != _FULL)
    order = np.lexsort((run["panel"], row))
    number = np.zeros(len(run), np.int64)
    number[masked] = np.arange(len(masked))
    run = run[order]
    words_in_order = np.concatenate(masks)[number[order][run["mask"] != _FULL]]
    first = np.arange(block_map.query_blocks) * height
    made = np.zeros(block_map.query_blocks, ROW)
    made["first"], made["count"] = first, np.minimum(height, block_map.query_length - first)
    made["runs"] = np.bincount(row, minlength=len(made))
    made["run"] = np.cumsum(made["runs"]) - made["runs"]
    return _ClassRows(made, run, words_in_order)


def _each_once(words: Array) -> tuple[Array, Array]:
    """The different rows of words, at least one, and which of them each is."""
    if not len(words):
        return np.zeros((1, words.shape[1]), np.uint16), np.zeros(0, np.int64)
    factors = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = (words.astype(np.uint64) * factors).sum(axis=1)
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    once = np.ascontiguousarray(words[first])
    if not np.array_equal(once[number], words):  # two rows of one hash
        once, number = np.unique(words, axis=0, return_inverse=True)
    return once, number.ravel()
