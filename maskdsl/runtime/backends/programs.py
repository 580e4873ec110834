"""Block map to the programs of a kernel: the row that each computes, heavy rows first, and the runs of its tiles.

A GPU starts programs in their order as processors become free, so that a heavy one that starts late is computed alone
at the end. Plain data, no torch.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap
from maskdsl.analysis.tiles.stepped_runs import SteppedRuns

Array = NDArray[Any]

PROGRAM = 2
"""The work of a program beside its tiles: as much as so many tiles."""
_GRAIN = 8
"""Programs of less than this fraction of a processor's share of the work need no order: they fill what is left."""


class Calls(NamedTuple):
    """What the programs of a call depend on beside its block map."""

    batch: int
    heads: int
    key_heads: int
    processors: int
    """Programs that run at once, about."""


class Programs(NamedTuple):
    """The fields of the generated `Tiles`, int32."""

    programs: Array
    full_rows: Array
    full_runs: Array
    partial_rows: Array
    partial_runs: Array


def row_programs(tiles: BlockMap, calls: Calls) -> Programs:
    """The programs of query blocks. Of like work they go from the last block to the first, as under causality."""
    whole = tiles.key_length // tiles.block[1]
    entries = np.indices((calls.batch, calls.heads, tiles.query_blocks)).reshape(3, -1).T
    entries[:, 2] = tiles.query_blocks - 1 - entries[:, 2]
    return _programs([_whole_tiles(each, whole) for each in tiles.head_classes], tiles.class_of_head, entries, calls)


def column_programs(tiles: BlockMap, calls: Calls) -> Programs:
    """The programs of key blocks, with runs of query blocks for each query head. The last query block may be ragged."""
    entries = np.indices((calls.batch, calls.key_heads, tiles.key_blocks)).reshape(3, -1).T
    head_classes = [each.transpose(tiles.key_blocks) for each in tiles.head_classes]
    return _programs(head_classes, tiles.class_of_head, entries, calls)


def heavy_first(work: Array, processors: int) -> Array:
    """int64 [programs]: an order of programs of this work, heavy ones first, in which those of like work keep theirs.

    Light ones keep theirs altogether: neighbours share keys, which are then in the cache.
    """
    share = int(work.sum()) // processors
    return np.argsort(-(work // max(1, share // _GRAIN)), kind="stable")


def _programs(head_classes: list[TileMap], class_of_head: Array, entries: Array, calls: Calls) -> Programs:
    """The programs of `entries`: int [programs, 3], of batch entry, head or key head, and row."""
    full_rows, full_runs = _joined([each.full for each in head_classes])
    partial_rows, partial_runs = _joined([each.partial for each in head_classes])
    rows = head_classes[0].full.rows
    heads = len(entries) // (calls.batch * rows)
    of_heads = np.broadcast_to(class_of_head, (calls.batch, calls.heads)).reshape(calls.batch, heads, -1)
    lists = of_heads[entries[:, 0], entries[:, 1]] * rows + entries[:, 2:]
    tiles = full_rows[:, 2] + partial_rows[:, 2]
    order = heavy_first(tiles[lists].sum(axis=1) + PROGRAM, calls.processors)
    ordered = lists[order].ravel()
    return Programs(entries[order].astype(np.int32), full_rows[ordered], full_runs, partial_rows[ordered], partial_runs)


def _whole_tiles(tiles: TileMap, whole: int) -> TileMap:
    """The tiles with full ones after the first `whole` key blocks made partial: a ragged last block needs masking."""
    full, partial = tiles.full, tiles.partial
    ragged = full.end > whole
    if not ragged.any():
        return tiles
    end = np.minimum(full.end, whole)
    kept = full.start < end
    return TileMap(
        Runs.of_sorted(full.rows, full.row[kept], full.start[kept], end[kept]),
        Runs.of_segments(
            full.rows,
            np.concatenate([partial.row, full.row[ragged]]),
            np.concatenate([partial.start, np.full(ragged.sum(), whole)]),
            np.concatenate([partial.end, full.end[ragged]]),
        ),
    )


def _joined(head_classes: list[Runs]) -> tuple[Array, Array]:
    """For each row its runs [first, end) and the number of its tiles; start, end and step of all runs, and one more."""
    stepped = [SteppedRuns.of(each) for each in head_classes]
    offsets = np.cumsum([0, *(len(each.start) for each in stepped[:-1])])
    rows = [
        np.stack([each.row_start[:-1] + offset, each.row_start[1:] + offset, counted.counts], axis=1)
        for each, counted, offset in zip(stepped, head_classes, offsets, strict=True)
    ]
    runs = [np.stack([each.start, each.end, each.step], axis=1) for each in stepped]
    return np.concatenate(rows), np.concatenate([*runs, np.zeros((1, 3), dtype=np.int32)])
