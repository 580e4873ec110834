"""Draws what one query attends on the grid of its keys: an image, or the frames of a video."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, prod, sqrt

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Space
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.evaluate import allowed
from maskdsl.view import units
from maskdsl.view.image.figure import Key, Panel, compose, mask_title
from maskdsl.view.image.scene import Anchor, Grid, Label, Outline, Scene, Shape
from maskdsl.view.palette import LIGHT

_SIDE, _FRAMES_SIDE = 420, 720
"""The points of the longer side of one frame, and of many frames together."""
_SMALLEST_MARK = 6
"""The fewest points of the query's mark."""
_LARGEST_CELL = 16
_RULED = 8
"""The fewest points of a cell for which lines are drawn between cells."""
_GAP = 10
_NAME = 12
"""The points between a frame and the one above, for its name."""
_LINE_LENGTH = 144
"""The tokens of a line, if a space has no grid."""
_NUMBER, _NUMBERS = 10, 34
"""The height of the number of a line, and the room left of lines for numbers."""
_NARROWEST = 180
"""The least points of a panel, for its words."""
_MOST_PANELS = 12
_COLOURS = (LIGHT.empty, LIGHT.full, LIGHT.card)
"""Keys not attended, attended ones, and what is behind the last."""


@dataclass(frozen=True)
class Query:
    """A query: its space, its cell and its position."""

    space: Space
    on_axes: tuple[int, ...]
    position: int
    """The declared position in the whole sequence."""

    @staticmethod
    def at(mask: MaskIR, position: int) -> "Query":
        spaces = zip(mask.queries.spaces, mask.queries.offsets, strict=True)
        space, offset = next(each for each in reversed(list(spaces)) if each[1] <= position)
        return Query(space, tuple(map(int, np.unravel_index(position - offset, space.lengths))), position)

    @property
    def words(self) -> str:
        return ", ".join(f"{axis.name} = {at}" for axis, at in zip(self.space.axes, self.on_axes, strict=True))


