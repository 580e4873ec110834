"""Tiles to the work of the tiled backend: rows of equal shape in arithmetic progression, computed in few large calls.

A row is a block of queries with the runs of keys that it meets. Rows whose queries and runs move on by constant steps
make one `RowGroup`, which the generated module reads through strided views without copies. Plain data, no torch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap

LONGEST = 4096
"""Rows with more keys are cut into pieces of `PIECE` keys, whose results are merged."""
PIECE = 2048


class Run(NamedTuple):
    """Keys `start` to `start + size` of the group's first row; those of row r are `r * step` further."""

    start: int
    step: int
    size: int


class RowGroup(NamedTuple):
    """Rows of `size` queries each, the first at `start`, the others `step` apart."""

    start: int
    step: int
    rows: int
    size: int
    runs: tuple[Run, ...]
    """The keys of a row; the columns of its scores are these one behind the other."""
    partial: tuple[tuple[int, int], ...]
    """Columns [first, last) in which some pairs do not attend; all others attend throughout."""
    piece: int
    """Which piece of its rows' keys this is; results of later ones are merged into those of earlier ones."""
    last: bool
    """Whether the rows have no further piece."""


class _RowPiece(NamedTuple):
    """Some keys of one row, in tokens."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    partial: tuple[tuple[int, int], ...]


class _PieceKind(NamedTuple):
    """What the pieces of one group have in common."""

    size: int
    sizes: tuple[int, ...]
    partial: tuple[tuple[int, int], ...]
    number: int
    last: bool


def schedule(tiles: TileMap, block_map: BlockMap) -> tuple[RowGroup, ...]:
    """All rows of a head class. Rows without keys are groups without runs, so that every query is written."""
    open_groups: dict[_PieceKind, list[tuple[int, _RowPiece]]] = {}
    groups: list[RowGroup] = []
    height = block_map.block[0]
    for row, (runs, partial) in enumerate(_rows_in_tokens(tiles, block_map)):
        size = min(height, block_map.query_length - row * height)
        pieces = _split(runs, partial)
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            signature = _PieceKind(size, piece.sizes, piece.partial, number, last)
            members = open_groups.setdefault(signature, [])
            if members and not _continues(members, row * height, piece):
                groups.append(_group(members, size, number, last))
                members.clear()
            members.append((row * height, piece))
    for signature, members in open_groups.items():
        groups.append(_group(members, signature.size, signature.number, signature.last))
    return tuple(sorted(groups, key=lambda each: (each.piece, each.start)))


def _rows_in_tokens(
    tiles: TileMap, block_map: BlockMap
) -> Iterator[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
    """For every row its runs of keys, and those of them in partial tiles."""
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
    """A row's keys in pieces of bounded size."""
    total = sum(end - start for start, end in runs)
    if total <= LONGEST:
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
    """The row is one step behind the last member in every respect; steps of keys go forward."""
    before, last = members[-1]
    steps = [new - old for new, old in zip(piece.starts, last.starts, strict=True)]
    if len(members) == 1:
        return all(step >= 0 for step in steps)
    earlier, previous = members[-2]
    return start - before == before - earlier and all(
        step == old - older for step, old, older in zip(steps, last.starts, previous.starts, strict=True)
    )


def _group(members: Sequence[tuple[int, _RowPiece]], size: int, number: int, last: bool) -> RowGroup:
    start, first = members[0]
    rows, step, steps = len(members), size, [0] * len(first.starts)
    if rows > 1:
        following, second = members[1]
        step = following - start
        steps = [new - old for new, old in zip(second.starts, first.starts, strict=True)]
    if step == size and not any(steps):  # the same keys for neighbouring rows: one long row
        rows, size, step = 1, rows * size, rows * size
    runs = tuple(Run(*each) for each in zip(first.starts, steps, first.sizes, strict=True))
    return RowGroup(start, step, rows, size, runs, first.partial, number, last)
