"""What routes select, for the batch entry and the head at hand, from `docs/language.md`.

Where a selection hangs on the last bits of a float (two sums that are equal but for the order of their terms), nothing
is said of it: `Unclear`. Ties of numbers that floats hold exactly are decided, as the page says.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.independent.derivatives import plain
from tests.independent.functions import walk
from tests.independent.numbering import random
from tests.independent.reader import Node
from tests.independent.tokens import Scope, Token

if TYPE_CHECKING:
    from tests.independent.meaning import Meaning

Selected = Callable[[Token, Token], bool]
NEAR = 1e-5
"""Relative: scores are computed in float32 at least."""
PLACES, LARGEST = 2**4, 2**6
"""Products and sums of multiples of 1 / PLACES below LARGEST are exact in float32, in any order."""
INEXACT = {"sqrt", "exp", "log", "tanh", "sigmoid", "root"}
POOLINGS = ("mean", "max", "sum", "root")


class Unclear(Exception):
    """Rounding decides what is selected."""


def select(meaning: "Meaning", route: Node) -> Selected:
    _, _, (_, selector, arguments), _ = route
    scope = Scope(meaning.names_before(route))
    match selector:
        case "nearest":
            return lambda q, k: nearest_row(meaning, route, q) == nearest_row(meaning, route, k)
        case "balanced":
            size = meaning.value(arguments[0][1], scope)
            taken = {side: balanced(meaning, arguments[1][1][1], side, size) for side in "qk"}
            return lambda q, k: any(q.i in a and k.i in b for a, b in zip(taken["q"], taken["k"], strict=True))
        case "draw":
            return drawn(meaning, route)
    amount = plain(meaning.value(arguments[0][1], scope))
    score = arguments[1][1]
    table = distance_table(score)
    if table is not None:
        return by_entries(meaning, route, table, selector, amount)
    over_head = len(arguments) > 2
    return Groups(meaning, route, score).selected(selector, amount, over_head)


def needs_others(meaning: "Meaning", route: Node, present: set[int]) -> bool:
    """Whether queries that are not present have a say in what those present select."""
    _, _, (_, selector, arguments), _ = route
    everyone = {token.i for token in meaning.tokens["q"]}
    if selector == "draw":
        return False
    if selector == "balanced" or len(arguments) > 2:
        return present != everyone
    if selector == "nearest" or distance_table(arguments[1][1]) is not None:
        return False
    for (_, _, ((_, what), (_, (_, coordinate)), *_)), scope in pools(
        meaning, arguments[1][1], Scope(meaning.names_before(route))
    ):
        for token in meaning.tokens["q"]:
            members = pooled_with(meaning, what, coordinate, token, scope)
            if token.i in present and not {each.i for each in members} <= present:
                return True
    return False


def pools(meaning: "Meaning", node: Any, scope: Scope) -> Iterator[tuple[Node, Scope]]:
    """The calls of a score that pool queries, and what names mean there."""
    match node:
        case ("each", _, body, helper, ("range", first, last)):
            for turn in range(meaning.value(first, scope), meaning.value(last, scope)):
                yield from pools(meaning, body, scope.with_names({**scope.names, helper: turn}))
        case ("call", kind, _) if kind in POOLINGS and pooled_of(node) == "q":
            yield node, scope
        case tuple():
            for part in node:
                yield from pools(meaning, part, scope)


def pooled_of(node: Node) -> str | None:
    """The side that a call pools, if it is no function of numbers."""
    what = node[2][0][1]
    base = what[1] if what[0] == "and" else what
    return base[1] if base in (("name", "q"), ("name", "k")) else None


# Vectors


def dot(meaning: "Meaning", arguments: tuple[tuple[str | None, Node], ...], scope: Scope) -> float:
    """Of the two groups whose first tokens are at hand."""
    q, k = (vector(meaning, node, token, scope) for (_, node), token in zip(arguments, (scope.q, scope.k), strict=True))
    with np.errstate(all="ignore"):
        return float(np.dot(q, k))


def vector(meaning: "Meaning", node: Node, token: Token | None, scope: Scope) -> np.ndarray:
    assert token is not None and meaning.vectors is not None
    rows = meaning.vectors["qk".index(token.side)][meaning.batch]
    if node[0] == "name":
        assert node[1] == token.side
        return rows[meaning.head, token.i]
    _, pooling, ((_, what), (_, (_, coordinate)), *of_heads) = node
    number = meaning.coordinate(token, coordinate)
    turn = tuple((name, x) for name, x in scope.names.items() if isinstance(x, int))
    key = id(node), turn, token.side, number, meaning.head, meaning.batch
    if key not in meaning.pooled:
        members = pooled_with(meaning, what, coordinate, token, scope)
        heads = together(meaning, of_heads[0][1], scope) if of_heads else [meaning.head]
        meaning.pooled[key] = pool(pooling, np.array([rows[head, each.i] for head in heads for each in members]))
    found = meaning.pooled[key]
    return np.zeros(rows.shape[-1]) if found is None else found


def pooled_with(meaning: "Meaning", what: Node, coordinate: str, token: Token, scope: Scope) -> list[Token]:
    """The tokens of a token's group that are pooled: `q`, or `q where condition`."""
    number = meaning.coordinate(token, coordinate)
    members = [each for each in meaning.tokens[token.side] if meaning.coordinate(each, coordinate) == number]
    if what[0] != "and":
        return members
    return [each for each in members if meaning.value(what[2], Scope(scope.names, token=each, bare=True))]


