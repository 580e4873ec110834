"""Block map to the programs of a kernel: the row that each computes, heavy rows first, and the runs of its tiles.

A GPU starts programs in their order as processors become free, so that a heavy one that starts late is computed alone
at the end. A row with more tiles than a processor's share is split into pieces, each of one program, that are joined
afterwards. Plain data, no torch.
"""

from heapq import heapreplace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap, ranges
from maskdsl.analysis.tiles.stepped_runs import SteppedRuns

Array = NDArray[Any]

PROGRAM = 2
"""The work of a program beside its tiles: as much as so many tiles."""
JOIN = 4
"""The work of joining the pieces of a row, in tiles."""
_LEAST = 16
"""Tiles of a piece, at least: fewer are not worth a kernel that joins them."""
_GRAIN = 8
"""Programs of less than this fraction of a processor's share of the work need no order: they fill what is left."""


class Calls(NamedTuple):
    """What the programs of a call depend on beside its block map."""

    batch: int
    heads: int
    key_heads: int
    processors: int
    """Programs that run at once, about."""
    splits: bool
    """Whether the kernel can compute pieces of rows."""

    def of_list(self, tiles: BlockMap) -> "Calls":
        """The calls whose list of programs serves these, by its `entries`.

        Where batch entries share tiles, lists are of one entry. They depend on the batch by a processor's share of the
        work, which splits rows and orders them: there is one for each power of two, for the batches up to the next.
        """
        return self._replace(batch=1 << (self.batch.bit_length() - 1)) if len(tiles.class_of_head) == 1 else self


class Programs(NamedTuple):
    """The fields of the generated `Tiles`."""

    programs: Array
    full_rows: Array
    full_runs: Array
    partial_rows: Array
    partial_runs: Array
    heavy: int
    entries: int
    slots: Array | None = None
    merges: Array | None = None
    pieces: int = 0


def row_programs(tiles: BlockMap, calls: Calls) -> Programs:
    """The programs of query blocks. Of like work they go from the last block to the first, as under causality."""
    whole = tiles.key_length // tiles.block[1]
    entries = np.indices((len(tiles.class_of_head), calls.heads, tiles.query_blocks)).reshape(3, -1).T
    entries[:, 2] = tiles.query_blocks - 1 - entries[:, 2]
    return _programs([_whole_tiles(each, whole) for each in tiles.head_classes], tiles.class_of_head, entries, calls)


def column_programs(tiles: BlockMap, calls: Calls) -> Programs:
    """The programs of key blocks, with runs of query blocks for each query head. The last query block may be ragged."""
    entries = np.indices((len(tiles.class_of_head), calls.key_heads, tiles.key_blocks)).reshape(3, -1).T
    head_classes = [each.transpose(tiles.key_blocks) for each in tiles.head_classes]
    return _programs(head_classes, tiles.class_of_head, entries, calls)


