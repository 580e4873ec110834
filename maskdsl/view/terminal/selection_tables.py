"""Tables of what routes selected, and sentences about what they may select."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from maskdsl.analysis.causal.causality import Causality
from maskdsl.analysis.counts.guarantees import Guarantee, HeadBounds, RouteBounds
from maskdsl.analysis.counts.selected_pairs import Selection
from maskdsl.view import units

_BARS = "\N{LOWER ONE EIGHTH BLOCK}\N{LOWER ONE QUARTER BLOCK}\N{LOWER THREE EIGHTHS BLOCK}\N{LOWER HALF BLOCK}"
_BARS += "\N{LOWER FIVE EIGHTHS BLOCK}\N{LOWER THREE QUARTERS BLOCK}\N{LOWER SEVEN EIGHTHS BLOCK}\N{FULL BLOCK}"
_ASCII_BARS = ".:-=+*#@"
"""Bars by height in ASCII; a space stands for no load."""
_WIDE = 100
"""The fewest columns of a window in which profiles are drawn in full."""
_SHORT, _SHORTEST = 16, 8
"""The most characters of a profile in smaller windows, and in narrow ones."""
_NARROW = 72
"""The fewest columns of a window in which the whole table is shown."""
_COLUMN = 9
"""The width of a column of the matrix."""
_MOST_HEADS = 16
"""The most lines of a table."""
_MATRIX = range(3, 9)
"""The numbers of heads for which the overlap of every two heads is shown."""


class SelectionView:
    """One route: how many groups were selected, the density and the load of keys of each head, and their overlap."""

    def __init__(self, selection: Selection, densities: Sequence[float], heads: Sequence[int]) -> None:
        self.selection = selection
        self.densities = densities
        self.heads = heads

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble((self.selection.name, "bold"), f": {self.chosen()}")
        yield Text("How many query groups selected a key group:", style="dim")
        yield self.table(_ASCII_BARS if options.ascii_only else _BARS, options.max_width)
        if len(self.heads) > _MOST_HEADS:
            more = f"{len(self.heads) - _MOST_HEADS} more heads are not shown; --head says which are"
            yield Text(more, style="yellow")
        if self.selection.mean_overlap is not None:
            mean = units.percent(self.selection.mean_overlap)
            yield Text(f"of the pairs that one of two heads selected, {mean} are selected by both, on average")
        if len(self.heads) in _MATRIX and (len(self.heads) + 1) * _COLUMN - 1 <= options.max_width:
            yield self.matrix()

    def chosen(self) -> str:
        """A sentence about how many groups the shown heads selected."""
        selection = self.selection
        counts = [selection.heads[head].chosen for head in self.heads]
        least, most = min(each.least for each in counts), max(each.most for each in counts)
        who = f"each of {units.count(selection.query_groups)} query groups"
        if selection.query_groups == 1:
            who = "the only query group"
        number = between(units.count(least), units.count(most))
        mean = f", on average {units.digits(sum(each.mean for each in counts) / len(counts))}" if least < most else ""
        return f"{who} selected {number} of {units.count(selection.key_groups)} key groups{mean}"

    def table(self, bars: str, width: int) -> Table:
        """A line for each head; fewer columns in narrow windows."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        names = ("head", "density", "least", "mean", "most", "variation")
        shown = [name for name in names if width >= _NARROW or name not in ("least", "most")]
        for name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("by key group", no_wrap=True)
        for head in self.heads[:_MOST_HEADS]:
            selected = self.selection.heads[head]
            load = selected.load
            loads = units.count(load.least), units.digits(load.mean), units.count(load.most)
            cells = str(head), units.percent(self.densities[head]), *loads, f"{load.variation:.2f}"
            profile = selected.profile
            values = _shortened(profile, len(profile) if width >= _WIDE else _SHORT if width >= _NARROW else _SHORTEST)
            row = [cell for name, cell in zip(names, cells, strict=True) if name in shown]
            table.add_row(*row, _sparkline(values, bars))
        return table

    def matrix(self) -> Table:
        """The overlap of every two heads."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for head in self.heads:
            table.add_column(f"head {head}", justify="right", no_wrap=True)
        for head in self.heads:
            row = [units.percent(self.selection.overlap[head][other]) for other in self.heads]
            table.add_row(f"head {head}", *row)
        return table


def _shortened(profile: Sequence[float], most: int) -> Sequence[float]:
    """The profile with neighbours averaged until it has at most so many values."""
    while len(profile) > most:
        pairs = [profile[start : start + 2] for start in range(0, len(profile), 2)]
        profile = [sum(pair) / len(pair) for pair in pairs]
    return profile


def _sparkline(values: Sequence[float], bars: str) -> str:
    """Bars whose height is relative to the largest value; a space stands for 0."""
    most = max(values)
    if not most:
        return " " * len(values)
    return "".join(" " if not value else bars[min(int(value / most * len(bars)), len(bars) - 1)] for value in values)


def guarantee_lines(guarantee: Guarantee) -> Iterator[str]:
    """A sentence for each route, and what holds for every selection."""
    for route in guarantee.routes:
        yield _route_line(route)
    classes: dict[HeadBounds, list[int]] = {}
    for head, bounds in enumerate(guarantee.heads):
        classes.setdefault(bounds, []).append(head)
    for bounds, heads in classes.items():
        which = f" in head{'s' * (len(heads) > 1)} {units.numbers(heads)}" if len(classes) > 1 else ""
        keys = between(units.count(bounds.least_keys), units.count(bounds.most_keys))
        density = between(units.percent(bounds.least_density), units.percent(bounds.most_density))
        yield f"whatever is selected in finite scores{which}: {keys} keys a query, density {density}"
    yield from (": ".join(causality_row(each)) for each in guarantee.causality)


def _route_line(route: RouteBounds) -> str:
    """`past: each of 8,192 query groups selects 0 to 2 of 16 key groups, of which 15 are candidates at most`."""
    number = between(units.count(route.least), units.count(route.most))
    who = f"each of {units.count(route.query_groups)} query groups selects"
    if route.query_groups == 1:
        who = "all queries together select"
    line = f"`{route.name}`: {who} {number} of {units.count(route.key_groups)} key groups"
    if route.candidates < route.key_groups:
        line += f", of which {units.count(route.candidates)} are candidates at most"
    return line


def causality_row(causality: Causality) -> tuple[str, str]:
    """Whether a route or a pattern is causal, in a word, and a sentence why."""
    if causality.holds:
        what = "get of" if causality.whole else "select by"
        return "causal", f"no later token changes what earlier queries {what} `{causality.name}`"
    return "not causal" if causality.certain else "perhaps not causal", causality.reason


def between(low: str, high: str) -> str:
    """`low to high`, or one of them if they are equal."""
    return low if low == high else f"{low} to {high}"