def together(meaning: "Meaning", expression: Node, scope: Scope) -> list[int]:
    """The heads at which an expression has the value that it has here."""
    if expression == ("name", "all"):
        return [*range(meaning.heads)]
    own = meaning.head
    values = []
    for head in range(meaning.heads):
        meaning.head = head
        values.append(meaning.value(expression, Scope(scope.names)))
    meaning.head = own
    return [head for head, value in enumerate(values) if value == values[own]]


def pool(pooling: str, rows: np.ndarray) -> np.ndarray | None:
    if not len(rows):
        return None
    with np.errstate(all="ignore"):
        match pooling:
            case "max":
                return rows.max(axis=0)
            case "sum":
                return rows.sum(axis=0)
            case "mean":
                return rows.sum(axis=0) / len(rows)
            case "root":
                return rows.sum(axis=0) / math.sqrt(len(rows))
            case _:
                raise AssertionError(pooling)


def dyadic(x: np.ndarray) -> bool:
    return bool((~np.isfinite(x) | ((x * PLACES == np.round(x * PLACES)) & (np.abs(x) < LARGEST))).all())


# Scores of groups


@dataclass
class Groups:
    """Query and key groups of one route, by their numbers, each with its first token."""

    meaning: "Meaning"
    route: Node
    score: Node

    def __post_init__(self) -> None:
        self.names = {side: self.grouping(side) for side in "qk"}
        self.first = {side: self.first_tokens(side) for side in "qk"}

    def grouping(self, side: str) -> str | None:
        """The coordinate that the score groups a side by; None where it does not read it."""
        names = set(read_of(self.score, side, self.meaning))
        if not names and self.route[3] is not None:
            names = set(read_of(self.route[3], side, self.meaning))
        assert len(names) <= 1, names
        return next(iter(names), None)

    def number(self, token: Token) -> int:
        name = self.names[token.side]
        return 0 if name is None else int(plain(self.meaning.coordinate(token, name)))

    def first_tokens(self, side: str) -> dict[int, Token]:
        found: dict[int, Token] = {}
        for token in self.meaning.tokens[side]:
            found.setdefault(self.number(token), token)
        return dict(sorted(found.items()))

    def is_group(self, token: Token) -> bool:
        """Whether a token is no pool without tokens that would be a group of its own."""
        is_alone = self.names[token.side] in ("i", token.space.name)
        return not is_alone or bool(self.meaning.within(token.space, token.number))

    def scores(self) -> dict[tuple[int, int], float]:
        """Of the candidates."""
        found = {}
        for a, q in self.first["q"].items():
            for b, k in self.first["k"].items():
                if not (self.is_group(q) and self.is_group(k)):
                    continue
                scope = Scope(self.meaning.names_before(self.route), q=q, k=k)
                if self.route[3] is None or self.meaning.value(self.route[3], scope):
                    found[a, b] = float(plain(self.meaning.value(self.score, scope)))
        return found

    def selected(self, selector: str, amount: float, over_head: bool) -> Selected:
        scores = self.scores()
        exact = self.exact()
        if over_head:
            chosen = choose(selector, amount, scores, exact)
        else:
            chosen = set()
            for a in self.first["q"]:
                chosen |= choose(selector, amount, {pair: x for pair, x in scores.items() if pair[0] == a}, exact)
        return lambda q, k: (self.number(q), self.number(k)) in chosen

    def exact(self) -> bool:
        """Whether sums come to the same in any order."""
        words = {node[1] for node in walk(self.score) if node[0] == "call"}
        if words & INEXACT:
            return False
        if "dot" not in words:
            return True
        assert self.meaning.vectors is not None
        own = [x[self.meaning.batch] for x in self.meaning.vectors]
        pooled = [x for x in self.meaning.pooled.values() if x is not None]
        return all(map(dyadic, [*own, *pooled]))


