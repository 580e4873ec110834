"""The panels of some queries of a pattern, by blocks of its queries: each block is found when it is asked for.

Blocks lie side by side in all queries, and serve all steps of decoding that are in them. Where a table has a row for
each query of a call, they are of that call alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import RLock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.rewrites.route_rows import reads_rows_of_call
from maskdsl.runtime.backends.native.bias_panels import MOST_BIASES, GrowingBiases, has_common_positions
from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.native_calls import has_biases
from maskdsl.runtime.backends.native.pair_words import lists_of_call, lists_pair_by_pair
from maskdsl.runtime.backends.native.panel_lists import PanelGrid, PanelLists, PanelTokens
from maskdsl.runtime.backends.native.structures import LANES, LARGEST_ROW, ROW, CallStructure
from maskdsl.runtime.base.call import KernelCall
from maskdsl.runtime.base.kept import in_no_mode

_Array = NDArray[Any]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_BLOCKS, _FORMS, _CALLS = 64, 16, 16
"""The most blocks, forms and lists of calls that are cached; of blocks at least twice as many as a call has entries."""
_MOST_PAIRS = 2**18
"""The most pairs of a block, of all heads, that are evaluated one by one: sooner than its tiles are found."""


class QueryRange(NamedTuple):
    """Queries of one block: those of a call from `first` on, which are `within` the block."""

    block: int
    first: int
    queries: int
    within: int


class _Block(NamedTuple):
    """Queries of a batch entry, from `first` on."""

    entry: int
    first: int
    queries: int


@dataclass(frozen=True, eq=False)
class RowForm:
    """The lists of calls whose queries are in the same blocks, but for where these are in them."""

    lists: PanelLists
    of_row: _Array
    """The number of the range of queries of each row."""
    fold: bool
    """Whether rows take all heads that share keys together."""
    biases: GrowingBiases | None
    structures: dict[object, CallStructure]
    """Those of calls, by what else they depend on."""


class QueryLists(NamedTuple):
    """The rows of a call with some queries."""

    form: RowForm
    rows: _Array
    address: int
    """That of the rows."""


class RowBlocks:
    """The lists of calls of a plan in declared order, for any of its queries. Thread-safe."""

    def __init__(self, call: KernelCall, batch: int, heads: int) -> None:
        plan, mask = call.plan, call.plan.mask
        deciding = {plan.input_identifiers[name] for name in plan.tile_inputs}
        copies = {name: x.clone() if name in deciding else x for name, x in call.values.items()}
        self.call, self.heads = replace(call, values=copies), heads
        self.by_entry, self.is_biased = plan.varies_by_batch, has_biases(call)
        self.is_of_call = reads_rows_of_call(mask)
        self.is_reused = not plan.tile_inputs
        """Whether other calls ask for lists too; where inputs decide them, it shows at the second call."""
        self.pairs = CallPairs(self.call, batch, heads)
        self.size = _size_with_biases(mask.keys.length * heads) if self.is_biased else LARGEST_ROW
        self.grid = PanelGrid(self.size, LANES, mask.queries.length, mask.keys.length)
        self.biases = self._no_biases(self.size)
        self.blocks: OrderedDict[_Block, PanelLists] = OrderedDict()
        self.forms: OrderedDict[object, RowForm] = OrderedDict()
        self.calls: OrderedDict[object, QueryLists] = OrderedDict()
        self.lock = RLock()

    def _no_biases(self, size: int) -> GrowingBiases | None:
        return GrowingBiases(self.pairs, size) if self.is_biased else None

    def lists(self, starts: tuple[int, ...], count: int, group: int) -> QueryLists | None:
        """The lists of `count` queries of each batch entry, from these positions on; `group` heads share keys.

        None where there would be too many biases, or entries or heads differ in the positions that biases read.
        """
        if self.is_biased and not has_common_positions(self.pairs):
            return None
        key = starts, count, group
        with self.lock:
            if key not in self.calls:
                of_call = self.is_of_call or not self.is_reused
                made = self._lists(*key, of_call)
                if _is_full(made) and not of_call:  # with the biases of other blocks
                    self._forget()
                    made = self._lists(*key, of_call)
                if _is_full(made):
                    self._forget()
                    return None
                self.is_reused = True
                return _recent(self.calls, key, _CALLS, lambda: made)
            return self.calls[key]

    def _forget(self) -> None:
        self.biases = self._no_biases(self.size)
        for cache in (self.blocks, self.forms, self.calls):
            cache.clear()

    def _lists(self, starts: tuple[int, ...], count: int, group: int, of_call: bool) -> QueryLists:
        """The lists of a call, from blocks that serve others too, or else of this call alone."""
        size = min(count, LARGEST_ROW) if of_call else self.size
        biases = self._no_biases(size) if of_call else self.biases
        where = [(entry if self.by_entry else 0, start) for entry, start in enumerate(starts)]
        numbers = {each: number for number, each in enumerate(dict.fromkeys(where))}
        blocks, ranges = list[tuple[_Block, ...]](), list[QueryRange]()
        for entry, start in numbers:
            origin, end = (start, start + count) if of_call else (0, self.grid.queries)
            some = query_ranges(start - origin, count, size)
            firsts = [origin + each.block * size for each in some]
            blocks.append(tuple(_Block(entry, first, min(size, end - first)) for first in firsts))
            ranges += some
        pieces_of = tuple(numbers[each] for each in where)
        shared = group if group > 1 and group * count <= LARGEST_ROW else 1

        def block(each: _Block) -> PanelLists:
            def make() -> PanelLists:
                return self._block(each, size, biases)

            return make() if of_call else _recent(self.blocks, each, max(_BLOCKS, 2 * len(starts)), make)

        def made() -> RowForm:
            different = dict.fromkeys(each for some in blocks for each in some)
            return self._form({each: block(each) for each in different}, blocks, pieces_of, shared > 1, biases)

        form = made() if of_call else _recent(self.forms, (*blocks, pieces_of, shared), _FORMS, made)
        rows = form.lists.rows.copy()
        positions = np.array([(each.first, each.queries, each.within) for each in ranges])
        rows["first"], rows["count"], rows["word"] = positions[form.of_row].T
        return QueryLists(form, rows, rows.ctypes.data)

    def _form(
        self,
        made: Mapping[_Block, PanelLists],
        blocks: Sequence[tuple[_Block, ...]],
        pieces_of: tuple[int, ...],
        folds: bool,
        biases: GrowingBiases | None,
    ) -> RowForm:
        alike = all(len(each.class_rows) == 2 for each in made.values())
        heads = range(1 if alike else self.heads)
        run_firsts, runs, words = _joined([*made.values()])
        firsts = dict(zip(made, run_firsts, strict=True))
        rows, of_row, class_rows, number = list[tuple[int, int]](), list[int](), [0], 0
        for some in blocks:
            for head in heads:
                for at, each in enumerate(some):
                    row = made[each].rows[made[each].class_rows[made[each].classes[0, head]]]
                    rows.append((firsts[each] + row["run"], row["runs"]))
                    of_row.append(number + at)
                class_rows.append(len(rows))
            number += len(some)
        all_rows = np.zeros(len(rows), ROW)
        all_rows["run"], all_rows["runs"] = np.array(rows).T
        piece = np.array(pieces_of, np.int32)[:, None]
        classes = piece * len(heads) + np.arange(self.heads, dtype=np.int32) * (not alike)
        packs = len(rows) * self.size > 2 * LARGEST_ROW * (len(class_rows) - 1)
        lists = PanelLists(np.ascontiguousarray(classes), np.array(class_rows), all_rows, runs, words, packs)
        return RowForm(lists, np.array(of_row), alike and folds, biases, {})

    def _block(self, block: _Block, size: int, biases: GrowingBiases | None) -> PanelLists:
        """The lists of the rows of one block, one for each class of heads."""
        entry, first, count = block
        grid = replace(self.grid, height=size, queries=count, first=first)
        with in_no_mode():
            lists = self._panels(grid, entry)
            lists = lists._replace(words=np.pad(lists.words, ((0, 0), (0, size - lists.words.shape[1]))))
            if biases is None:
                return lists
            lists, row = lists.by_panel(grid)
            queries, keys = grid.tokens(row, lists.runs["panel"])
            queries = np.pad(queries, ((0, 0), (0, size - queries.shape[1])), "edge")
            lists.runs["bias"] = biases.number(PanelTokens(queries, keys))
            return lists

    def _panels(self, grid: PanelGrid, entry: int) -> PanelLists:
        _, by_head = self.pairs.variation(self.pairs.module.MASK_READS)
        if grid.tallest * grid.keys * (self.heads if by_head else 1) <= _MOST_PAIRS:
            return lists_pair_by_pair(self.pairs, grid, self.call.values, entry)
        region, state = slice(grid.first, grid.first + grid.queries), self.call.state
        only = entry if self.by_entry else None
        block_map = tiles(
            self.call.plan.mask, (grid.height, LANES), state.arrays, state.batch, (region, slice(None)), only
        )
        return lists_of_call(self.pairs, grid, block_map, self.call.values, range(entry, entry + 1))


def _is_full(lists: QueryLists) -> bool:
    return lists.form.biases is not None and lists.form.biases.size > MOST_BIASES


def _size_with_biases(pairs: int) -> int:
    """The queries of a block, of so many keys of all heads: of several such blocks all biases are held."""
    size = LANES
    while size > 1 and 2 * size * pairs > MOST_BIASES:
        size //= 2
    return size


def _recent(cache: OrderedDict[_Key, _Value], key: _Key, most: int, make: Callable[[], _Value]) -> _Value:
    """The value of a key, made if it is not among those that were asked for last."""
    if key not in cache:
        cache[key] = make()
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
    return cache[key]


def query_ranges(start: int, count: int, size: int) -> list[QueryRange]:
    """`count` queries from `start` on, by block of `size`."""
    blocks = range(start // size, (start + count - 1) // size + 1)
    ends = [(each, max(start, each * size), min(start + count, (each + 1) * size)) for each in blocks]
    return [QueryRange(each, low - start, high - low, low - each * size) for each, low, high in ends]


def _joined(blocks: Sequence[PanelLists]) -> tuple[list[int], _Array, _Array]:
    """Where the runs of each block begin, and the runs and words of all."""
    if len(blocks) == 1:
        return [0], blocks[0].runs, blocks[0].words
    runs = [each.runs.copy() for each in blocks]
    first = 0
    for some, each in zip(runs, blocks, strict=True):
        some["mask"][some["mask"] >= 0] += first
        first += len(each.words)
    ends = np.cumsum([0, *map(len, runs)])
    return ends[:-1].tolist(), np.concatenate(runs), np.concatenate([each.words for each in blocks])
