"""Scores of routes and what is made of them, at the groups that they are of, in all heads of one batch entry."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from tests.independent import vectors
from tests.independent.derivatives import plain
from tests.independent.groups import ALONE, GATHERS, Groups, Level, Names, Pair, score_and_condition
from tests.independent.reader import Node
from tests.independent.tokens import Scope

Arguments = tuple[tuple[str | None, Node], ...]
PLACES, LARGEST = 2**4, 2**6
"""Products and sums of multiples of 1 / PLACES below LARGEST are exact in float32, in any order."""
INEXACT = {"sqrt", "exp", "log", "tanh", "sigmoid", "root", "softmax"}


@dataclass(frozen=True)
class Table:
    """The scores of the candidates."""

    level: Level
    scores: dict[Pair, float]


@dataclass
class Scores:
    """Those of one route, in one entry of the batch."""

    groups: Groups
    tables: dict[Hashable, Table] = field(default_factory=dict)
    vectors: dict[Hashable, np.ndarray] = field(default_factory=dict)
    is_dyadic: bool = True
    """Whether all vectors so far are small multiples of a power of two."""

    def of(self, node: Node, names: Names, level: Level | None = None) -> Table:
        """The score of each candidate."""
        level = self.groups.level(node, names) if level is None else level
        pairs = sorted(self.groups.candidates(level))
        return Table(level, {pair: float(self.groups.evaluated(node, level, pair, names)) for pair in pairs})

    def read(self, name: str, arguments: Arguments, scope: Scope) -> float:
        """What a call makes of scores, for the groups of the two tokens at hand; NaN where there is no candidate."""
        turn = tuple((key, x) for key, x in scope.names.items() if isinstance(x, int))
        key = name, id(arguments), turn
        meaning = self.groups.meaning
        head = meaning.head
        if key not in self.tables:
            self.tables[key] = self.made(name, arguments, scope.names)
            meaning.head = head
        table = self.tables[key]
        numbers = []
        for token, grouping in zip((scope.q, scope.k), table.level, strict=True):
            assert token is not None
            numbers.append(0 if grouping == ALONE else self.groups.numbers(token, grouping)[-1])
        return table.scores.get((head, *numbers), math.nan)

    def dot(self, a: Node, b: Node, scope: Scope) -> float:
        """The product of the vectors of the two groups whose first tokens are at hand."""
        one, two = (self.vector(each, scope) for each in (a, b))
        with np.errstate(all="ignore"):
            return float(np.dot(one, two))

    def vector(self, node: Node, scope: Scope) -> np.ndarray:
        meaning = self.groups.meaning
        sides = {side for side, _, _ in self.groups.told_of_vector(node, scope.names)}
        turn = tuple((key, x) for key, x in scope.names.items() if isinstance(x, int))
        tokens = tuple(token.i for side, token in (("q", scope.q), ("k", scope.k)) if side in sides and token)
        key = id(node), turn, tokens, meaning.head
        if key not in self.vectors:
            with np.errstate(all="ignore"):
                self.vectors[key] = np.asarray(plain(vectors.vector(meaning, node, scope)), dtype=float)
            self.is_dyadic = self.is_dyadic and dyadic(self.vectors[key])
        return self.vectors[key]

    def made(self, name: str, arguments: Arguments, names: Names) -> Table:
        options = {str(key): each for key, each in arguments if key is not None}
        inner, condition = score_and_condition(arguments[0][1])
        table = self.of(inner, names)
        if name == "softmax":
            among = table.scores
            if condition is not None:
                level = table.level
                among = {each: x for each, x in among.items() if self.groups.evaluated(condition, level, each, names)}
            shares = by_rows(among, extent(options.get("per"), table.level), softmax)
            return Table(table.level, {pair: shares.get(pair, 0.0) for pair in table.scores})
        if "by" in options:
            table = self.gathered(name, table, self.groups.table_level(arguments, names))
        if "heads" in options:
            table = self.of_heads(name, table, options["heads"])
        if "by" not in options and "heads" not in options:
            rows = by_rows(table.scores, extent(options.get("per"), table.level), lambda row: extreme(name, row))
            table = Table(table.level, rows)
        return table

    def gathered(self, kind: str, table: Table, level: Level) -> Table:
        """Of all groups that share a token with each new group, on both sides."""
        shared = [self.groups.sharing(side, *each) for side, *each in zip("qk", table.level, level, strict=True)]
        members: dict[Pair, list[float]] = defaultdict(list)
        for (head, a, b), score in table.scores.items():
            for query in shared[0][a]:
                for key in shared[1][b]:
                    members[head, query, key].append(score)
        return Table(level, {pair: together(kind, own) for pair, own in members.items()})

    def of_heads(self, kind: str, table: Table, heads: Node) -> Table:
        """Of all heads, or of the heads that share a key head, each of which has the result."""
        meaning = self.groups.meaning
        unit = [0 if heads == ("name", "all") else meaning.shared(head) for head in range(meaning.heads)]
        members: dict[Pair, list[float]] = defaultdict(list)
        for (head, a, b), score in table.scores.items():
            members[unit[head], a, b].append(score)
        return Table(
            table.level,
            {
                (head, a, b): together(kind, own)
                for (number, a, b), own in members.items()
                for head in range(meaning.heads)
                if unit[head] == number
            },
        )

    def is_exact(self, node: Node, names: Names) -> bool:
        """Whether a score comes to the same in any order of its sums."""
        nodes = [*vectors.reached(node, names)]
        calls = [each for each in nodes if each[0] == "call"]
        words = {each[1] for each in calls}
        gathers = {each[1] for each in calls if each[1] in GATHERS and {"by", "heads"} & {key for key, _ in each[2]}}
        reads = any(each[0] in ("index", "attribute") for each in nodes)
        if words & INEXACT or "mean" in gathers or ("sum" in gathers and reads):
            return False
        return self.is_dyadic


def dyadic(x: np.ndarray) -> bool:
    return bool((~np.isfinite(x) | ((x * PLACES == np.round(x * PLACES)) & (np.abs(x) < LARGEST))).all())


def extent(per: Node | None, level: Level) -> Callable[[Pair], Hashable]:
    """Which pairs compete: those of equal rows."""
    side = "k" if level[0] != ALONE and level[1] == ALONE else "q"
    match per:
        case ("name", "head"):
            return lambda pair: pair[0]
        case ("name", "batch"):
            return lambda pair: ()
        case ("tuple", ("name", "batch"), _):
            return lambda pair: pair[2]
        case ("name" | "attribute", named, *_):
            side = named
    return (lambda pair: (pair[0], pair[1])) if side == "q" else (lambda pair: (pair[0], pair[2]))


def by_rows(
    scores: dict[Pair, float], row: Callable[[Pair], Hashable], of: Callable[[list[float]], list[float]]
) -> dict[Pair, float]:
    rows: dict[Hashable, list[Pair]] = defaultdict(list)
    for pair in scores:
        rows[row(pair)].append(pair)
    found = {}
    for pairs in rows.values():
        found |= dict(zip(pairs, of([scores[each] for each in pairs]), strict=True))
    return found


def softmax(scores: list[float]) -> list[float]:
    """Shares; none of scores that are never selected, and equal ones of plus infinity alone, if there are some."""
    largest = max((x for x in scores if x > -math.inf), default=0.0)
    if largest == math.inf:
        weights = [float(x == math.inf) for x in scores]
    else:
        weights = [math.exp(x - largest) if x > -math.inf else 0.0 for x in scores]
    total = math.fsum(weights)
    return [x / total if total else 0.0 for x in weights]


def extreme(kind: str, scores: list[float]) -> list[float]:
    known = [x for x in scores if not math.isnan(x)]
    found = (min if kind == "min" else max)(known, default=math.nan)
    return [found] * len(scores)


def together(kind: str, scores: list[float]) -> float:
    """One score of several."""
    with np.errstate(all="ignore"):
        x = np.array(scores)
        return float({"max": x.max, "min": x.min, "sum": x.sum, "mean": x.mean}[kind]())