def read_of(node: Any, side: str, meaning: "Meaning") -> Iterator[str]:
    """The coordinates of a side by which a score reads it: `i` for a token itself."""
    match node:
        case ("call", "dot", ((_, q), (_, k))):
            own = q if side == "q" else k
            yield "i" if own[0] == "name" else own[2][1][1][1]
        case ("name", name) if name == side:
            yield "i"
        case ("attribute", base, name) if base == side:
            kind = next((each[2] for each in meaning.pattern.statements if each[:2] == ("input", name)), "int")
            yield name if kind == "int" else "i"
        case tuple():
            for part in node:
                yield from read_of(part, side, meaning)


# Selectors


def choose(selector: str, amount: float, scores: Mapping[tuple[int, int], float], exact: bool) -> set[tuple[int, int]]:
    """The pairs of groups that are selected from these candidates."""
    best = sorted((pair for pair, score in scores.items() if score > -math.inf), key=lambda pair: (-scores[pair], pair))
    match selector:
        case "topk":
            count = max(int(amount), 0)
        case "topp":
            count = fewest([scores[pair] for pair in best], amount, exact)
        case "above":
            count = sum(scores[pair] > amount for pair in best)
            for pair in best:
                clear(scores[pair], amount, exact)
        case _:
            raise AssertionError(selector)
    if 0 < count < len(best):
        clear(scores[best[count - 1]], scores[best[count]], exact)
    return set(best[:count])


def clear(a: float, b: float, exact: bool) -> None:
    """Whether it is certain which of two scores is larger, or that they are equal."""
    if math.isinf(a) or math.isinf(b) or (a == b and exact):
        return
    if abs(a - b) <= NEAR * max(1.0, abs(a), abs(b)):
        raise Unclear


def fewest(scores: list[float], mass: float, exact: bool) -> int:
    """How many of these, from the best down, have so much of the softmax."""
    if mass <= 0 or not scores:
        return 0
    if scores[0] == math.inf:
        shares = [1.0 if score == math.inf else 0.0 for score in scores]
    else:
        shares = [math.exp(score - scores[0]) for score in scores]
    total = math.fsum(shares)
    for count in range(1, len(scores) + 1):
        reached = math.fsum(shares[:count]) / total
        if abs(reached - mass) <= NEAR and count < len(scores):
            whole = exact and reached == mass and set(shares) <= {0.0, 1.0} and total in (1, 2, 4, 8)
            if not whole:
                raise Unclear
        if reached >= mass:
            return count
    return len(scores)


# Entries of a table, such as distances


def distance_table(score: Node) -> Node | None:
    """The read that both tokens decide in one index."""
    for node in walk(score):
        if node[0] == "index" and any({"q", "k"} <= sides(index) for index in node[2:]):
            return node
    return None


