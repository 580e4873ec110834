"""The output of `maskdsl field`: what one token reaches layer by layer, and how all tokens are connected."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich import box
from rich.color import Color
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.style import Style
from rich.table import Table
from rich.text import Text

from maskdsl.analysis.reach.arrival import Arrival, reached
from maskdsl.analysis.reach.connections import Connections
from maskdsl.analysis.reach.receptive_field import Field
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Sequence as TokenSequence
from maskdsl.view import units
from maskdsl.view.palette import DARK, characters, has_colour

_MOST_LINES = 16
"""The most lines of the table of layers."""
_MOST_STOPS = 9
"""The most tokens of a path that are named."""
_NARROWEST, _WIDEST = 8, 40
"""The characters that a strip of the sequence takes, at least and at most."""
_OTHER_COLUMNS = 26
"""The width of the number of layers and of the gaps between columns."""


def field_view(title: Text, field: Field, layers: Sequence[str], tokens: TokenSequence, width: int) -> RenderableType:
    """The whole output, `width` columns wide. `layers` are the patterns of one pass through the stack."""
    head = Text(f"from token {_position(field.token, tokens)}, ")
    head.append("exact" if field.exact else f"bounded by tiles of {field.block} tokens: full tiles, and non-empty ones")
    blocks: list[RenderableType] = [title, head, _growth_table(field, layers, width)]
    if not field.settled:
        blocks.append(Text(f"not followed beyond {field.layers} layers; --layers follows more", style="yellow"))
    blocks += [Text(f"- {line}") for line in _lines(field.connections, field.length)]
    return Group(*blocks)


def _position(token: int, tokens: TokenSequence) -> str:
    """The position and the coordinates of a token: `1,596 (image, y 28, x 28)`."""
    spaces = zip(tokens.spaces, tokens.offsets, strict=True)
    space, offset = next(each for each in reversed(list(spaces)) if each[1] <= token)
    words = [space.name] if len(tokens.spaces) > 1 else []
    if len(space.axes) > 1 or words:
        cell = np.unravel_index(token - offset, [axis.length for axis in space.axes])
        words += [f"{axis.name} {number}" for axis, number in zip(space.axes, cell, strict=True)]
    return units.count(token) + (f" ({', '.join(words)})" if words else "")


def _growth_table(field: Field, layers: Sequence[str], width: int) -> Table:
    numbers = _shown_layers(field.layers)
    names = [layers[(number - 1) % len(layers)] if number and len(layers) > 1 else "" for number in numbers]
    counts = [[_counted(each, number) for number in numbers] for each in field.directions.values()]
    taken = max(map(len, names)) + sum(max(map(len, each)) for each in counts) + _OTHER_COLUMNS
    strip = min(max(_NARROWEST, (width - taken) // 2), _WIDEST, field.length)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("layers", "", "draws from", "", "read by", ""):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for number, name, *both in zip(numbers, names, *counts, strict=True):
        cells: list[RenderableType] = [str(number), Text(name, style="dim")]
        for count, arrival in zip(both, field.directions.values(), strict=True):
            cells += [count, _Strip(arrival, number, strip)]
        table.add_row(*cells)
    return table


def _shown_layers(last: int) -> list[int]:
    """The numbers of layers to show: all if they are few, otherwise some, at growing distances."""
    if last < _MOST_LINES:
        return list(range(last + 1))
    spread = np.geomspace(1, last, _MOST_LINES - 1).round().astype(int).tolist()
    return sorted({0, *range(1, 5), *spread})


def _counted(arrival: Arrival, layers: int) -> str:
    least, most = arrival.count(layers)
    share = units.percent(most / len(arrival.earliest))
    return f"{units.count(most)}  {share}" if least == most else f"{units.count(least)} to {units.count(most)}"


@dataclass(frozen=True, eq=False)
class _Strip:
    """The sequence from first to last token, shaded by the share of tokens that may be reached."""

    arrival: Arrival
    layers: int
    width: int

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shades = characters(console)
        tokens = reached(self.arrival.earliest, self.layers)
        starts = np.arange(self.width) * len(tokens) // self.width
        sizes = np.diff([*starts, len(tokens)])
        shares = np.add.reduceat(tokens, starts, dtype=np.int64) / sizes
        levels = np.where(shares == 1, len(shades) - 1, np.ceil(shares * (len(shades) - 2)).astype(int))
        style = Style(color=Color.from_rgb(*DARK.full)) if has_colour(console) else Style()
        yield Text("".join(shades[level] for level in levels.tolist()), style=style, no_wrap=True)


def _lines(connections: Connections, length: int) -> Iterator[str]:
    """Sentences about the connections between all tokens."""
    if connections.block > 1:
        yield f"all tokens, by bounds from tiles of {connections.block} tokens:"
    yield _farness(connections)
    total = length * (length - 1) // 2
    least = "" if connections.one_way is not None else "at least "
    one_way = "" if connections.one_way is None else f", {units.count(connections.one_way)} one way only"
    both = f"{least}{units.count(connections.both_ways)} draw from each other"
    never = units.count(connections.never)
    yield f"of {units.count(total)} pairs, {both}{one_way}, and {least}{never} never communicate"
    components = connections.components
    least = "" if connections.exact_components else "at least "
    yield f"strongly connected: {least}{_component_count(components.strong, components.largest_strong)}"
    yield f"weakly connected: {least}{_component_count(components.weak, components.largest_weak)}"
    if len(connections.path) > 1:
        stops = [units.count(token) for token in connections.path]
        if len(stops) > _MOST_STOPS:
            stops = [*stops[: _MOST_STOPS // 2], "...", *stops[-(_MOST_STOPS // 2) :]]
        yield f"a longest shortest path, from reader to source: {' <- '.join(stops)}"


def _farness(connections: Connections) -> str:
    layers = "" if connections.layers is None else f"{connections.layers} layer{'s' * (connections.layers != 1)}"
    match connections.everything:
        case True if connections.layers == connections.most_layers:
            return f"everything reaches everything after {layers}"
        case True:
            return f"everything reaches everything after {connections.layers} to {connections.most_layers} layers"
        case None:
            return f"everything reaches everything after {layers} or more, or never"
        case _ if connections.block > 1:
            return "everything never reaches everything"
        case _:
            return f"everything never reaches everything; nothing is added after {layers}"


def _component_count(count: int, largest: int) -> str:
    if count == 1:
        return "1 component"
    return f"{units.count(count)} components, the largest of {units.count(largest)} token{'s' * (largest != 1)}"
