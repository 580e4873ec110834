"""The maps of a page: exact runs of tiles and their figures, for every order and tile size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskdsl.analysis.counts.stats import (
    Figures,
    Measured,
    MeasuredMask,
    Stats,
    figures_of,
    measure_all,
    measured_branches,
)
from maskdsl.analysis.orders.candidates import tile_orders
from maskdsl.analysis.orders.layouts import curve, laid_out, layout_text, spaces_of, written_layout
from maskdsl.analysis.tiles.block_map import Runs, TileMap
from maskdsl.analysis.tiles.head_classes import find_head_classes, problems
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.page import MapTooLarge
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import CurveKind
from maskdsl.ir.declared.sequences import Sequence as Tokens
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.ops import Array
from maskdsl.view.head_figures import BLOCK
from maskdsl.view.page.blobs import Blobs

Arrays = Mapping[str, Array]
Block = tuple[int, int]

_MOST_TOKENS = 2**22
_MOST_BLOCKS = 2**18
_MOST_RUNS = 2**21
"""The most tokens and blocks of a side, and the most runs of one map."""
_SMALL, _LARGE = 2**10, 2**17
"""Below the first number of tokens tiles are small, above the second they are large."""
_HEAD_DIM, _ELEMENT_SIZE = 64, 2


@dataclass(frozen=True)
class PageMap:
    """A mask in one order, measured with one tile size."""

    mask: MaskIR
    block: Block
    measured: MeasuredMask
    figures: Stats

    @property
    def order(self) -> str:
        return layout_text(self.mask, written_layout(self.mask))

    def head_class(self, head: int) -> int:
        """The head class of a head in the first batch entry."""
        return int(self.measured.head_classes.index[0, head])

    def tiles(self, head: int) -> TileMap:
        return self.measured.classes[self.head_class(head)].tiles


def usual_blocks(mask: MaskIR) -> tuple[Block, ...]:
    """The tile sizes of a page by default; first the one that is counted everywhere."""
    length = max(mask.queries.length, mask.keys.length)
    if length < _SMALL:
        return BLOCK, (64, 64), (32, 32), (16, 16), (8, 8)
    return (BLOCK, (256, 256)) if length > _LARGE else (BLOCK, (128, 64), (64, 64), (32, 32))


def usual_orders(mask: MaskIR) -> tuple[MaskIR, ...]:
    """The mask in its own order, in declared order and, for grids, in tiles and along a Hilbert curve."""
    layouts = [written_layout(mask), {}]
    grids = [space for space in spaces_of(mask).values() if sum(axis.length > 1 for axis in space.axes) > 1]
    if grids and len(layouts[0]) == 0:
        tiles = {space.name: next(iter(tile_orders(space, 128, {})), ()) for space in grids}
        axes = {space.name: tuple(axis.name for axis in space.axes if axis.length > 1) for space in grids}
        layouts += [tiles, {name: (curve(CurveKind.HILBERT, each),) for name, each in axes.items()}]
    different = {layout_text(mask, layout): layout for layout in layouts}
    return tuple(laid_out(mask, layout) for layout in different.values())


def measure(masks: Sequence[MaskIR], blocks: Sequence[Block], inputs: Arrays) -> list[list[PageMap]]:
    """The maps by order and tile size. Raises `AttnError` (E540) if one is too large for a page."""
    for mask in masks:
        for block in blocks:
            _check(mask, block)
    first = measure_all(masks[0], blocks[0], inputs)
    return [[_laid(mask, block, inputs, first) for block in blocks] for mask in masks]


def _laid(mask: MaskIR, block: Block, inputs: Arrays, first: MeasuredMask) -> PageMap:
    """The map of a mask. `first` is the same mask in any order, whose counts of keys are reused."""
    given = input_arrays(mask, inputs, relation_inputs(mask, inputs))
    head_classes = find_head_classes(mask, given)
    classes: list[Measured] = []
    for number, problem in enumerate(problems(mask, head_classes.different, block, given)):
        entry, head = np.argwhere(head_classes.index == number)[0]
        alike = first.classes[first.head_classes.index[min(entry, len(first.head_classes.index) - 1), head]]
        classes.append(Measured(problem, classify(problem), alike.counts))
        runs = len(classes[-1].tiles.full.start) + len(classes[-1].tiles.partial.start)
        if runs > _MOST_RUNS:
            raise AttnError(MapTooLarge(pattern=mask.name, count=runs, what="runs of tiles", limit=_MOST_RUNS))
    measured = MeasuredMask(tuple(classes), head_classes, measured_branches(mask, block, inputs))
    return PageMap(mask, block, measured, figures_of(mask, measured, block, _HEAD_DIM, _ELEMENT_SIZE))


def _check(mask: MaskIR, block: Block) -> None:
    for tokens, size in (mask.queries.length, block[0]), (mask.keys.length, block[1]):
        for count, what, limit in (
            (tokens, "tokens a side", _MOST_TOKENS),
            (-(-tokens // size), "tiles a side", _MOST_BLOCKS),
        ):
            if count > limit:
                raise AttnError(MapTooLarge(pattern=mask.name, count=count, what=what, limit=limit))


def classes_of_heads(layouts: Sequence[Sequence[PageMap]]) -> list[list[int]]:
    """The heads that have the same tiles in every layout, together."""
    classes: dict[tuple[int, ...], list[int]] = {}
    for head in range(layouts[0][0].mask.heads):
        classes.setdefault(tuple(each.head_class(head) for row in layouts for each in row), []).append(head)
    return list(classes.values())


def orders_data(layouts: Sequence[Sequence[PageMap]], heads: list[int], inputs: Arrays, blobs: Blobs) -> list[Any]:
    """The data of every order. `heads` are the first heads of the head classes."""
    return [
        {
            "name": row[0].order,
            "positions": {
                "query": [_positions(row[0].mask, row[0].mask.queries, inputs, head, blobs) for head in heads],
                "key": [_positions(row[0].mask, row[0].mask.keys, inputs, head, blobs) for head in heads],
            },
            "blocks": [_block_data(layout, heads, blobs) for layout in row],
        }
        for row in layouts
    ]


def _positions(mask: MaskIR, sequence: Tokens, inputs: Arrays, head: int, blobs: Blobs) -> int | None:
    """The declared position at each laid-out position; None for the declared order."""
    order = Coordinates(mask, sequence, inputs, 0, head).permutation()
    return None if order is None else blobs.add(order)


def _block_data(layout: PageMap, heads: list[int], blobs: Blobs) -> dict[str, Any]:
    def numbers(runs: Runs) -> list[int]:
        return [blobs.add(array) for array in (runs.row_start, runs.start, runs.end)]

    return {
        "size": list(layout.block),
        "maps": [
            {"full": numbers(tiles.full), "partial": numbers(tiles.partial)} for tiles in map(layout.tiles, heads)
        ],
        "figures": [_figures_data(layout.figures.first_entry[head]) for head in heads],
        "total": _figures_data(layout.figures.total),
    }


def _figures_data(figures: Figures) -> dict[str, float]:
    """The figures without infinite values, which JSON does not have."""
    return {name: value for name, value in figures.as_dict().items() if value != float("inf")}
