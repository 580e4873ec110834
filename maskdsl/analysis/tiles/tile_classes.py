"""The class of every tile: from lists of pairs, by descent, or by descent into one period and copies of it.

Where pairs attend alike a period of blocks further on, as in every frame of a video, the rows of the first period and
of the last are classified. Each row between them is the first one moved forward and, before that, the last one moved
back. What does not repeat, at either end of both sides, is classified as it is.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, TileMap
from maskdsl.analysis.tiles.descent import Problem, descend, descend_among, descend_shortly
from maskdsl.analysis.tiles.listed_pairs import ListedPairs
from maskdsl.analysis.tiles.matches import matched_tiles
from maskdsl.analysis.tiles.translations import (
    Translation,
    block_hashes,
    find_periods,
    find_translation,
    pieces_have_periods,
)
from maskdsl.base.records import dataclass

_SHORT = 1 << 17
"""Descents that judge more pairs of nodes look for a translation first."""
_LARGE = 1 << 21
"""With more tiles, both sides are cut in two where they have no period and their halves or quarters have one."""
_LEAST = 4
"""Periods of queries for which copying pays."""

_CHUNK = 1 << 17
"""Segments that are moved at once."""
_Segments = tuple[Array, Array, Array]
"""Rows, and their first and last column, exclusive."""


def classify(problem: Problem, hasty: bool = False) -> TileMap:
    """The exact class of every tile. If `hasty`, all tiles that intervals leave open count as partial."""
    if problem.listed is not None:
        return _of_pairs(problem, problem.listed)
    tiles = descend_shortly(problem, hasty, _SHORT)
    if tiles is not None:
        return tiles
    rows, columns = problem.query.count, problem.key.count
    hashes = block_hashes(problem.query), block_hashes(problem.key)
    periods = find_periods(*hashes)
    tiles = None if periods is None else _copied(problem, hasty, periods)
    if tiles is not None:
        return tiles
    if problem.equal is not None:
        return _of_pairs(problem, problem.equal)
    tiles = _matched(problem, hasty)
    if tiles is not None:
        return tiles
    if periods is not None or not pieces_have_periods(*hashes, _LARGE):
        return descend(problem, hasty)
    quarters = [
        _Rectangle.of(problem, some_rows, some_columns, partial(classify, hasty=hasty))
        for some_rows in ((0, rows // 2), (rows // 2, rows))
        for some_columns in ((0, columns // 2), (columns // 2, columns))
    ]
    return _joined(rows, quarters)


def _of_pairs(problem: Problem, pairs: ListedPairs) -> TileMap:
    query, key = problem.query, problem.key
    return pairs.tiles(query.length, key.length, (query.sizes[0], key.sizes[0]))


def _matched(problem: Problem, hasty: bool) -> TileMap | None:
    """The classes by tokens that match; None if they are too many. Tiles of several terms may be left for a descent."""
    tiles = None if problem.terms is None else matched_tiles(problem.terms, problem.query, problem.key)
    if tiles is None:
        return None
    is_open = ~(tiles.is_full | tiles.is_partial)
    rest = descend_among(problem, hasty, tiles.row[is_open], tiles.column[is_open])
    known = [
        (tiles.row[which], tiles.column[which], tiles.column[which] + 1) for which in (tiles.is_full, tiles.is_partial)
    ]
    others = _Rectangle(*((each.row, each.start, each.end) for each in (rest.full, rest.partial)))
    return _joined(problem.query.count, [_Rectangle(*known), others])


def _copied(problem: Problem, hasty: bool, periods: tuple[int, int]) -> TileMap | None:
    """The classes by a translation; None if there is none, or too few periods."""
    moved = find_translation(problem.program, problem.query, problem.key, periods)
    if moved is None:
        return None
    query, key = moved.query, moved.key
    most = (query.end - query.first - 1) // query.period
    if most < _LEAST or most * key.period > key.end - key.first:
        return None
    rows, columns = problem.query.count, problem.key.count
    rectangle = partial(_Rectangle.of, problem, classify=partial(descend, hasty=hasty))
    first = rectangle((query.first, query.first + query.period), (key.first, key.end))
    last = rectangle((query.end - query.period, query.end), (key.first, key.end))
    rectangles = [
        rectangle((0, query.first), (0, columns)),
        rectangle((query.first, query.end), (0, key.first)),
        _Rectangle(*(_moved_back(each, moved) for each in (last.full, last.partial))),
        _Rectangle(*(_moved_forward(each, moved) for each in (first.full, first.partial))),
        rectangle((query.first, query.end), (key.end, columns)),
        rectangle((query.end, rows), (0, columns)),
    ]
    return _joined(rows, rectangles)


@dataclass(frozen=True, eq=False)
class _Rectangle:
    """The tiles of some rows and columns."""

    full: _Segments
    partial: _Segments

    @staticmethod
    def of(
        problem: Problem, rows: tuple[int, int], columns: tuple[int, int], classify: Callable[[Problem], TileMap]
    ) -> "_Rectangle":
        """Those of the tiles of a problem from the first row and column to the last, exclusive."""
        tiles = classify(Problem(problem.program, problem.query.blocks(*rows), problem.key.blocks(*columns)))
        return _Rectangle(
            *(
                (each.row + rows[0], each.start + columns[0], each.end + columns[0])
                for each in (tiles.full, tiles.partial)
            )
        )


def _joined(rows: int, rectangles: Sequence[_Rectangle]) -> TileMap:
    full, partial = ([each.full for each in rectangles], [each.partial for each in rectangles])
    return TileMap(Runs.of_segments(rows, *_concatenated(full)), Runs.of_segments(rows, *_concatenated(partial)))


def _concatenated(segments: Sequence[_Segments]) -> _Segments:
    row, start, end = map(np.concatenate, zip(*segments, strict=True))
    return row, start, end


def _moved_forward(segments: _Segments, moved: Translation) -> _Segments:
    """Those of the first period, in all periods, as far as columns repeat."""
    row, start, end = segments

    def in_periods(periods: Array) -> _Segments:
        rows, by = row + periods * moved.query.period, periods * moved.key.period
        kept = (rows < moved.query.end) & (start + by < moved.key.end)
        return rows[kept], (start + by)[kept], np.minimum(end + by, moved.key.end)[kept]

    return _in_all_periods(in_periods, (moved.query.end - moved.query.first - 1) // moved.query.period, len(row))


def _moved_back(segments: _Segments, moved: Translation) -> _Segments:
    """Those of the last period, in all periods, in the columns that no column of the first period is moved to."""
    row, start, end = segments
    number = (row - moved.query.first) // moved.query.period

    def in_periods(periods: Array) -> _Segments:
        back = number - periods
        rows, by = row - back * moved.query.period, back * moved.key.period
        starts = np.maximum(start - by, moved.key.first)
        ends = np.minimum(end - by, moved.key.first + periods * moved.key.period)
        kept = (back >= 0) & (starts < ends)
        return rows[kept], starts[kept], ends[kept]

    return _in_all_periods(in_periods, int(number.max(initial=0)), len(row))


def _in_all_periods(in_periods: Callable[[Array], _Segments], last: int, count: int) -> _Segments:
    """What a function of some periods, int32 [periods, 1], gives of all: some at a time, which fit in the cache."""
    step = max(1, _CHUNK // max(count, 1))
    periods = np.arange(last + 1, dtype=np.int32)[:, None]
    some = [in_periods(periods[first : first + step]) for first in range(0, last + 1, step)]
    return _concatenated(some)