def around_scene(
    mask: MaskIR, query: Query, heads: Sequence[int], inputs: Mapping[str, Array], notes: Sequence[str]
) -> Scene:
    """For each different head its spaces of keys, one below the other."""
    rows: dict[bytes, list[int]] = {}
    for head in heads:
        attends = _attended(mask, query, head, inputs)
        rows.setdefault(np.packbits(attends).tobytes(), []).append(head)
    shown = list(rows.values())[: max(1, _MOST_PANELS // len(mask.keys.spaces))]
    heads_apart = [
        list(_head_panels(mask, query, members, _attended(mask, query, members[0], inputs))) for members in shown
    ]
    columns = {1: 1, 2: 2, 4: 2}.get(len(shown), 3)
    panels = [
        panel
        for start in range(0, len(shown), columns)
        for row in zip(*heads_apart[start : start + columns], strict=True)
        for panel in row
    ]
    if len(mask.keys.spaces) > 1 and len(shown) % columns:
        columns, panels = 1, [panel for each in heads_apart for panel in each]
    if len(shown) < len(rows):
        notes = [*notes, f"{len(rows) - len(shown)} more heads differ; --head says which are shown"]
    legend = [Key((LIGHT.empty,), "not attended"), Key((LIGHT.full,), "attended"), Key((LIGHT.mark,), "the query")]
    if not _same_tokens(mask, query):
        legend.pop()
    return compose(mask_title(mask), panels, columns, legend, notes)


def _attended(mask: MaskIR, query: Query, head: int, inputs: Mapping[str, Array]) -> Array:
    """Which keys the query attends, bool [keys] in declared order."""
    return allowed(mask, np.asarray(query.position), np.arange(mask.keys.length), head, 0, inputs)


def _same_tokens(mask: MaskIR, query: Query) -> bool:
    """Whether the query is also one of the keys."""
    return query.space in mask.keys.spaces


def _head_panels(mask: MaskIR, query: Query, members: list[int], attends: Array) -> Iterator[Panel]:
    which = "" if len(members) == mask.heads else f"head{'s' * (len(members) > 1)} {units.numbers(members)}: "
    for space, offset in zip(mask.keys.spaces, mask.keys.offsets, strict=True):
        of_space = attends[offset : offset + space.size]
        cell = query.on_axes if space == query.space else None
        shapes, width, height = _drawn(space, of_space, cell)
        count = f"{units.count(int(of_space.sum()))} of {units.count(space.size)} keys"
        which_space = f" of {space.name}" if len(mask.keys.spaces) > 1 else ""
        yield Panel(
            f"{which}query {query.words}",
            (f"attends {count}{which_space}",),
            max(width, _NARROWEST),
            height,
            tuple(shapes),
        )


def _drawn(space: Space, attends: Array, query: tuple[int, ...] | None) -> tuple[list[Shape], int, int]:
    """The shapes of the frames of one space, and the width and height of all of them."""
    if len(space.axes) == 1:
        return _lines(space, attends, query)
    frames = _frames_of(space, attends)
    columns = ceil(sqrt(len(frames))) if len(frames) > 3 else len(frames)
    rows, width = frames[0][1].shape
    side = _SIDE if len(frames) == 1 else _FRAMES_SIDE
    cell = max(1, min(_LARGEST_CELL, side // max(width * columns, rows * ceil(len(frames) / columns))))
    named = _NAME if len(frames) > 1 else 0
    step = width * cell + _GAP, rows * cell + _GAP + named
    shapes: list[Shape] = []
    for number, (leading, frame) in enumerate(frames):
        x, y = number % columns * step[0], number // columns * step[1] + named
        grid = Grid(x, y, cell, frame, _COLOURS)
        shapes += [grid, *(_ruled(grid) if cell >= _RULED else ()), Outline(x, y, grid.width, grid.height)]
        if named:
            axes = zip(space.axes, leading, strict=False)
            shapes.append(Label(x, y - 3, ", ".join(f"{axis.name} = {at}" for axis, at in axes), 8, colour=LIGHT.quiet))
        if query is not None and query[: len(leading)] == leading:
            shapes += _marked(grid, query[-2], query[-1])
    lines = ceil(len(frames) / columns)
    return shapes, columns * step[0] - _GAP, lines * step[1] - _GAP


def _lines(space: Space, attends: Array, query: tuple[int, ...] | None) -> tuple[list[Shape], int, int]:
    """The shapes of a space without a grid: lines of tokens, each behind the position of its first one."""
    width = min(_LINE_LENGTH, space.size)
    padded = np.full(-(-space.size // width) * width, 2)
    padded[: space.size] = attends
    grid = Grid(_NUMBERS, 0, min(_LARGEST_CELL, _FRAMES_SIDE // width), padded.reshape(-1, width), _COLOURS)
    apart = -(-_NUMBER // grid.cell)
    shapes: list[Shape] = [grid, *(_ruled(grid) if grid.cell >= _RULED else ())]
    for line in range(0, len(grid.numbers), apart):
        y = (line + 1) * grid.cell - max(0, grid.cell - 8) // 2
        shapes.append(Label(_NUMBERS - 4, y, units.count(line * width), 8, Anchor.END, colour=LIGHT.quiet))
    if query is not None:
        shapes += _marked(grid, *divmod(query[0], width))
    return shapes, _NUMBERS + grid.width, grid.height


def _frames_of(space: Space, attends: Array) -> list[tuple[tuple[int, ...], Array]]:
    """The colour numbers [rows, columns] of each frame, and its index along the axes before the last two."""
    *leading, height, width = space.lengths
    grids = attends.astype(np.int64).reshape(prod(leading), height, width)
    return [(tuple(map(int, index)), grid) for index, grid in zip(np.ndindex(*leading), grids, strict=True)]


def _ruled(grid: Grid) -> Iterator[Outline]:
    """Thin white lines between cells."""
    for x in range(grid.cell, grid.width, grid.cell):
        yield Outline(grid.x + x, grid.y, 1, grid.height, LIGHT.card)
    for y in range(grid.cell, grid.height, grid.cell):
        yield Outline(grid.x, grid.y + y, grid.width, 1, LIGHT.card)


def _marked(grid: Grid, row: int, column: int) -> Iterator[Shape]:
    """The border of the query's cell, or of a box around it if the cell is small."""
    side = max(grid.cell, _SMALLEST_MARK)
    x, y = (start + (2 * index + 1) * grid.cell // 2 - side // 2 for start, index in ((grid.x, column), (grid.y, row)))
    yield Outline(x, y, side, side, LIGHT.mark, max(1.0, side / 3))
