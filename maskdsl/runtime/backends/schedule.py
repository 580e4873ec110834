"""Block map to the work of the tiled backend: rows of equal shape, grouped so that few large torch calls compute them.

A row is a query block with its runs of keys. Rows whose queries and runs advance by constant steps form one `RowGroup`,
which the generated module reads through strided views without copies. Plain data, no torch.
"""

from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap
from maskdsl.analysis.tiles.listed_pairs import ListedPairs

Array = NDArray[Any]

LONGEST = 4096
"""Rows with more keys are cut into pieces of `PIECE` keys, whose partial results are merged. In keys."""
PIECE = 2048
MASKED = 2**22
"""Pairs of a group of rows that may all get a mask, where some need one."""
GATHERED = 32
"""Rows gather keys if their tiles hold more pairs than so many times those that attend: pairs of tiles cost less."""


class Run(NamedTuple):
    """Keys `start` to `start + size` of a group's first row; those of its row r begin at `start + r * step`."""

    start: int
    step: int
    size: int


class RowGroup(NamedTuple):
    """`rows` rows of `size` queries each; row r begins at query `start + r * step`."""

    start: int
    step: int
    rows: int
    size: int
    runs: tuple[Run, ...]
    """The keys of a row. The columns of its scores are these runs, concatenated."""
    partial: tuple[tuple[int, int], ...]
    """Columns [first, last) of partial tiles, which need the relation; all other columns are of full tiles."""
    piece: int
    """The number of this piece of the rows' keys; its results are merged into those of earlier pieces."""
    last: bool
    """Whether this is the last piece of the rows."""


class _RowPiece(NamedTuple):
    """One piece of one row's keys, in tokens; `partial` in columns."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    partial: tuple[tuple[int, int], ...]


class _QueryRow(NamedTuple):
    """One row: the queries from `start` on."""

    start: int
    size: int
    pieces: list[_RowPiece]


class _PieceKind(NamedTuple):
    """The key by which pieces are grouped."""

    size: int
    sizes: tuple[int, ...]
    partial: tuple[tuple[int, int], ...]
    number: int
    last: bool


class GatheredRows(NamedTuple):
    """Queries that gather their keys, which are listed. Of each about as many: rows are padded."""

    rows: Array
    """int64 [rows]: the queries."""
    keys: Array
    """int32 [rows, most]"""
    real: Array | None
    """bool [rows, most]: which of the keys are no padding; None if all are."""


def gathering_blocks(pairs: ListedPairs, tiles: TileMap, block_map: BlockMap) -> Array:
    """bool [query blocks]: those that have far fewer keys than their tiles hold."""
    height, width = block_map.block
    held = (tiles.full.counts + tiles.partial.counts) * width * height
    counts = pairs.counts
    listed = np.bincount(np.arange(len(counts)) // height, counts, minlength=len(held))
    return np.asarray(held > GATHERED * np.maximum(listed, 1))


def gathered_rows(pairs: ListedPairs, tiles: TileMap, block_map: BlockMap) -> tuple[Array, tuple[GatheredRows, ...]]:
    """`gathering_blocks`, and the groups of their queries."""
    counts, gathers = pairs.counts, gathering_blocks(pairs, tiles, block_map)
    queries = np.flatnonzero(np.repeat(gathers, block_map.block[0])[: len(counts)])
    sizes = _padded(counts[queries])
    starts = np.cumsum(counts) - counts
    groups = []
    for size in np.unique(sizes):
        rows = queries[sizes == size]
        number = np.arange(size)
        real = number < counts[rows, None]
        at = np.minimum(starts[rows, None] + number, len(pairs.column) - 1)
        keys = np.where(real, pairs.column[at], 0)
        groups.append(GatheredRows(rows, keys, None if real.all() else real))
    return gathers, tuple(groups)


def _padded(counts: Array) -> Array:
    """Numbers of keys, padded to 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: few different ones, none a half too large."""
    power = 1 << np.ceil(np.log2(np.maximum(counts, 1))).astype(np.int64)
    return np.asarray(np.where((counts <= power * 3 // 4) & (power >= 4), power * 3 // 4, power))


def schedule(tiles: TileMap, block_map: BlockMap, without: Container[int] = ()) -> tuple[RowGroup, ...]:
    """The groups of all rows of a head class but these. Rows without keys form groups without runs: all are written."""
    open_groups: dict[_PieceKind, list[tuple[int, _RowPiece]]] = {}
    groups: list[RowGroup] = []
    height = block_map.block[0]
    rows = [
        _QueryRow(row * height, min(height, block_map.query_length - row * height), _split(*runs))
        for row, runs in enumerate(_rows_in_tokens(tiles, block_map))
        if row not in without
    ]
    for start, size, pieces in _masked_alike(rows):
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            signature = _PieceKind(size, piece.sizes, piece.partial, number, last)
            members = open_groups.setdefault(signature, [])
            if members and not _continues(members, start, piece):
                groups.append(_group(members, size, number, last))
                members.clear()
            members.append((start, piece))
    for signature, members in open_groups.items():
        groups.append(_group(members, signature.size, signature.number, signature.last))
    return tuple(sorted(groups, key=lambda each: (each.piece, each.start)))


def _masked_alike(rows: list[_QueryRow]) -> list[_QueryRow]:
    """The rows; those of equal shape that are one group but for their partial tiles all have the partial tiles of each.

    A mask costs less than one group for every few rows, as of windows of which those at a border are partial.
    """
    kinds: dict[tuple[int, tuple[int, ...]], list[_QueryRow]] = {}
    for row in rows:
        if len(row.pieces) == 1 and row.pieces[0].sizes:
            kinds.setdefault((row.size, row.pieces[0].sizes), []).append(row)
    alike: dict[int, _QueryRow] = {}
    for (size, sizes), members in kinds.items():
        pieces = [(row.start, row.pieces[0]) for row in members]
        if len({piece.partial for _, piece in pieces}) == 1 or len(members) * size * sum(sizes) > MASKED:
            continue
        if all(_continues(pieces[max(0, number - 2) : number], *pieces[number]) for number in range(1, len(pieces))):
            columns = np.zeros(sum(sizes) + 1, dtype=np.int64)
            for first, last in {each for _, piece in pieces for each in piece.partial}:
                columns[first] += 1
                columns[last] -= 1
            edges = np.flatnonzero(np.diff(np.cumsum(columns) > 0, prepend=False)).tolist()
            partial = tuple(zip(edges[::2], edges[1::2], strict=True))
            alike |= {start: _QueryRow(start, size, [piece._replace(partial=partial)]) for start, piece in pieces}
    return [alike.get(row.start, row) for row in rows]


def _rows_in_tokens(
    tiles: TileMap, block_map: BlockMap
) -> Iterator[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
    """For every row its runs of keys [start, end), and the runs of its partial tiles, in tokens."""
    full, partial = tiles.full, tiles.partial
    everything = Runs.of_segments(
        full.rows,
        np.concatenate([full.row, partial.row]),
        np.concatenate([full.start, partial.start]),
        np.concatenate([full.end, partial.end]),
    )
    lists = [_in_tokens(runs, block_map) for runs in (everything, partial)]
    for row in range(full.rows):
        runs, partial_runs = (pairs[bounds[row] : bounds[row + 1]] for pairs, bounds in lists)
        yield runs, partial_runs


def _in_tokens(runs: Runs, block_map: BlockMap) -> tuple[list[tuple[int, int]], list[int]]:
    width, length = block_map.block[1], block_map.key_length
    start = runs.start.astype(np.int64) * width
    end = np.minimum(runs.end.astype(np.int64) * width, length)
    return list(zip(start.tolist(), end.tolist(), strict=True)), runs.row_start.tolist()


def _split(runs: Sequence[tuple[int, int]], partial: Sequence[tuple[int, int]]) -> list[_RowPiece]:
    """A row's keys: one piece, or pieces of `PIECE` keys."""
    if sum(end - start for start, end in runs) <= LONGEST:
        return [_piece(runs, partial)]
    pieces: list[list[tuple[int, int]]] = [[]]
    room = PIECE
    for start, end in runs:
        while start < end:
            if not room:
                pieces.append([])
                room = PIECE
            stop = min(end, start + room)
            pieces[-1].append((start, stop))
            room -= stop - start
            start = stop
    return [_piece(each, partial) for each in pieces]