def piece_counts(work: Array, processors: int, entries: int = 1) -> Array:
    """int64 [programs]: into how many pieces each row is split, of the work of its program; 1 for most.

    Each program is computed for so many batch entries.

    Of a few limits on the work of a piece it takes the one with which the processors are done first, if that is sooner
    than without pieces.
    """
    whole = np.ones(len(work), dtype=np.int64)
    share = -(-int(work.sum()) * entries // processors)
    if work.max(initial=0) <= share:
        return whole
    best, soonest = whole, _duration(work, processors, entries)
    for limit in (share, share // 2):
        counts = np.minimum(-(-work // max(limit, 1)), np.maximum((work - PROGRAM) // _LEAST, 1))
        pieces = np.repeat(-(-(work - PROGRAM) // counts), counts) + PROGRAM
        duration = _duration(pieces, processors, entries) + JOIN
        if duration < soonest:
            best, soonest = counts, duration
    return best


def _duration(work: Array, processors: int, entries: int) -> int:
    """When processors are done with programs of this work, about: heavy ones first, light ones fill what is left."""
    share = -(-int(work.sum()) * entries // processors)
    ends = [0] * processors
    for each in np.repeat(np.sort(work[work > share // _GRAIN])[::-1], entries).tolist():
        heapreplace(ends, ends[0] + each)
    return max(share, *ends)


def heavy_first(work: Array, processors: int, entries: int = 1) -> tuple[Array, int]:
    """int64 [programs]: an order of programs of this work, each for so many batch entries; and how many are heavy.

    Heavy ones come first, and those of like work keep their order. Light ones keep theirs altogether: neighbours share
    keys, which are then in the cache.
    """
    share = int(work.sum()) * entries // processors
    level = work // max(1, share // _GRAIN)
    return np.argsort(-level, kind="stable"), int(np.count_nonzero(level))


def _programs(head_classes: list[TileMap], class_of_head: Array, entries: Array, calls: Calls) -> Programs:
    """The programs of `entries`: int [rows, 3], of batch entry, head or key head, and row."""
    full, partial = _joined([each.full for each in head_classes]), _joined([each.partial for each in head_classes])
    rows = head_classes[0].full.rows
    listed = len(class_of_head)
    heads, sharing = len(entries) // (listed * rows), calls.batch // listed
    of_heads = np.broadcast_to(class_of_head, (listed, calls.heads)).reshape(listed, heads, -1)
    lists = of_heads[entries[:, 0], entries[:, 1]] * rows + entries[:, 2:]
    tiles = (full.rows[:, 2] + partial.rows[:, 2])[lists].sum(axis=1)
    counts = piece_counts(tiles + PROGRAM, calls.processors, sharing) if calls.splits else np.ones_like(tiles)
    if (counts == 1).all():
        order, heavy = heavy_first(tiles + PROGRAM, calls.processors, sharing)
        lists = lists[order].ravel()
        of_tiles = full.rows[lists], full.runs, partial.rows[lists], partial.runs
        return Programs(entries[order], *of_tiles, heavy, sharing)
    return _split(full, partial, entries, lists, counts, calls.processors, sharing)


class _TileLists(NamedTuple):
    """Lists of tiles."""

    rows: Array
    """[lists, 3]: the runs [first, end) of each, and how many tiles."""
    runs: Array
    """[runs + 1, 3]: start, end and step; the last one is read, and never used."""

    def cut(self, chosen: Array, first: Array, last: Array) -> "_TileLists":
        """The lists, of which the chosen have their tiles [first, last) alone, by runs behind those that are there."""
        start, end, step = self.runs[:-1].T
        before = np.append(0, np.cumsum(-(-(end - start) // step)))
        low, high = (before[self.rows[chosen, 0]] + each for each in (first, last))
        first_run = np.searchsorted(before, low, side="right") - 1
        end_run = np.where(first < last, np.searchsorted(before, high), first_run)
        number = ranges(first_run, end_run)
        low, high = (np.repeat(each, end_run - first_run) - before[number] for each in (low, high))
        begin = start[number] + np.maximum(low, 0) * step[number]
        behind = np.minimum(end[number], start[number] + high * step[number])
        runs = np.stack([begin, behind, step[number]], axis=1)
        ends = len(start) + np.cumsum(end_run - first_run)
        rows = self.rows.copy()
        rows[chosen] = np.stack([ends - (end_run - first_run), ends, last - first], axis=1)
        return _TileLists(rows, np.concatenate([self.runs[:-1], runs, self.runs[-1:]]))


def _split(
    full: _TileLists,
    partial: _TileLists,
    entries: Array,
    lists: Array,
    counts: Array,
    processors: int,
    sharing: int,
) -> Programs:
    """The programs of rows that are split into so many pieces. Pieces are cut from a row's tiles as kernels visit them.

    For each list in turn these are its full tiles, then the partial ones. `lists` is int [rows, lists]. `sharing` batch
    entries share each program.
    """
    row, number = np.repeat(np.arange(len(counts)), counts), ranges(np.zeros_like(counts), counts)
    tiles = np.stack([each.rows[lists, 2] for each in (full, partial)], axis=2).reshape(len(lists), -1)
    size, ends, tiles = -(-tiles.sum(axis=1) // counts)[row], np.cumsum(tiles, axis=1)[row], tiles[row]
    first, last = (np.clip(each[:, None] - ends + tiles, 0, tiles) for each in (number * size, (number + 1) * size))
    order, heavy = heavy_first((last - first).sum(axis=1) + PROGRAM, processors, sharing)
    row, number = row[order], number[order]
    first, last = (each[order].reshape(-1, 2) for each in (first, last))
    is_cut = np.flatnonzero(np.repeat(counts[row] > 1, lists.shape[1]))
    full, partial = (
        _TileLists(each.rows[lists[row].ravel()], each.runs).cut(is_cut, first[is_cut, side], last[is_cut, side])
        for side, each in enumerate((full, partial))
    )
    split = counts > 1
    end = np.cumsum(np.where(split, counts, 0))
    slot = np.where(split[row], (end - counts)[row] + number, -1)
    merges = np.column_stack([entries, end - counts, end])[split]
    slots = np.stack([number, slot], axis=1)
    return Programs(entries[row], *full, *partial, heavy, sharing, slots, merges, int(end[-1]))


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


def _joined(head_classes: list[Runs]) -> _TileLists:
    """The tiles of each row of each head class."""
    stepped = [SteppedRuns.of(each) for each in head_classes]
    offsets = np.cumsum([0, *(len(each.start) for each in stepped[:-1])])
    rows = [
        np.stack([each.row_start[:-1] + offset, each.row_start[1:] + offset, counted.counts], axis=1)
        for each, counted, offset in zip(stepped, head_classes, offsets, strict=True)
    ]
    runs = [np.stack([each.start, each.end, each.step], axis=1) for each in stepped]
    return _TileLists(np.concatenate(rows), np.concatenate([*runs, np.zeros((1, 3), dtype=np.int32)]))
