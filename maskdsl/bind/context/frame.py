"""Where an expression stands: what is declared around it, what its names mean, and what is known about its tokens."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import chain

from maskdsl.base.diagnostics import Caution, Diagnostic, Note
from maskdsl.bind.context.bound_values import Bad, Value
from maskdsl.bind.context.report import MOST_NOTES, Report
from maskdsl.ir.expressions import Expression, Side
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import Along, CoordinateDefinition, Input, Sequence, Shuffled, Space
from maskdsl.ir.routes import Product, Routed
from maskdsl.syntax.program import Program


class StatementKind(Enum):
    """What kind of statement an expression belongs to, which decides what it may read."""

    CONSTANT = auto()  # lengths, defaults, conditions of asserts: no token at all
    TOKEN = auto()  # coordinates and orders: one token
    PAIR = auto()  # relations and weights: a query and a key
    SCORE = auto()  # the same, with `s`
    ROUTE = auto()  # the score of a route: a group of queries and a group of keys
    HEAD = auto()  # what a head may choose: no token, but the head


PAIRS = frozenset({StatementKind.PAIR, StatementKind.SCORE, StatementKind.ROUTE})
"""Where there are a query and a key."""


@dataclass(frozen=True)
class TableRoute:
    """A route's table, read by the numbers of the query's and the key's group."""

    table: str
    query: str | Expression
    """The coordinate that is the number, or an expression over the pair."""
    key: str | Expression


@dataclass(frozen=True)
class EqualRoute:
    """The same value of a coordinate."""

    coordinate: str


@dataclass(frozen=True)
class BitRoute:
    """A bit in common, in one of these coordinates."""

    coordinates: tuple[str, ...]


RouteValue = TableRoute | EqualRoute | BitRoute


@dataclass(frozen=True)
class SideWorld:
    """The queries or the keys as far as they are known, with the static ranges of computed coordinates."""

    sequence: Sequence
    ranges: Mapping[tuple[str, str], Range] = field(default_factory=dict)
    """By name of the coordinate and of the space."""

    def coordinate_names(self) -> list[str]:
        axes = [axis.name for space in self.sequence.spaces for axis in space.axes]
        return list(dict.fromkeys(["i", *axes, *(each.name for each in self.sequence.coordinates)]))

    def with_coordinate(self, definition: CoordinateDefinition, ranges: Mapping[tuple[str, str], Range]) -> "SideWorld":
        """This with a coordinate added, or with another space's source of one that is there."""
        before = self.sequence.definition(definition.name)
        if before is None:
            coordinates = (*self.sequence.coordinates, definition)
        else:
            whole = replace(before, sources=(*before.sources, *definition.sources))
            coordinates = tuple(whole if each is before else each for each in self.sequence.coordinates)
        return SideWorld(replace(self.sequence, coordinates=coordinates), {**self.ranges, **ranges})


@dataclass(frozen=True)
class Declared:
    """All that a pattern has declared so far."""

    program: Program
    heads: Heads
    queries: SideWorld
    keys: SideWorld
    self_attention: bool = True
    inputs: tuple[Input, ...] = ()
    bad_names: frozenset[str] = frozenset()
    """Spaces, inputs, coordinates and routes whose declarations were wrong: nothing more is said about them."""
    hidden: dict[str, Along | Shuffled] = field(default_factory=dict)
    """Curves and shuffles found in expressions, for both sides; filled while these are elaborated."""
    products: dict[str, Product] = field(default_factory=dict)
    """Dot products found in the scores of routes; filled likewise."""
    routes: Mapping[str, RouteValue] = field(default_factory=dict)
    """What the names of routes mean in relations."""
    routed: tuple[Routed, ...] = ()

    def side(self, side: Side) -> SideWorld:
        return self.keys if side is Side.KEY else self.queries

    def spaces(self) -> Iterator[Space]:
        """Every space once, those of the queries first."""
        seen = dict.fromkeys([*self.queries.sequence.spaces, *self.keys.sequence.spaces])
        yield from seen

    def sources(self) -> Iterator[Space]:
        """Spaces that keys are pooled from, whether or not they stand in a sequence."""
        return (each for space in self.keys.sequence.spaces for each in space.chain[:-1])

    def input(self, name: str) -> Input | None:
        return next((each for each in self.inputs if each.name == name), None)


Pair = tuple[str, str]


@dataclass(frozen=True)
class Frame:
    world: Declared
    report: Report
    statement: StatementKind
    names: Mapping[str, Value]
    """Parameters, `let`s and helper integers."""
    pairs: frozenset[Pair] = frozenset()
    """Which pairs of spaces the query and the key may be in; for one token both are its space."""
    token_side: Side = Side.QUERY
    """Whose sequence the one token belongs to."""
    bare_coordinates: bool = False
    """Whether a bare name may be a coordinate: in the text of `coord` and `order` itself, not in macros."""
    calls: tuple[Note, ...] = ()
    """The macro calls around, outermost first."""
    macros: tuple[str, ...] = ()
    """The names of the macros being expanded."""

    def spaces(self, side: Side) -> list[Space]:
        """The spaces that the token of a side may be in, in their order."""
        names = {pair[1] if side is Side.KEY else pair[0] for pair in self.pairs}
        return [space for space in self.sequence(side).spaces if space.name in names]

    def side(self, side: Side) -> SideWorld:
        return self.world.side(self.token_side if side is Side.TOKEN else side)

    def sequence(self, side: Side) -> Sequence:
        return self.side(side).sequence

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whose coordinates can be read here."""
        match self.statement:
            case StatementKind.CONSTANT | StatementKind.HEAD:
                return ()
            case StatementKind.TOKEN:
                return (Side.TOKEN,)
            case StatementKind.PAIR | StatementKind.SCORE | StatementKind.ROUTE:
                return (Side.QUERY, Side.KEY)

    def where(self, pairs: Iterable[Pair]) -> "Frame":
        return replace(self, pairs=frozenset(pairs))

    def naming(self, /, **names: Value) -> "Frame":
        return replace(self, names={**self.names, **names})

    def add(self, diagnostic: Diagnostic) -> Bad:
        return self.report.add(diagnostic, self.calls)

    def warn(self, caution: Caution) -> None:
        """A warning at its place; in the standard library, at the call that led there."""
        calls = list(reversed(self.calls))
        standard = self.world.program.standard.span.source
        while calls and caution.span is not None and caution.span.source is standard:
            caution = caution.at(calls.pop(0).span)
        self.report.warn(caution.with_notes(*calls[:MOST_NOTES]))

    def nearest(self, name: str, *known: Iterable[str]) -> str | None:
        """The known name most like one that is unknown; none, once there were many of those."""
        return self.report.nearest(name, chain(*known))