def _piece(runs: Sequence[tuple[int, int]], partial: Sequence[tuple[int, int]]) -> _RowPiece:
    columns, offset = [], 0
    for start, end in runs:
        for first, last in partial:
            if first < end and start < last:
                columns.append((max(first, start) - start + offset, min(last, end) - start + offset))
        offset += end - start
    return _RowPiece(tuple(run[0] for run in runs), tuple(end - start for start, end in runs), tuple(columns))


def _continues(members: Sequence[tuple[int, _RowPiece]], start: int, piece: _RowPiece) -> bool:
    """Whether a row continues the progression of `members`: equal steps of queries and of every run, none backwards."""
    last_start, last = members[-1]
    steps = [new - old for new, old in zip(piece.starts, last.starts, strict=True)]
    if len(members) == 1:
        return all(step >= 0 for step in steps)
    previous_start, previous = members[-2]
    return start - last_start == last_start - previous_start and all(
        step == old - older for step, old, older in zip(steps, last.starts, previous.starts, strict=True)
    )


def _group(members: Sequence[tuple[int, _RowPiece]], size: int, number: int, last: bool) -> RowGroup:
    start, first = members[0]
    rows, step, steps = len(members), size, [0] * len(first.starts)
    if rows > 1:
        second_start, second = members[1]
        step = second_start - start
        steps = [new - old for new, old in zip(second.starts, first.starts, strict=True)]
    if step == size and not any(steps):  # adjacent rows with the same keys are one long row
        rows, size, step = 1, rows * size, rows * size
    runs = tuple(Run(*each) for each in zip(first.starts, steps, first.sizes, strict=True))
    return RowGroup(start, step, rows, size, runs, first.partial, number, last)
