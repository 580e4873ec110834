"""The context of an expression: the declarations around it, the values of names, and what is known of its tokens."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from enum import Enum, auto
from itertools import chain

from maskdsl.base.diagnostics import Caution, Diagnostic, Note
from maskdsl.base.records import dataclass
from maskdsl.bind.context.bound_values import Bad, Value
from maskdsl.bind.context.report import MOST_NOTES, Report
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.declared.sequences import Along, CoordinateDefinition, Sequence, Shuffled, Space
from maskdsl.ir.expressions import Expression, Side
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.heads import Heads
from maskdsl.ir.routes import Routed
from maskdsl.ir.values.group_scores import GroupScores, Product
from maskdsl.ir.values.token_vectors import PairProduct, VectorProduct
from maskdsl.syntax.program import Program


class StatementKind(Enum):
    """The kind of statement that an expression belongs to; it decides what the expression may read."""

    CONSTANT = auto()  # lengths, defaults, conditions of asserts: no token at all
    TOKEN = auto()  # coordinates and orders: one token
    PAIR = auto()  # relations: a query and a key
    VALUE = auto()  # weights and scales: a query and a key
    SCORE = auto()  # scores: a query, a key, and the score `s`
    VECTOR = auto()  # values: a query, a key, and the value `v` of the key
    ROUTE = auto()  # the score of a route: a group of queries and a group of keys
    HEAD = auto()  # counts and thresholds of selectors: the head, no token


PAIRS = frozenset(
    {StatementKind.PAIR, StatementKind.VALUE, StatementKind.VECTOR, StatementKind.SCORE, StatementKind.ROUTE}
)
"""The kinds of statements that have a query and a key."""


@dataclass(frozen=True)
class TableRoute:
    """A route as a table, read by the group numbers of the query and of the key."""

    table: str
    query: str | Expression
    """The coordinate that is the group number, or an expression over the pair."""
    key: str | Expression
    heads: tuple[Expression, ...]
    """What its dimension of heads is read by; empty for a table without one."""


@dataclass(frozen=True)
class EqualRoute:
    """A route as a coordinate that is equal for the query and the key."""

    coordinate: str


@dataclass(frozen=True)
class BitRoute:
    """A route as coordinates, in one of which the query and the key share a bit."""

    coordinates: tuple[str, ...]


@dataclass(frozen=True)
class ListRoute:
    """A route as a sparse table, read by the group numbers of the query and of the key."""

    table: str
    query: str
    key: str
    by_head: bool
    """Whether the heads have lists of their own."""


RouteValue = TableRoute | EqualRoute | BitRoute | ListRoute


@dataclass(frozen=True)
class SideDeclared:
    """The queries or the keys as declared so far, with the static ranges of computed coordinates."""

    sequence: Sequence
    ranges: Mapping[tuple[str, str], Range] = field(default_factory=dict)
    """Ranges by the names of the coordinate and of the space."""

    def coordinate_names(self) -> list[str]:
        axes = [axis.name for space in self.sequence.spaces for axis in space.axes]
        return list(dict.fromkeys(["i", *axes, *(each.name for each in self.sequence.coordinates)]))

    def with_coordinate(
        self, definition: CoordinateDefinition, ranges: Mapping[tuple[str, str], Range]
    ) -> "SideDeclared":
        """A copy with a coordinate added, or with the source of another space for a known coordinate."""
        before = self.sequence.definition(definition.name)
        if before is None:
            coordinates = (*self.sequence.coordinates, definition)
        else:
            whole = replace(before, sources=(*before.sources, *definition.sources))
            coordinates = tuple(whole if each is before else each for each in self.sequence.coordinates)
        return SideDeclared(replace(self.sequence, coordinates=coordinates), {**self.ranges, **ranges})


@dataclass(frozen=True)
class Declared:
    """Everything that a pattern has declared so far."""

    program: Program
    heads: Heads
    queries: SideDeclared
    keys: SideDeclared
    self_attention: bool = True
    inputs: tuple[Input, ...] = ()
    unread: tuple[Input, ...] = ()
    """Inputs that no name in the pattern reads: unknown names may be meant to."""
    bad_names: frozenset[str] = frozenset()
    """Spaces, inputs, coordinates and routes whose declarations are wrong; uses of them are not reported again."""
    hidden: dict[str, Along | Shuffled] = field(default_factory=dict)
    """Curves and shuffles in expressions, by their text; filled while expressions are elaborated."""
    of_call: set[str] = field(default_factory=set)
    """The reserved names of what a call decides that are read, `key_heads`; filled while expressions are elaborated."""
    products: dict[str, Product] = field(default_factory=dict)
    """Dot products in the scores of routes; filled while these are elaborated."""
    tables: dict[str, GroupScores] = field(default_factory=dict)
    """Tables that scores of routes read, whose candidates the route decides; likewise."""
    dots: dict[str, VectorProduct | PairProduct] = field(default_factory=dict)
    """Dot products in scores, by the names of the tables that stand for them; likewise."""
    routes: Mapping[str, RouteValue] = field(default_factory=dict)
    """The meaning of the names of routes in relations."""
    routed: tuple[Routed, ...] = ()
    facts: frozenset[str] = frozenset()
    """The coordinates that pooled tokens have although no statement declares them."""

    def side(self, side: Side) -> SideDeclared:
        return self.keys if side is Side.KEY else self.queries

    def spaces(self) -> Iterator[Space]:
        """Every space once, spaces of the queries first."""
        seen = dict.fromkeys([*self.queries.sequence.spaces, *self.keys.sequence.spaces])
        yield from seen

    def sources(self) -> Iterator[Space]:
        """Spaces that queries or keys are pooled from, in a sequence or not."""
        return (each for space in self.spaces() for each in space.chain[:-1])

    def grouped(self) -> Iterator[Space]:
        """Spaces whose tokens are pooled by a coordinate, in a sequence or not."""
        return (groups.tokens.spaces[0] for space in self.spaces() for _, groups in space.groupings)

    def input(self, name: str) -> Input | None:
        return next((each for each in self.inputs if each.name == name), None)


Pair = tuple[str, str]


@dataclass(frozen=True)
class Frame:
    """The context of one expression."""

    declared: Declared
    report: Report
    statement: StatementKind
    names: Mapping[str, Value]
    """Parameters, `let`s and variables of quantifiers."""
    pairs: frozenset[Pair] = frozenset()
    """The pairs of spaces that the query and the key may be in; for one token, its space twice."""
    token_side: Side = Side.QUERY
    """The side whose sequence the one token belongs to."""
    bare_coordinates: bool = False
    """Whether a bare name may be a coordinate: directly in `coord` and `order`, not in macros."""
    calls: tuple[Note, ...] = ()
    """The macro calls around the expression, outermost first."""
    macros: tuple[str, ...] = ()
    """The names of the macros being expanded."""

    def spaces(self, side: Side) -> list[Space]:
        """The spaces that the token of a side may be in, in declared order."""
        names = {pair[1] if side is Side.KEY else pair[0] for pair in self.pairs}
        return [space for space in self.sequence(side).spaces if space.name in names]

    def side(self, side: Side) -> SideDeclared:
        return self.declared.side(self.token_side if side is Side.TOKEN else side)

    def sequence(self, side: Side) -> Sequence:
        return self.side(side).sequence

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides whose coordinates can be read here."""
        match self.statement:
            case StatementKind.CONSTANT | StatementKind.HEAD:
                return ()
            case StatementKind.TOKEN:
                return (Side.TOKEN,)
            case (
                StatementKind.PAIR
                | StatementKind.VALUE
                | StatementKind.VECTOR
                | StatementKind.SCORE
                | StatementKind.ROUTE
            ):
                return (Side.QUERY, Side.KEY)

    def where(self, pairs: Iterable[Pair]) -> "Frame":
        return replace(self, pairs=frozenset(pairs))

    def naming(self, /, **names: Value) -> "Frame":
        return replace(self, names={**self.names, **names})

    def add(self, diagnostic: Diagnostic) -> Bad:
        return self.report.add(diagnostic, self.calls)

    def warn(self, caution: Caution) -> None:
        """Keeps a warning; one in the standard library is moved to the call that led there."""
        calls = list(reversed(self.calls))
        standard = self.declared.program.standard.span.source
        while calls and caution.span is not None and caution.span.source is standard:
            caution = caution.at(calls.pop(0).span)
        self.report.warn(caution.with_notes(*calls[:MOST_NOTES]))

    def nearest(self, name: str, *known: Iterable[str]) -> str | None:
        """The known name most similar to an unknown one; None after too many unknown names."""
        return self.report.nearest(name, chain(*known))
