"""The maps of a page: for every order and size of tiles the exact runs of tiles, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskdsl.analysis.counts.stats import Figures, Measured, MeasuredMask, Stats, figures_of, measure_all
from maskdsl.analysis.orders.candidates import tile_orders
from maskdsl.analysis.orders.layouts import curve, laid_out, layout_text, spaces_of, written_layout
from maskdsl.analysis.tiles.block_map import Runs, TileMap
from maskdsl.analysis.tiles.descent import classify
from maskdsl.analysis.tiles.head_classes import find_head_classes, problems
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.page import MapTooLarge
from maskdsl.ir.mask import CurveKind, MaskIR
from maskdsl.ir.mask import Sequence as Tokens
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.ops import Array
from maskdsl.view.page.blobs import Blobs

Arrays = Mapping[str, Array]
Block = tuple[int, int]

_MOST_TOKENS = 2**22
_MOST_BLOCKS = 2**18
_MOST_RUNS = 2**21
"""Of a side, and of one map."""
_SMALL, _LARGE = 2**10, 2**17
"""Tokens up to which tiles are small, and from which on they are large."""
_HEAD_DIM, _ELEMENT_SIZE = 64, 2


@dataclass(frozen=True)
class PageMap:
    """A mask in one order, measured with tiles of one size."""

    mask: MaskIR
    block: Block
    measured: MeasuredMask
    figures: Stats

    @property
    def order(self) -> str:
        return layout_text(self.mask, written_layout(self.mask))

    def head_class(self, head: int) -> int:
        """That of the first batch entry."""
        return int(self.measured.head_classes.index[0, head])

    def tiles(self, head: int) -> TileMap:
        return self.measured.classes[self.head_class(head)].tiles


def usual_blocks(mask: MaskIR) -> tuple[Block, ...]:
    """Sizes worth a look, where nobody asks for others."""
    length = max(mask.queries.length, mask.keys.length)
    if length < _SMALL:
        return (64, 64), (32, 32), (16, 16), (8, 8)
    return ((256, 256), (128, 128)) if length > _LARGE else ((128, 128), (128, 64), (64, 64), (32, 32))


def usual_orders(mask: MaskIR) -> tuple[MaskIR, ...]:
    """The mask in its own order, as declared, and for grids in tiles and along a Hilbert curve."""
    layouts = [written_layout(mask), {}]
    grids = [space for space in spaces_of(mask).values() if sum(axis.length > 1 for axis in space.axes) > 1]
    if grids and len(layouts[0]) == 0:
        tiles = {space.name: next(iter(tile_orders(space, 128, {})), ()) for space in grids}
        axes = {space.name: tuple(axis.name for axis in space.axes if axis.length > 1) for space in grids}
        layouts += [tiles, {name: (curve(CurveKind.HILBERT, each),) for name, each in axes.items()}]
    different = {layout_text(mask, layout): layout for layout in layouts}
    return tuple(laid_out(mask, layout) for layout in different.values())


def measure(masks: Sequence[MaskIR], blocks: Sequence[Block], inputs: Arrays) -> list[list[PageMap]]:
    """By order and size of tiles. Raises `AttnError` for what is too large for a page."""
    for mask in masks:
        for block in blocks:
            _check(mask, block)
    first = measure_all(masks[0], blocks[0], inputs)
    return [[_laid(mask, block, inputs, first) for block in blocks] for mask in masks]


def _laid(mask: MaskIR, block: Block, inputs: Arrays, first: MeasuredMask) -> PageMap:
    """`first` is the same mask, however laid out: how many keys its queries attend stays, and is not counted again."""
    given = input_arrays(mask, inputs, relation_inputs(mask, inputs))
    head_classes = find_head_classes(mask, given)
    parts: list[Measured] = []
    for number, problem in enumerate(problems(mask, head_classes.different, block, given)):
        entry, head = np.argwhere(head_classes.index == number)[0]
        alike = first.classes[first.head_classes.index[min(entry, len(first.head_classes.index) - 1), head]]
        parts.append(Measured(problem, classify(problem), alike.counts))
        runs = len(parts[-1].tiles.full.start) + len(parts[-1].tiles.partial.start)
        if runs > _MOST_RUNS:
            raise AttnError(MapTooLarge(pattern=mask.name, count=runs, what="runs of tiles", limit=_MOST_RUNS))
    measured = MeasuredMask(tuple(parts), head_classes)
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
    """Heads that have the same tiles in every layout."""
    found: dict[tuple[int, ...], list[int]] = {}
    for head in range(layouts[0][0].mask.heads):
        found.setdefault(tuple(each.head_class(head) for row in layouts for each in row), []).append(head)
    return list(found.values())


def orders_data(layouts: Sequence[Sequence[PageMap]], heads: list[int], inputs: Arrays, blobs: Blobs) -> list[Any]:
    """What the page has of every order. `heads` are the first ones of each class."""
    return [
        {
            "name": row[0].order,
            "places": {
                "query": [_positions(row[0].mask, row[0].mask.queries, inputs, head, blobs) for head in heads],
                "key": [_positions(row[0].mask, row[0].mask.keys, inputs, head, blobs) for head in heads],
            },
            "blocks": [_block_data(layout, heads, blobs) for layout in row],
        }
        for row in layouts
    ]


def _positions(mask: MaskIR, sequence: Tokens, inputs: Arrays, head: int, blobs: Blobs) -> int | None:
    """The declared position of each laid-out place; None for the declared order."""
    order = Coordinates(mask, sequence, inputs, 0, head).permutation()
    return None if order is None else blobs.add(order)


def _block_data(layout: PageMap, heads: list[int], blobs: Blobs) -> dict[str, Any]:
    def runs(found: Runs) -> list[int]:
        return [blobs.add(array) for array in (found.row_start, found.start, found.end)]

    return {
        "size": list(layout.block),
        "maps": [{"full": runs(tiles.full), "partial": runs(tiles.partial)} for tiles in map(layout.tiles, heads)],
        "figures": [_figures_data(layout.figures.heads[head]) for head in heads],
        "total": _figures_data(layout.figures.total),
    }


def _figures_data(figures: Figures) -> dict[str, float]:
    """Without what is infinite, which JSON has not."""
    return {name: value for name, value in figures.as_dict().items() if value != float("inf")}