def sides(node: Node) -> set[str]:
    return {each[1] for each in walk(node) if each[0] in ("name", "attribute") and each[1] in ("q", "k")}


def by_entries(meaning: "Meaning", route: Node, table: Node, selector: str, amount: float) -> Selected:
    """Entries are chosen, by the index that both tokens decide."""
    _, name, *indices = table
    above = meaning.names_before(route)
    (axis,) = (n for n, index in enumerate(indices) if {"q", "k"} <= sides(index))
    position: list[Any] = [0 if n == axis else meaning.value(index, Scope(above)) for n, index in enumerate(indices)]
    position[axis] = slice(None)
    entries = meaning.inputs[name][tuple(position)]
    chosen = choose(selector, amount, {(n, 0): float(x) for n, x in enumerate(entries)}, exact=True)
    return lambda q, k: (meaning.value(indices[axis], Scope(above, q=q, k=k)), 0) in chosen


# Draws


def drawn(meaning: "Meaning", route: Node) -> Selected:
    """The first candidates in the order of a permutation of its own for each query group."""
    _, _, (_, _, arguments), where = route
    above = meaning.names_before(route)
    count, seed, *numbers = (meaning.value(node, Scope(above)) for _, node in arguments)
    names = {side: set(read_of(where, side, meaning)) if where is not None else set() for side in "qk"}
    by = {side: next(iter(each), "i") for side, each in names.items()}

    def number(token: Token) -> int | None:
        return int(meaning.coordinate(token, by[token.side])) if meaning.has(token, by[token.side]) else None

    first: dict[str, dict[int, Token]] = {side: {} for side in "qk"}
    for side in "qk":
        for token in meaning.tokens[side]:
            group = number(token)
            if group is not None:
                first[side].setdefault(group, token)
    chosen: set[tuple[int | None, int | None]] = set()
    length = max(first["k"], default=-1) + 1
    for group, token in first["q"].items():
        word = random(seed, *numbers, group)
        order = [permuted(word, position, length) for position in range(length)]
        fits = [
            each
            for each in order
            if each in first["k"] and (where is None or meaning.value(where, Scope(above, q=token, k=first["k"][each])))
        ]
        chosen |= {(group, each) for each in fits[: max(count, 0)]}
    return lambda q, k: (number(q), number(k)) in chosen


def permuted(word: int, position: int, length: int) -> int:
    half = next(h for h in range(32) if 4**h >= length)
    x = position
    while True:
        left, right = divmod(x, 2**half)
        for turn in range(4):
            left, right = right, left ^ random(word, turn, right) % 2**half
        x = left * 2**half + right
        if x < length:
            return x


# Centroids


def nearest_row(meaning: "Meaning", route: Node, token: Token) -> int:
    key = route[1], token.side, token.i, meaning.head, meaning.batch
    if key not in meaning.nearest:
        assert meaning.vectors is not None
        (_, (_, name)) = route[2][2][0]
        rows = meaning.inputs[name][meaning.head]
        own = meaning.vectors["qk".index(token.side)][meaning.batch, meaning.head, token.i]
        with np.errstate(all="ignore"):
            distances = [float(((row - own) ** 2).sum()) for row in rows]
        distances = [math.inf if math.isnan(x) else x for x in distances]
        found = distances.index(min(distances))
        exact = dyadic(rows) and dyadic(own)
        for row, distance in enumerate(distances):
            if row != found:
                clear(distance, distances[found], exact)
        meaning.nearest[key] = found
    return meaning.nearest[key]


def balanced(meaning: "Meaning", name: str, side: str, size: int) -> list[set[int]]:
    """The tokens of a side that each row takes."""
    assert meaning.vectors is not None
    found = []
    tokens = meaning.vectors["qk".index(side)][meaning.batch, meaning.head]
    for row in meaning.inputs[name][meaning.head]:
        with np.errstate(all="ignore"):
            products = {(n, 0): float(np.dot(row, token)) for n, token in enumerate(tokens)}
        exact = dyadic(row) and dyadic(tokens)
        found.append({n for n, _ in choose("topk", size, products, exact)})
    return found
