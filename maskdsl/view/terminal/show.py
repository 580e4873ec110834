"""The output of `maskdsl show`: a title, maps of the head classes in each order, and a legend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from maskdsl.analysis.tiles.block_map import Array, BlockMap
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.view import units
from maskdsl.view.cells import Scale
from maskdsl.view.head_figures import Counted, by
from maskdsl.view.labels import Labels, longest_label
from maskdsl.view.palette import LEVELS, characters, has_colour, style
from maskdsl.view.terminal.map_picture import LEAST_WITH_LABELS, STRIP, Picture

if TYPE_CHECKING:
    from maskdsl.view.rank_cells import RankColours
    from maskdsl.view.terminal.rank_map import RankPicture

_WIDEST = 96
_NARROWEST = 16
"""The most and the fewest columns of a picture."""
NARROW = 38
"""The fewest columns of one of several pictures side by side, its frame included."""
FRAME = 4
_OTHER_LINES = 10
"""The lines of a screen that a picture leaves free."""
_LINES_WITHOUT_SCREEN = 32
MOST_PICTURES = 12


def room(console: Console, mask: MaskIR, pictures: int, strips: bool = False) -> tuple[int, int]:
    """The rows and columns of square cells that each of so many pictures may take in this window, beside `strips`."""
    beside = next((count for count in (3, 2) if pictures >= count and console.width // count >= NARROW), 1)
    columns = max(_NARROWEST, min((console.width + 1) // beside - 1 - FRAME, _WIDEST))
    names = longest_label(mask.queries) + 1
    if columns >= LEAST_WITH_LABELS + names:
        columns -= names
    lines = max(_NARROWEST // 2, console.height - _OTHER_LINES) if console.is_terminal else _LINES_WITHOUT_SCREEN
    strip = STRIP * strips
    return 2 * min(lines, columns // 2) - strip, columns - strip


def title(mask: MaskIR) -> Text:
    """The title of a mask: `longformer(n=4096, size=512)`, lengths and heads."""
    text = called(mask.name, mask.parameters)
    lengths = units.count(mask.queries.length) + " tokens"
    if mask.queries.spaces != mask.keys.spaces:
        lengths = f"{units.count(mask.queries.length)} queries, {units.count(mask.keys.length)} keys"
    text.append(f"  {lengths}, {head_count(mask.heads)}", style="not bold dim")
    return text


def called(name: str, parameters: Iterable[tuple[str, object]]) -> Text:
    """A name with parameters: `longformer(n=4096, size=512)`."""
    values = ", ".join(f"{each}={written(value)}" for each, value in parameters)
    return Text.assemble((name, "bold"), f"({values})")


def head_count(heads: int) -> str:
    """`1 head` or `4 heads`."""
    return f"{heads} head{'s' * (heads > 1)}"


def first_sentence(text: str) -> str:
    """The first sentence of a documentation, on one line."""
    joined = " ".join(text.split())
    return re.split(r"(?<=\.) (?=[A-Z`])", joined, maxsplit=1)[0]


def written(value: object) -> str:
    """The value of a parameter, in the language's notation."""
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


def head_classes(class_of_head: Array, heads: Iterable[int]) -> dict[int, list[int]]:
    """The heads that share a map in the first batch entry, by the first of them; `class_of_head` as in `BlockMap`."""
    classes: dict[int, list[int]] = {}
    for head in heads:
        classes.setdefault(int(class_of_head[0, head]), []).append(head)
    return {members[0]: members for members in classes.values()}


@dataclass(frozen=True)
class OrderedTiles:
    """The tiles of a mask in one order."""

    order: str
    mask: MaskIR
    tiles: BlockMap
    counted: Counted
    scale: Scale
    room: tuple[int, int]
    labels: tuple[Labels | None, Labels | None] = (None, None)
    """The labels of the queries and of the keys."""
    colours: RankColours | None = None
    """The ranks of a plan, by which cells are coloured."""

    def picture(self, head: int) -> Picture | RankPicture:
        """The map of a head."""
        picture = Picture(self.tiles, self.scale, self.room, head, *self.labels)
        if self.colours is None:
            return picture
        from maskdsl.view.terminal.rank_map import RankPicture  # start-up time

        return RankPicture(picture, self.colours)

    def words(self, head: int) -> tuple[str, ...]:
        """What is said of the map of a head: its figures, or those of the plan."""
        return self.counted.words(head) if self.colours is None else (self.colours.words(),)

    def panels(self, heads: Sequence[int]) -> list[Panel]:
        """A panel for each different map of these heads."""
        return [
            _framed(self.picture(head), heading(members, self.mask.heads, self.order), self.words(head))
            for head, members in head_classes(self.tiles.class_of_head, heads).items()
        ]


