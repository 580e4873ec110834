"""The panels of some queries of a pattern without inputs: of its blocks of queries, each found when it is asked for."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple, TypeVar

import numpy as np

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.pair_words import lists_of_call
from maskdsl.runtime.backends.native.panel_lists import PanelGrid, PanelLists
from maskdsl.runtime.backends.native.structures import LANES, LARGEST_ROW, ROW, CallStructure
from maskdsl.runtime.base.call import KernelCall
from maskdsl.runtime.base.kept import in_no_mode

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_BLOCKS, _CALLS = 64, 16
"""The most blocks, and lists of calls, that are cached."""


class QueryRange(NamedTuple):
    """Queries of one block: those of a call from `first` on, which are `within` the block."""

    block: int
    first: int
    queries: int
    within: int


class QueryLists(NamedTuple):
    """The rows and panels of a call with some queries."""

    lists: PanelLists
    fold: bool
    """Whether rows take all heads that share keys together."""
    structures: dict[object, CallStructure]
    """Those of calls with these lists, by what else they depend on."""


class RowBlocks:
    """The lists of a call of a plan in declared order, for any of its queries."""

    def __init__(self, call: KernelCall, heads: int) -> None:
        mask = call.plan.mask
        self.call, self.heads = call, heads
        self.grid = PanelGrid(LARGEST_ROW, LANES, mask.queries.length, mask.keys.length)
        self.pairs = CallPairs(call, self.grid, 1, heads)
        self.blocks: OrderedDict[int, PanelLists] = OrderedDict()
        self.calls: OrderedDict[tuple[tuple[int, ...], int, int], QueryLists] = OrderedDict()
        self.lock = Lock()

    def lists(self, starts: tuple[int, ...], count: int, group: int) -> QueryLists:
        """The lists of `count` queries of each batch entry, from these positions on; `group` heads share keys."""
        key = starts, count, group
        return self._recent(self.calls, key, _CALLS, lambda: self._lists(starts, count, group))

    def _recent(self, cache: OrderedDict[_Key, _Value], key: _Key, most: int, make: Callable[[], _Value]) -> _Value:
        """The value of a key, made if it is not among those that were asked for last."""
        with self.lock:
            value = cache.get(key)
        if value is None:
            value = make()
        with self.lock:
            cache[key] = value
            cache.move_to_end(key)
            while len(cache) > most:
                cache.popitem(last=False)
        return value

    def _block(self, number: int) -> PanelLists:
        return self._recent(self.blocks, number, _BLOCKS, lambda: self._made_block(number))

    def _made_block(self, number: int) -> PanelLists:
        first = number * LARGEST_ROW
        region = slice(first, min(first + LARGEST_ROW, self.grid.queries)), slice(None)
        with in_no_mode():
            block_map = tiles(self.call.plan.mask, (LARGEST_ROW, LANES), batch=1, region=region)
            return lists_of_call(self.pairs, block_map, self.call.values, number)

    def _lists(self, starts: tuple[int, ...], count: int, group: int) -> QueryLists:
        pieces = {start: list(query_ranges(start, count, LARGEST_ROW)) for start in starts}
        blocks = {each.block: self._block(each.block) for some in pieces.values() for each in some}
        alike = all(len(each.class_rows) == 2 for each in blocks.values())
        fold = alike and group > 1 and group * count <= LARGEST_ROW
        heads = range(1 if alike else self.heads)
        run_firsts, runs, words = _joined([*blocks.values()])
        firsts = dict(zip(blocks, run_firsts, strict=True))
        numbers = {start: number for number, start in enumerate(pieces)}
        rows, class_rows = [], [0]
        for some in pieces.values():
            for head in heads:
                for each in some:
                    block = blocks[each.block]
                    row = block.rows[block.class_rows[block.classes[0, head]]]
                    rows.append((each.first, each.queries, firsts[each.block] + row["run"], row["runs"], each.within))
                class_rows.append(len(rows))
        entry = np.array([numbers[start] for start in starts], np.int32)[:, None]
        classes = entry * len(heads) + np.arange(self.heads, dtype=np.int32) * (not alike)
        packs = len(rows) > 2 * len(class_rows) - 2
        lists = PanelLists(np.ascontiguousarray(classes), np.array(class_rows), np.array(rows, ROW), runs, words, packs)
        return QueryLists(lists, fold, {})


def query_ranges(start: int, count: int, size: int) -> list[QueryRange]:
    """`count` queries from `start` on, by block of `size`."""
    blocks = range(start // size, (start + count - 1) // size + 1)
    ends = [(each, max(start, each * size), min(start + count, (each + 1) * size)) for each in blocks]
    return [QueryRange(each, low - start, high - low, low - each * size) for each, low, high in ends]


def _joined(blocks: Sequence[PanelLists]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Where the runs of each block begin, and the runs and words of all."""
    if len(blocks) == 1:
        return [0], blocks[0].runs, blocks[0].words
    height = max(each.words.shape[1] for each in blocks)
    words = [np.pad(each.words, ((0, 0), (0, height - each.words.shape[1]))) for each in blocks]
    runs = [each.runs.copy() for each in blocks]
    first = 0
    for each, some in zip(runs, words, strict=True):
        each["mask"][each["mask"] >= 0] += first
        first += len(some)
    ends = np.cumsum([0, *map(len, runs)])
    return ends[:-1].tolist(), np.concatenate(runs), np.concatenate(words)
