"""Draws maps of tiles or of single pairs as a scene: a panel for each order and each head class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Sequence as Tokens
from maskdsl.ir.mask import MaskIR
from maskdsl.view import units
from maskdsl.view.cells import Scale, count_cells, fit
from maskdsl.view.head_figures import Counted
from maskdsl.view.image.figure import Key, Panel, Title, compose
from maskdsl.view.image.scene import Anchor, Grid, Label, Outline, Scene, Shape
from maskdsl.view.palette import LIGHT, RANK_COLOURS, colour_numbers
from maskdsl.view.terminal.show import cell_size, head_classes, heading

if TYPE_CHECKING:
    from maskdsl.view.rank_cells import RankCells, RankColours

_SIDES = {1: 480, 2: 340, 3: 280, 4: 340}
"""The points of a map's longer side, by the number of panels."""
_SMALL_SIDE = 220
"""The points of a map's longer side, for more panels."""
_FINEST = 2
"""The points of a cell, if the tile size is free."""
_LEFT, _TOP = 52, 26
"""The points for the labels of queries and keys beside a map."""
_LEAST_STEP, _MOST_STEP, _SPREAD = 12, 48, 240
"""The points from one card of a stack to the next, to the right and upward, and from the first to the last."""
_STRIP, _GAP = 8, 4
"""The points of a strip that says who holds tokens, and those between it and the map."""
_TICK = 3
_MOST_PANELS = 12
_MOST_CARDS = 16


@dataclass(frozen=True, eq=False)
class Drawn:
    """The tiles of a mask in one order, and the figures of each head, and its density in words."""

    order: str
    mask: MaskIR
    tiles: BlockMap
    counted: Counted
    density: tuple[tuple[str, ...], ...]
    """Lines of each head."""
    colours: RankColours | None = None
    """The ranks of a plan, by which cells are coloured."""


def _side_for(panels: int) -> int:
    """The points of the longer side of each of so many maps."""
    return _SIDES.get(panels, _SMALL_SIDE)


def scale_for(lengths: tuple[int, int], panels: int, block: tuple[int, int] | None) -> Scale:
    """The sizes of tiles and cells for so many maps; `block` is the tile size if the user gave one."""
    room = _side_for(panels) // _FINEST
    return fit(lengths, (room, room), block)


def map_scene(
    head: Title, drawn: Sequence[Drawn], scale: Scale, heads: Sequence[int], stacked: bool, notes: Sequence[str]
) -> Scene:
    """The scene of all maps. If `stacked`, the heads of each order are cards, with the first one in front."""
    groups = [
        (each, members) for each in drawn for members in ([list(heads)] if stacked else _classes_of(each.tiles, heads))
    ]
    left_out = len(groups) - _MOST_PANELS
    shown = groups[:_MOST_PANELS]
    side = _side_for(len(shown))
    panels = [_map_panel(each, scale, members, side, stacked) for each, members in shown]
    columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    more = [f"{left_out} more maps are not shown; --head says which heads are"] if left_out > 0 else []
    return compose(head, panels, columns, _legend(drawn[0], scale), [*_notes(drawn[0], scale), *notes, *more])


def _notes(drawn: Drawn, scale: Scale) -> Iterator[str]:
    if drawn.colours is not None:
        yield drawn.colours.note()
    yield f"{cell_size(scale)}; {drawn.counted.note()}"


def _classes_of(tiles: BlockMap, heads: Sequence[int]) -> list[list[int]]:
    return list(head_classes(tiles.class_of_head, heads).values())


def _legend(drawn: Drawn, scale: Scale) -> list[Key]:
    if drawn.colours is not None:
        shades, names = LIGHT.rank_shades, drawn.colours.names()
        keys = [Key((shades[at], shades[at + RANK_COLOURS]), name) for at, name in enumerate(names, 1)]
        return [*keys, Key((LIGHT.several,), "several ranks")]
    colours = LIGHT.shades
    if scale.block == (1, 1) and scale.tiles == (1, 1):
        return [Key(colours[:1], "does not attend"), Key(colours[-1:], "attends")]
    partial = Key(colours[1:-1], "partial, few to most pairs")
    return [Key(colours[:1], "empty"), partial, Key(colours[-1:], "full")]