def heading(members: list[int], heads: int, order: str) -> str:
    """The heading of a map: its heads, unless they are all, and its order."""
    which = "" if len(members) == heads else f"head{'s' * (len(members) > 1)} {units.numbers(members)}"
    return ", ".join(filter(None, (which, order)))


def _framed(picture: Picture | RankPicture, heading: str, said: tuple[str, ...]) -> Panel:
    """A map in a frame, with its heading and what is said of it: in the frame, or inside it if it is too narrow."""
    below = ", ".join(said)
    narrow = cell_len(below) + 2 > picture.room[1]
    width = max(picture.width, cell_len(heading) + 2, 0 if narrow else cell_len(below) + 2) + FRAME
    return Panel(
        Group(picture, *map(Text, said)) if narrow else picture,
        title=Text(heading),
        subtitle=None if narrow else Text(below),
        box=box.SQUARE,
        border_style="dim",
        title_align="left",
        subtitle_align="left",
        expand=False,
        width=width,
    )


@dataclass(frozen=True)
class _Legend:
    """The meaning of colours and characters, the size of a cell, and that of the tiles that are counted."""

    layout: OrderedTiles

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layout = self.layout
        times = Picture(layout.tiles, layout.scale, layout.room).times
        size = cell_size(layout.scale, times, has_colour(console))
        if layout.colours is not None:
            from maskdsl.view.terminal.rank_map import rank_swatches  # start-up time

            entries = [Text.assemble(swatch, f" {name}") for swatch, name in rank_swatches(console, layout.colours)]
            yield Columns(entries, padding=(0, 3))
            pale = "pale" if has_colour(console) else "small letters"
            yield Text(f"{layout.colours.note(pale)}; {size}", style="dim")
            return
        line = Text()
        for swatch, name in self.swatches(console):
            line.append(swatch)
            line.append(f" {name}   ")
        line.rstrip()
        yield line
        tiles, mask = layout.tiles, layout.mask
        whole = (tiles.query_length, tiles.key_length) == (mask.queries.length, mask.keys.length)
        yield Text(f"{size}; {layout.counted.note(whole)}", style="dim")

    def swatches(self, console: Console) -> list[tuple[Text, str]]:
        if not has_colour(console):
            empty, *partial, full = characters(console)
            marks = [(empty, "empty"), ("".join(partial), "partial, few to most pairs"), (full, "full")]
            return [(Text(mark), name) for mark, name in marks]
        block = "\N{UPPER HALF BLOCK}"
        partial_swatch = Text.assemble(*((block, style(number, number)) for number in range(1, LEVELS + 1)))
        return [
            (Text(block * 2, style(0, 0)), "empty"),
            (partial_swatch, "partial, few to most pairs"),
            (Text(block * 2, style(LEVELS + 1, LEVELS + 1)), "full"),
        ]


def cell_size(scale: Scale, times: int = 1, coloured: bool = True) -> str:
    """The size of a cell in words. Characters without colours show two, unless cells are enlarged."""
    rows = 2 if times == 1 and not coloured else 1
    what = "each character" if rows > 1 else "each cell"
    if (rows * scale.cell[0], scale.cell[1]) == (1, 1):
        return f"{what} one pair of a query and a key"
    if scale.fitted:
        return f"{what} {by((rows * scale.cell[0], scale.cell[1]))} tokens"
    tiles = rows * scale.tiles[0], scale.tiles[1]
    return f"{what} {'one tile' if tiles == (1, 1) else f'{by(tiles)} tiles'} of {by(scale.block)} tokens"


def shown(layouts: Sequence[OrderedTiles], heads: Sequence[int]) -> RenderableType:
    """The whole output about one mask in several orders."""
    panels = [panel for layout in layouts for panel in layout.panels(heads)]
    mask = layouts[0].mask
    blocks: list[RenderableType] = [title(mask)]
    if mask.doc:
        blocks.append(Text(first_sentence(mask.doc), style="dim italic"))
    blocks.append(panels[0] if len(panels) == 1 else Columns(panels[:MOST_PICTURES], padding=(0, 1)))
    if len(panels) > MOST_PICTURES:
        more = f"{len(panels) - MOST_PICTURES} more maps are not shown; --head says which heads are"
        blocks.append(Text(more, style="yellow"))
    return Group(*blocks, _Legend(layouts[0]))
