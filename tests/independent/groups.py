"""The groups that scores of routes are of, and which pairs of them are scored, from `docs/language.md`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.independent.derivatives import plain
from tests.independent.functions import walk
from tests.independent.reader import Node
from tests.independent.tokens import Later, Scope, Token

if TYPE_CHECKING:
    from tests.independent.meaning import Meaning

Names = Mapping[str, Any]
POOLINGS = ("mean", "max", "min", "sum", "root")
GATHERS = ("mean", "max", "min", "sum")


@dataclass(frozen=True)
class Grouping:
    """Tokens with the same coordinate; those of several numbers that follow each other, if groups overlap."""

    by: str | None
    """None: all tokens together."""
    span: int = 1


ALONE = Grouping(None)
Level = tuple[Grouping, Grouping]
"""Groups of queries, and of keys."""
Pair = tuple[int, int, int]
"""A head, the number of a query group, and that of a key group."""


def makes_table(name: str, arguments: tuple[tuple[str | None, Node], ...]) -> bool:
    """Whether a call of a route is about scores of several pairs."""
    keys = [key for key, _ in arguments]
    several = keys.count(None) > 1
    gathers = name in GATHERS and ("by" in keys or "heads" in keys)
    return name == "softmax" or gathers or (name in ("min", "max") and not several)


def side_of(node: Node, names: Names) -> str | None:
    """The side whose tokens a vector is of; None for one of none."""
    for each in walk(node):
        if each[0] in ("name", "attribute") and each[1] in ("q", "k"):
            return str(each[1])
        held = names.get(each[1]) if each[0] == "name" else None
        side = side_of(held.node, held.scope.names) if isinstance(held, Later) else None
        if side is not None:
            return side
    return None


def pool_of(node: Node, names: Names) -> tuple[str, Node, str, dict[str, Node]] | None:
    """A pool of vectors: the side, what is pooled, by which coordinate, and the options; None for what is no pool."""
    match node:
        case ("call", name, ((_, what), ("by", ("name", coordinate)), *options)) if (
            name in POOLINGS and coordinate not in ("q", "k")
        ):
            side = side_of(what, names)
            return None if side is None else (side, what, coordinate, {str(key): each for key, each in options})
    return None


@dataclass
class Groups:
    """Those of one route, in one entry of the batch."""

    meaning: "Meaning"
    route: Node
    score: Node
    known: dict[tuple[str, Grouping], dict[int, list[Token]]] = field(default_factory=dict)
    held: dict[Level, set[Pair]] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        return self.meaning.names_before(self.route)

    def of(self, side: str, grouping: Grouping) -> dict[int, list[Token]]:
        """The tokens of each group that has some, by number. A pool without tokens is in no group."""
        if (side, grouping) not in self.known:
            found: dict[int, list[Token]] = {}
            for token in self.meaning.tokens[side]:
                if not self.meaning.within(token.space, token.number):
                    continue
                for number in self.numbers(token, grouping):
                    found.setdefault(number, []).append(token)
            self.known[side, grouping] = dict(sorted(found.items()))
        return self.known[side, grouping]

    def numbers(self, token: Token, grouping: Grouping) -> range:
        """Of the groups that a token is in."""
        if grouping.by is None:
            return range(1)
        if not self.meaning.has(token, grouping.by):
            return range(0)
        number = int(plain(self.meaning.coordinate(token, grouping.by)))
        return range(max(number - grouping.span + 1, 0), number + 1)

    def scope(self, level: Level, pair: Pair, names: Names) -> Scope:
        """The first tokens of two groups."""
        q, k = (self.of(side, each)[number][0] for side, each, number in zip("qk", level, pair[1:], strict=True))
        return Scope(names, q=q, k=k)

    def evaluated(self, node: Node, level: Level, pair: Pair, names: Names) -> Any:
        self.meaning.head = pair[0]
        return plain(self.meaning.value(node, self.scope(level, pair, names)))

    # What groups a score is of

    def level(self, node: Node, names: Names) -> Level:
        """The finest groups of what an expression is made of; those of coordinates that it reads, if there are none."""
        told = [*self.told(node, names)]
        return self.finest("q", told), self.finest("k", told)

    def finest(self, side: str, told: list[tuple[str, Grouping, bool]]) -> Grouping:
        own = [(grouping, is_pooled) for each, grouping, is_pooled in told if each == side]
        groupings = [each for each, is_pooled in own if is_pooled] or [each for each, _ in own] or [ALONE]
        return next(one for one in groupings if all(self.decides(side, one, other) for other in groupings))

    def decides(self, side: str, one: Grouping, other: Grouping) -> bool:
        """Whether all tokens of one group are in one other group."""
        if one == other:
            return True
        if other.span > 1:
            return False
        return all(len({(*self.numbers(each, other),) for each in own}) == 1 for own in self.of(side, one).values())

    def told(self, node: Any, names: Names) -> Iterator[tuple[str, Grouping, bool]]:
        """Sides and groups, and whether vectors or scores are of these groups."""
        meaning = self.meaning
        match node:
            case ("call", "dot", arguments):
                for _, each in arguments:
                    yield from self.told_of_vector(each, names)
            case ("call", name, arguments) if makes_table(name, arguments):
                for side, grouping in zip("qk", self.table_level(arguments, names), strict=True):
                    if grouping != ALONE:
                        yield side, grouping, True
            case ("call", "same", arguments):
                for _, (_, name) in arguments:
                    yield from ((side, Grouping(name), False) for side in "qk")
            case ("name", "q" | "k" as side):
                yield side, Grouping("i"), False
            case ("name", name):
                held = names.get(name)
                if isinstance(held, Later):
                    yield from self.told(held.node, held.scope.names)
                elif (route := meaning.route(name)) is not None:
                    yield from (
                        (side, each, False) for side, each in zip("qk", meaning.route_level(route), strict=True)
                    )
                elif (macro := meaning.macro(name)) is not None:
                    yield from self.told(macro.body, {})
            case ("attribute", "q" | "k" as side, name):
                kind = next((each[2] for each in meaning.pattern.statements if each[:2] == ("input", name)), "int")
                yield side, Grouping(name if kind == "int" else "i"), False
            case tuple():
                for part in node:
                    yield from self.told(part, names)

    def told_of_vector(self, node: Any, names: Names) -> Iterator[tuple[str, Grouping, bool]]:
        pool = pool_of(node, names) if isinstance(node, tuple) else None
        if pool is not None:
            side, _, coordinate, options = pool
            yield side, Grouping(coordinate, self.span(options, names)), True
            return
        match node:
            case ("name", "q" | "k" as side):
                yield side, Grouping("i"), True
            case ("name", name) if isinstance(held := names.get(name), Later):
                yield from self.told_of_vector(held.node, held.scope.names)
            case ("index", _, *indices):
                yield from self.told(tuple(indices), names)
            case ("attribute", *_):
                yield from self.told(node, names)
            case tuple():
                for part in node:
                    yield from self.told_of_vector(part, names)

    def span(self, options: dict[str, Node], names: Names) -> int:
        return int(self.meaning.value(options["span"], Scope(names))) if "span" in options else 1

    def table_level(self, arguments: tuple[tuple[str | None, Node], ...], names: Names) -> Level:
        """The groups of what a call makes of scores."""
        inner = score_and_condition(arguments[0][1])[0]
        found = dict(zip("qk", self.level(inner, names), strict=True))
        by = next((each for key, each in arguments if key == "by"), None)
        for each in () if by is None else by[1:] if by[0] == "tuple" else (by,):
            side, name = (each[1], "i") if each[0] == "name" else each[1:]
            found[side] = Grouping(name)
        return found["q"], found["k"]

    def inner_levels(self, node: Any, names: Names) -> Iterator[Level]:
        """The groups that a score is computed through."""
        match node:
            case ("call", "dot", _):
                return  # what is pooled inside are vectors
            case ("call", name, arguments) if makes_table(name, arguments):
                inner = score_and_condition(arguments[0][1])[0]
                yield self.table_level(arguments, names)
                yield self.level(inner, names)
                yield from self.inner_levels(inner, names)
            case ("name", name) if isinstance(held := names.get(name), Later):
                yield from self.inner_levels(held.node, held.scope.names)
            case tuple():
                for part in node:
                    yield from self.inner_levels(part, names)

    # Candidates

    def own_level(self) -> Level:
        """What the route selects: groups of its score, or finer ones that its relations tell apart."""
        level, through = self.level(self.score, self.names), [*self.inner_levels(self.score, self.names)]
        told = [each for node in self.route[3:] if node is not None for each in self.told(node, self.names)]
        found = []
        for at, side in enumerate("qk"):
            levels = [level[at], *(each[at] for each in through)]
            own = [each for each in told if each[0] == side]
            unknown = [each for each in own if not any(self.fits(side, one, each[1]) for one in levels)]
            refines = unknown and (level[at] == ALONE or (side == "q" and level[at].by is not None))
            found.append(self.finest(side, unknown) if refines else level[at])
        return found[0], found[1]

    def where_level(self) -> Level:
        """The groups that tell everything apart that `where` reads."""
        levels = [self.own_level(), *self.inner_levels(self.score, self.names)]
        told = [*self.told(self.route[3], self.names)]
        found = []
        for at, side in enumerate("qk"):
            own = [grouping for each, grouping, _ in told if each == side]
            fitting = (each[at] for each in levels if all(self.fits(side, each[at], one) for one in own))
            found.append(next(fitting))
        return found[0], found[1]

    def fits(self, side: str, grouping: Grouping, read: Grouping) -> bool:
        """Whether a group has one value of what is read, as far as that is known before a call."""
        unknown = grouping.by is not None and any(self.is_of_call(side, each.by) for each in (grouping, read))
        return grouping.by == read.by or unknown or self.decides(side, grouping, read)

    def is_of_call(self, side: str, name: str | None) -> bool:
        """Whether a coordinate reads inputs, the head or the batch entry."""
        meaning, waiting, seen = self.meaning, [name], set[object]()
        token = meaning.tokens[side][0] if meaning.tokens[side] else None
        while waiting:
            each = waiting.pop()
            if each in (None, "i") or each in seen or token is None or each in token.cell:
                continue
            seen.add(each)
            if each in ("head", "batch") or meaning.input_of(each, token) is not None:
                return True
            coord = meaning.coord_of(each, token)
            waiting += [] if coord is None else [node[1] for node in walk(coord[3]) if node[0] == "name"]
        return False

    def candidates(self, level: Level) -> set[Pair]:
        """The pairs of groups that are scored: a part of each is one that `where` allows."""
        if level not in self.held:
            heads = range(self.meaning.heads)
            every = {(head, a, b) for head in heads for a in self.of("q", level[0]) for b in self.of("k", level[1])}
            self.held[level] = every
            if self.route[3] is not None:
                finer = self.where_level()
                node, names = self.route[3], self.names
                if finer == level:
                    self.held[level] = {each for each in every if self.evaluated(node, level, each, names)}
                else:
                    pairs = self.candidates(finer)
                    shared = [self.sharing(side, *each) for side, *each in zip("qk", finer, level, strict=True)]
                    self.held[level] = {
                        (head, a, b) for head, x, y in pairs for a in shared[0][x] for b in shared[1][y]
                    }
        return self.held[level]

    def sharing(self, side: str, one: Grouping, other: Grouping) -> dict[int, set[int]]:
        """The other groups that share a token with each group."""
        others = self.of(side, other)
        tokens = {number: {each.i for each in own} for number, own in others.items()}
        return {
            number: {each for each, inside in tokens.items() if inside & {token.i for token in own}}
            for number, own in self.of(side, one).items()
        }


def score_and_condition(node: Node) -> tuple[Node, Node | None]:
    """Of `score where condition`."""
    return (node[1], node[2]) if node[0] == "and" else (node, None)