def _map_panel(drawn: Drawn, scale: Scale, members: list[int], side: int, stacked: bool) -> Panel:
    """One map, or one stack of cards, with labels on both sides."""
    cards = members[:_MOST_CARDS] if stacked else members[:1]
    cells = [count_cells(drawn.tiles.tile_map(head), drawn.tiles.key_blocks, scale.tiles) for head in cards]
    rows, columns = cells[0].full.shape
    cell = max(1, side // max(rows, columns, 1))
    step = max(_LEAST_STEP, min(_MOST_STEP, _SPREAD // max(1, len(cards) - 1)))
    lift = step * (len(cards) - 1)
    ranks: list[RankCells] = []
    numbers, shades = [colour_numbers(each) for each in cells], LIGHT.shades
    if drawn.colours is not None:
        ranks = [drawn.colours.of_cells(each, scale, head) for each, head in zip(cells, cards, strict=True)]
        numbers, shades = [each.cells for each in ranks], LIGHT.rank_shades
    grids = [
        Grid(_LEFT + step * number, _TOP + lift - step * number, cell, each, shades)
        for number, each in enumerate(numbers)
    ]
    shapes: list[Shape] = []
    for grid in reversed(grids):
        shapes += [Outline(grid.x - 1, grid.y - 1, grid.width + 2, grid.height + 2), grid]
    strips = [*_strips(ranks[0], grids[0])] if ranks and not stacked else []
    shapes += strips
    shapes += _query_names(drawn.mask.queries, scale.cell[0], grids[0])
    shapes += _key_names(drawn.mask.keys, scale.cell[1], grids[-1])
    caption = (
        [*_density_line(drawn, cards)] if stacked else [*drawn.density[members[0]], *_counts_line(drawn, members[0])]
    )
    if stacked:
        caption.append(
            f"heads {cards[0]} (in front) to {cards[-1]}, of {len(members)}" if len(cards) > 1 else f"head {cards[0]}"
        )
    if drawn.colours is not None:
        caption.append(drawn.colours.words())
    strip = _GAP + strips[0].width if strips else 0
    return Panel(
        heading=drawn.order if stacked else heading(members, drawn.mask.heads, drawn.order),
        caption=tuple(caption),
        width=_LEFT + grids[0].width + lift + strip,
        height=_TOP + grids[0].height + lift + strip,
        shapes=tuple(shapes),
    )


def _strips(ranks: RankCells, grid: Grid) -> Iterator[Grid]:
    """Who holds the queries, at the right of a map, and the keys, below it."""
    thick = max(1, _STRIP // grid.cell)
    queries, keys = (np.repeat(each[None], thick, axis=0) for each in (ranks.queries, ranks.keys))
    yield Grid(grid.x + grid.width + _GAP, grid.y, grid.cell, queries.T, grid.colours)
    yield Grid(grid.x, grid.y + grid.height + _GAP, grid.cell, keys, grid.colours)


def _density_line(drawn: Drawn, cards: Sequence[int]) -> Iterator[str]:
    different = list(dict.fromkeys(drawn.density[head] for head in cards))
    before = "" if len(different) == 1 else f"head {cards[0]}: "
    yield from (before + line for line in different[0])


def _counts_line(drawn: Drawn, head: int) -> Iterator[str]:
    """The counts of tiles in words, and of pairs if these are drawn."""
    if drawn.tiles.block == (1, 1):
        yield f"{units.count(drawn.tiles.full_count(head))} pairs attend"
    yield from drawn.counted.words(head)[:1]


def _query_names(tokens: Tokens, size: int, grid: Grid) -> Iterator[Label | Outline]:
    """The labels of queries, left of a map with cells of `size` tokens."""
    yield Label(12, grid.y + grid.height // 2, "queries", 9, Anchor.MIDDLE, upward=True, colour=LIGHT.quiet)
    for tick, y, name in _placed(tokens, grid.cell / size, lambda _: 10):
        yield Outline(grid.x - _TICK, grid.y + tick, _TICK, 1)
        yield Label(grid.x - _TICK - 2, grid.y + y + 3 + 3 * (y == 0), name, 8, Anchor.END)


def _key_names(tokens: Tokens, size: int, grid: Grid) -> Iterator[Label | Outline]:
    """The labels of keys, above a map with cells of `size` tokens."""
    yield Label(grid.x + grid.width // 2, grid.y - 15, "keys", 9, Anchor.MIDDLE, colour=LIGHT.quiet)
    for tick, x, name in _placed(tokens, grid.cell / size, lambda name: 5 * len(name) + 4):
        yield Outline(grid.x + tick, grid.y - _TICK, 1, _TICK)
        yield Label(grid.x + x, grid.y - _TICK - 2, name, 8)


def _placed(tokens: Tokens, points: float, room: Callable[[str], int]) -> Iterator[tuple[int, int, str]]:
    """Ticks and labels, of `points` for each token. A label without room for its name is left out.

    The name of a space without room where the space begins moves on, as far as the space goes.
    """
    free = 0
    for (position, name), (end, _) in pairwise([*_marks(tokens), (tokens.length, "")]):
        tick = int(position * points)
        at = max(tick, free) if len(tokens.spaces) > 1 else tick
        if free <= at < max(tick + 1, int(end * points)):
            yield tick, at, name
            free = at + room(name)


def _marks(tokens: Tokens) -> list[tuple[int, str]]:
    """Positions with their labels: the begins of spaces, or about five numbers."""
    if len(tokens.spaces) > 1:
        names = (space.name for space in tokens.spaces)
        return list(zip(tokens.offsets, names, strict=True))
    step = max(1, tokens.length // 4)
    if step & (step - 1) and tokens.length % 4:
        power = 10 ** (len(str(step)) - 1)
        step = next(factor * power for factor in (5, 2, 1) if factor * power <= step)
    return [(position, units.count(position)) for position in range(0, tokens.length, step)]
