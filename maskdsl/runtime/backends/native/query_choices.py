"""The rows of some queries of a call with a table of choices: of heads that share keys, with all that they chose."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.runtime.backends.native.choice_tiles import ChoiceTiles
from maskdsl.runtime.backends.native.chosen_rows import ChosenLists, side_by_side
from maskdsl.runtime.backends.native.panel_lists import PanelLists
from maskdsl.runtime.backends.native.row_blocks import QueryRange, query_ranges
from maskdsl.runtime.backends.native.structures import LARGEST_ROW, ROW, SEGMENT

_Array = NDArray[Any]

_MOST_ROWS = 4
"""Of a key head. Each takes all blocks that some of its queries chose: more queries are gathered block by block."""


def lists_of_queries(
    block: Callable[[int], ChoiceTiles], starts: Sequence[int], table: _Array, heads: int, key_heads: int
) -> ChosenLists | None:
    """The lists of the queries of each batch entry from these positions on; None where these are many.

    `block` gives the tiles of a block of queries. The table is bool [batch, heads or those that share one, queries of
    the call, columns].
    """
    count, group = table.shape[2], heads // key_heads
    if group > LARGEST_ROW or group * count > _MOST_ROWS * LARGEST_ROW:
        return None
    table = np.repeat(table, heads // table.shape[1], axis=1).reshape(len(table), key_heads, group, count, -1)
    pieces = [[*_cut(query_ranges(start, count, LARGEST_ROW), LARGEST_ROW // group)] for start in starts]
    segments, rows = np.zeros((len(pieces), key_heads), SEGMENT), list[_Array]()
    runs, words, members = list[_Array](), list[_Array](), list[_Array]()
    for entry, some in enumerate(pieces):
        segments[entry]["count"], segments[entry]["rows"] = count, len(some)
        made = np.zeros((key_heads, len(some)), ROW)
        for number, each in enumerate(some):
            queries = np.arange(each.queries)
            tiles = block(each.block).of_queries(np.tile(each.within + queries, group))
            columns = tiles.decided.shape[1]
            taken = table[entry, :, :, each.first : each.first + each.queries, :columns]
            chosen = taken.reshape(key_heads, 1, -1, columns)
            whole, everyone = tiles.decided & chosen.any(axis=2), np.asarray(chosen.all(axis=2))
            new, masks, start = side_by_side(tiles, chosen, whole, everyone)
            first_run, first_mask, first = (sum(map(len, x)) for x in (runs, words, members))
            new["mask"] += np.sign(new["mask"] + 1) * first_mask
            made["first"][:, number], made["count"][:, number] = first, chosen.shape[2]
            made["run"][:, number], made["runs"][:, number] = first_run + start[:-1], np.diff(start)
            runs.append(new)
            words.append(np.pad(masks, ((0, 0), (0, LARGEST_ROW - masks.shape[1]))))
            members.append((np.arange(group)[:, None] * count + each.first + queries).ravel())
        rows.append(made.ravel())
    segments["row"] = (np.cumsum(segments["rows"]) - segments["rows"].ravel()).reshape(segments.shape)
    classes = np.repeat(np.arange(segments.size, dtype=np.int32).reshape(segments.shape), group, axis=1)
    class_rows = np.arange(segments.size + 1, dtype=np.int64)
    all_rows, all_runs, all_words = (np.concatenate(each) for each in (rows, runs, words))
    lists = PanelLists(classes, class_rows, all_rows, all_runs, all_words, packs=len(all_rows) > 2 * segments.size)
    return ChosenLists(lists, segments.ravel(), np.concatenate(members).astype(np.int32))


def _cut(ranges: Sequence[QueryRange], most: int) -> Iterator[QueryRange]:
    """The same queries, in ranges of so many at most."""
    for each in ranges:
        for before in range(0, each.queries, most):
            count = min(most, each.queries - before)
            yield each._replace(first=each.first + before, queries=count, within=each.within + before)
