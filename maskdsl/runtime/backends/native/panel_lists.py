"""The rows of queries and the panels of keys of a block map, as `codegen/native.c` takes them. Plain data, no torch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.block_map import BlockMap, TileMap
from maskdsl.base.records import dataclass
from maskdsl.runtime.backends.native.structures import LANES, ROW, RUN

Array = NDArray[Any]
Relation = Callable[[Array, Array], Array]
"""Maps the rows and numbers of panels to the lanes that attend: uint16 [panels, queries of a row]."""

_AT_ONCE = 2**11
"""Panels whose pairs are evaluated at once."""
_FULL = _NO_BIAS = -1
_SEVERAL = 1.25
"""Keys are packed before rows take them, if rows of all heads take a panel so often on average."""


class PanelTokens(NamedTuple):
    """The tokens of some panels of rows. Where a row or a panel has fewer, its last one is there again."""

    queries: Array
    """int64 [panels, queries of a row]"""
    keys: Array
    """int64 [panels, LANES]"""


@dataclass(frozen=True)
class PanelGrid:
    """Rows of `height` queries, and panels of keys that do not cross blocks of `width`."""

    height: int
    width: int
    queries: int
    keys: int
    first: int = 0
    """The position of the first query of the first row."""

    @property
    def tallest(self) -> int:
        """The queries of the largest row."""
        return min(self.height, self.queries)

    @property
    def of_block(self) -> int:
        """The panels of a block."""
        return -(-self.width // LANES)

    @property
    def panels(self) -> int:
        """The panels of all keys."""
        return -(-self.keys // self.width) * self.of_block

    def tokens(self, row: Array, panel: Array) -> PanelTokens:
        """The tokens of panels of rows."""
        return PanelTokens(self.row_tokens(row), self.panel_tokens(panel))

    def row_tokens(self, row: Array) -> Array:
        """int64 [rows, tallest]: the queries of rows; the last one again where there are fewer."""
        within = row.astype(np.int64)[:, None] * self.height + np.arange(self.tallest)
        return np.asarray(self.first + np.minimum(within, self.queries - 1))

    def panel_tokens(self, panel: Array) -> Array:
        """int64 [panels, LANES]: the keys of panels; the last one again where there are fewer."""
        first, count = self._panel(panel)
        within = np.minimum(np.arange(LANES), count[:, None] - 1)
        return np.asarray(np.clip(first[:, None] + within, 0, self.keys - 1))

    def lanes(self, row: Array, panel: Array) -> Array:
        """uint16 [panels, tallest]: the lanes of panels that hold keys, for queries that there are."""
        there = np.arange(self.tallest) < (self.queries - row.astype(np.int64) * self.height)[:, None]
        return np.asarray(((1 << self._panel(panel)[1][:, None]) - 1) * there, np.uint16)

    def _panel(self, panel: Array) -> tuple[Array, Array]:
        """The first key of panels, and their number of keys."""
        block, within = np.divmod(panel.astype(np.int64), self.of_block)
        first = block * self.width + within * LANES
        return first, np.clip(np.minimum((block + 1) * self.width, self.keys) - first, 0, LANES)


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
    """uint16 [masks, tallest]: the lanes that attend. Each mask is there once."""
    packs: bool
    """Whether keys are packed before rows take them."""

    def by_panel(self, grid: PanelGrid) -> "tuple[PanelLists, Array]":
        """The same lists with a run for each panel, and the row of the grid of each run."""
        count = self.runs["panels"].astype(np.int64)
        first = np.cumsum(count) - count
        runs = np.repeat(self.runs, count)
        within = np.arange(len(runs)) - np.repeat(first, count)
        runs["panel"] += within
        runs["mask"] += np.where(runs["mask"] == _FULL, 0, within)
        runs["panels"] = 1
        rows, ends = self.rows.copy(), np.append(first, len(runs))
        rows["runs"] = ends[self.rows["run"] + self.rows["runs"]] - ends[self.rows["run"]]
        rows["run"] = ends[self.rows["run"]]
        return self._replace(rows=rows, runs=runs), np.repeat(rows["first"] // grid.height, rows["runs"])


class _ClassRows(NamedTuple):
    """Those of one class; runs count within it, and its masks are none yet but their words."""

    rows: Array
    runs: Array
    words: Array
    """uint16 [masks, tallest], in the order of the runs that have masks."""


def panel_lists(block_map: BlockMap, classes: Array, relations: Sequence[tuple[int, Relation]]) -> PanelLists:
    """The lists of all heads: `relations` are pairs of a head class and a relation, `classes` the pair of each head."""
    grid = PanelGrid(*block_map.block, block_map.query_length, block_map.key_length)
    made = [_rows_of(grid, block_map, block_map.head_classes[number], relation) for number, relation in relations]
    rows = np.concatenate([each.rows for each in made])
    runs = np.concatenate([each.runs for each in made])
    words, number = each_once(np.concatenate([each.words for each in made]))
    runs["mask"][runs["mask"] != _FULL] = number
    rows["run"] += np.repeat(_firsts([len(each.runs) for each in made])[:-1], [len(each.rows) for each in made])
    uses = runs["panels"].sum() / max(1, len(made)) / max(1, block_map.key_blocks * grid.of_block)
    class_rows = _firsts([len(each.rows) for each in made])
    return PanelLists(np.ascontiguousarray(classes, np.int32), class_rows, rows, runs, words, bool(uses > _SEVERAL))


def lists_of_words(grid: PanelGrid, words: Array) -> PanelLists:
    """The lists of one row of queries, from the words of all panels, uint16 [heads or 1, panels, queries]."""
    heads, panels, count = words.shape
    lanes = grid.lanes(np.zeros(panels), np.arange(panels))
    words = words & lanes
    if heads > 1 and (words == words[0]).all():
        words = words[:1]
    kind = np.where((words == lanes).all(axis=2), 2, words.any(axis=2).astype(np.int8))
    begins = np.diff(kind, axis=1, prepend=0) != 0
    begins[:, 0] = True
    row, first = np.nonzero(begins)
    length = np.diff(row * panels + first, append=words.shape[0] * panels)
    kept = kind[row, first] > 0
    runs = new_runs(first[kept], length[kept])
    is_masked = kind[row, first][kept] == 1
    runs["mask"][is_masked] = (row * panels + first)[kept][is_masked]
    made = np.zeros(len(words), ROW)
    made["count"], made["runs"] = count, np.bincount(row[kept], minlength=len(made))
    made["run"] = np.cumsum(made["runs"]) - made["runs"]
    classes = np.arange(heads, dtype=np.int32)[None] * (len(words) > 1)
    all_words = np.ascontiguousarray(words.reshape(-1, count))
    return PanelLists(classes, np.arange(len(words) + 1), made, runs, all_words, packs=False)


def in_batches(row: Array, panel: Array) -> list[tuple[Array, Array]]:
    """Panels, some at once."""
    return [(row[n : n + _AT_ONCE], panel[n : n + _AT_ONCE]) for n in range(0, len(row), _AT_ONCE)]


def _firsts(counts: Sequence[int]) -> Array:
    """int64: where each of some lists begins, and the last one ends."""
    return np.cumsum([0, *counts])


def _rows_of(grid: PanelGrid, block_map: BlockMap, tiles: TileMap, relation: Relation) -> _ClassRows:
    full = new_runs(
        tiles.full.start.astype(np.int64) * grid.of_block, (tiles.full.end - tiles.full.start) * grid.of_block
    )
    rows, runs, masks = [tiles.full.row], [full], [np.zeros((0, grid.tallest), np.uint16)]
    for tile_row, column in tiles.partial.batches(max(1, _AT_ONCE // grid.of_block)):
        panel = (column[:, None].astype(np.int64) * grid.of_block + np.arange(grid.of_block)).ravel()
        row = np.repeat(tile_row, grid.of_block)
        lanes = grid.lanes(row, panel)
        words = relation(row, panel)[:, : grid.tallest] & lanes
        is_full, kept = (words == lanes).all(axis=1), words.any(axis=1)
        partial = new_runs(panel, 1)
        partial["mask"] = np.where(is_full, _FULL, 0)
        rows.append(row[kept])
        runs.append(partial[kept])
        masks.append(words[kept & ~is_full])
    row, run = np.concatenate(rows), np.concatenate(runs)
    order = np.lexsort((run["panel"], row))
    number = np.cumsum(run["mask"] != _FULL) - 1
    run, number = run[order], number[order]
    first = np.arange(block_map.query_blocks) * grid.height
    made = np.zeros(block_map.query_blocks, ROW)
    made["first"], made["count"] = first, np.minimum(grid.height, grid.queries - first)
    made["runs"] = np.bincount(row, minlength=len(made))
    made["run"] = np.cumsum(made["runs"]) - made["runs"]
    return _ClassRows(made, run, np.concatenate(masks)[number[run["mask"] != _FULL]])


def new_runs(panel: Array, panels: Array | int) -> Array:
    """Runs of full panels."""
    made = np.zeros(len(panel), RUN)
    made["panel"], made["panels"], made["mask"], made["bias"] = panel, panels, _FULL, _NO_BIAS
    return made


def each_once(words: Array) -> tuple[Array, Array]:
    """The different rows of words, at least one, and which of them each is."""
    if not len(words):
        return np.zeros((1, words.shape[1]), np.uint16), np.zeros(0, np.int64)
    _, first, number = np.unique(hashes(words), return_index=True, return_inverse=True)
    once = np.ascontiguousarray(words[first])
    if not np.array_equal(once[number], words):  # two rows of one hash
        once, number = np.unique(words, axis=0, return_inverse=True)
    return once, number.ravel()


def hashes(values: Array) -> Array:
    """uint64 [rows]: a hash of each row of integers [rows, n]."""
    factors = np.random.default_rng(0).integers(1, 2**63, values.shape[1], dtype=np.uint64) | np.uint64(1)
    return np.asarray((values.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64))
