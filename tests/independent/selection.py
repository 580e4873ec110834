"""What routes select, for the batch entry and the head at hand, from `docs/language.md`.

Where a selection hangs on the last bits of a float (two sums that are equal but for the order of their terms), nothing
is said of it: `Unclear`. Ties of numbers that floats hold exactly are decided, as the page says.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.independent.derivatives import plain
from tests.independent.functions import walk
from tests.independent.group_scores import Scores, dyadic, extent, softmax
from tests.independent.groups import Grouping, Groups, Level, Names, Pair, makes_table, pool_of, score_and_condition
from tests.independent.numbering import random
from tests.independent.reader import Node
from tests.independent.tokens import Later, Scope, Token

if TYPE_CHECKING:
    from tests.independent.meaning import Meaning

Selected = Callable[[Token, Token], bool]
Chosen = tuple[Groups, Level, set[Pair]]
"""The pairs of groups that a route selects in all heads of a batch entry."""
SCORED = ("topk", "topp", "above")
NEAR = 1e-5
"""Relative: scores are computed in float32 at least."""


class Unclear(Exception):
    """Rounding decides what is selected."""


def select(meaning: "Meaning", route: Node) -> Selected:
    _, _, (_, selector, arguments), _, _ = route
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
    table = distance_table(arguments[1][1])
    if table is not None:
        return by_entries(meaning, route, table, selector, plain(meaning.value(arguments[0][1], scope)))
    return by_scores(meaning, route)


def needs_others(meaning: "Meaning", route: Node, present: set[int]) -> bool:
    """Whether queries that are not present have a say in what those present select, of a route that is plain."""
    _, _, (_, selector, arguments), _, _ = route
    everyone = {token.i for token in meaning.tokens["q"]}
    if selector == "draw":
        return False
    if selector == "balanced" or len(arguments) > 2:
        return present != everyone
    if selector == "nearest" or distance_table(arguments[1][1]) is not None:
        return False
    for node, scope in pools(meaning, arguments[1][1], Scope(meaning.names_before(route))):
        for token in meaning.tokens["q"]:
            members = {each.i for each in pooled_with(meaning, node, token, scope)}
            if token.i in present and not members <= present:
                return True
    return False


def pools(meaning: "Meaning", node: Any, scope: Scope) -> Iterator[tuple[Node, Scope]]:
    """The calls of a score that pool queries, and what names mean there."""
    match node:
        case ("each", _, body, helper, ("range", first, last)):
            for turn in range(meaning.value(first, scope), meaning.value(last, scope)):
                yield from pools(meaning, body, scope.with_names({**scope.names, helper: turn}))
        case tuple():
            pool = pool_of(node, scope.names)
            if pool is not None and pool[0] == "q":
                yield node, scope
            for part in node:
                yield from pools(meaning, part, scope)


def pooled_with(meaning: "Meaning", node: Node, token: Token, scope: Scope) -> list[Token]:
    """The tokens that a pool of one number has."""
    pool = pool_of(node, scope.names)
    assert pool is not None
    side, what, coordinate, _ = pool
    condition, number = score_and_condition(what)[1], meaning.coordinate(token, coordinate)
    members = [each for each in meaning.tokens[side] if meaning.coordinate(each, coordinate) == number]
    if condition is None:
        return members
    return [each for each in members if meaning.value(condition, Scope(scope.names, token=each, bare=True))]


def is_plain(meaning: "Meaning", route: Node) -> bool:
    """Whether its score is of products of a query, or a pool of queries, and a key, and nothing is selected always."""
    _, _, (_, selector, arguments), _, always = route
    if selector not in SCORED:
        return True
    names, (word, score), others = meaning.names_before(route), arguments[1], arguments[2:]
    per_head = all(key == "per" and each == ("name", "head") for key, each in others)
    return always is None and word != "weights" and per_head and has_plain_score(score, names)


def has_plain_score(node: Any, names: Names) -> bool:
    match node:
        case ("call", "dot", arguments):
            return [*map(plain_side, (each for _, each in arguments))] == ["q", "k"]
        case ("call", name, arguments) if makes_table(name, arguments):
            return False
        case ("name", name) if isinstance(held := names.get(name), Later):
            return has_plain_score(held.node, held.scope.names)
        case tuple():
            return all(has_plain_score(each, names) for each in node)
    return True


def plain_side(node: Node) -> str | None:
    """The side of a vector that is a token, or a pool of tokens."""
    pool = pool_of(node, {})
    if pool is None:
        return node[1] if node in (("name", "q"), ("name", "k")) else None
    side, what, _, options = pool
    is_own = score_and_condition(what)[0] == ("name", side)
    return side if is_own and node[1] != "min" and "span" not in options else None


# By scores of groups


def by_scores(meaning: "Meaning", route: Node) -> Selected:
    key = route[1], meaning.batch
    if key not in meaning.chosen:
        above, head = meaning.scores, meaning.head
        meaning.chosen[key] = chosen(meaning, route)
        meaning.scores, meaning.head = above, head
    groups, level, pairs = meaning.chosen[key]
    head = meaning.head

    def selected(q: Token, k: Token) -> bool:
        queries, keys = (groups.numbers(each, own) for each, own in zip((q, k), level, strict=True))
        return any((head, a, b) in pairs for a in queries for b in keys)

    return selected


def level(meaning: "Meaning", route: Node) -> Level:
    """The groups of a route that selects by scores of groups."""
    _, _, (_, selector, arguments), _, _ = route
    if selector in SCORED and distance_table(arguments[1][1]) is None:
        return Groups(meaning, route, arguments[1][1]).own_level()
    return Grouping("i"), Grouping("i")


def chosen(meaning: "Meaning", route: Node) -> Chosen:
    _, _, (_, selector, arguments), _, always = route
    (_, amount), (word, score), *others = arguments
    options = {str(key): each for key, each in others}
    groups = Groups(meaning, route, score)
    scores = meaning.scores = Scores(groups)
    names, own = groups.names, groups.own_level()
    table = scores.of(score, names, own)
    every = [
        (head, a, b) for head in range(meaning.heads) for a in groups.of("q", own[0]) for b in groups.of("k", own[1])
    ]
    forced = {pair for pair in every if always is not None and groups.evaluated(always, own, pair, names)}
    rows: dict[Hashable, list[Pair]] = defaultdict(list)
    row_of = extent(options.get("per"), own)
    for pair in every:
        rows[row_of(pair)].append(pair)
    exact = scores.is_exact(score, names)
    reach = "reach" not in options or bool(meaning.value(options["reach"], Scope(names)))
    found: set[Pair] = set()
    for pairs in rows.values():
        fitting = {pair: table.scores[pair] for pair in pairs if pair in table.scores}
        value = groups.evaluated(amount, own, pairs[0], names)
        found |= choose(selector, value, fitting, exact, forced & {*pairs}, word == "weights", reach)
    return groups, own, found


# Selectors


def choose(
    selector: str,
    amount: float,
    scores: Mapping[Pair, float],
    exact: bool,
    forced: Iterable[Pair] = (),
    weighs: bool = False,
    reach: bool = True,
) -> set[Pair]:
    """The pairs of groups that are selected of those that compete: candidates, and those that always are."""
    forced = {*forced}
    fitting = {pair: score for pair, score in scores.items() if score > -math.inf}
    best = sorted((pair for pair in fitting if pair not in forced), key=lambda pair: (-scores[pair], pair))
    match selector:
        case "topk":
            count = max(int(amount) - len(forced), 0)
        case "topp":
            count = of_share(fitting, best, forced, amount, exact, weighs, reach)
        case "above":
            count = sum(scores[pair] > amount for pair in best)
            for pair in best:
                clear(scores[pair], amount, exact)
        case _:
            raise AssertionError(selector)
    if 0 < count < len(best):
        clear(scores[best[count - 1]], scores[best[count]], exact)
    return forced | {*best[:count]}


def clear(a: float, b: float, exact: bool) -> None:
    """Whether it is certain which of two scores is larger, or that they are equal: two zeros are."""
    if math.isinf(a) or math.isinf(b) or (a == b and (exact or a == 0)):
        return
    if abs(a - b) <= NEAR * max(1.0, abs(a), abs(b)):
        raise Unclear


def of_share(
    fitting: Mapping[Pair, float],
    best: list[Pair],
    forced: set[Pair],
    mass: float,
    exact: bool,
    weighs: bool,
    reach: bool,
) -> int:
    """How many of the best are selected, beside the forced ones, for this share of the weights of all."""
    if weighs and math.inf in fitting.values():
        raise Unclear
    shares = [max(x, 0.0) for x in fitting.values()] if weighs else softmax([*fitting.values()])
    total = math.fsum(shares)
    if weighs and total <= NEAR and not exact:
        raise Unclear
    if total == 0:
        return len(best)
    of_pair = {pair: share / total for pair, share in zip(fitting, shares, strict=True)}
    whole = exact and {*of_pair.values()} <= {0.0, max(of_pair.values())} and 1 / max(of_pair.values()) in (1, 2, 4, 8)
    taken = [of_pair[pair] for pair in fitting if pair in forced]
    for count, pair in enumerate(best):
        before, after = math.fsum(taken), math.fsum([*taken, of_pair[pair]])
        reached = before if reach else after
        if reached > 0 and abs(reached - mass) <= NEAR and not (whole and reached == mass):
            raise Unclear
        if not (before < mass if reach else after <= mass):
            return max(count, int(not reach and not forced))
        taken.append(of_pair[pair])
    return len(best)


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
    _, _, (_, _, arguments), where, _ = route
    above = meaning.names_before(route)
    count, seed, *numbers = (meaning.value(node, Scope(above)) for _, node in arguments)
    groups = Groups(meaning, route, ())
    told = [] if where is None else [*groups.told(where, above)]
    by = {side: groups.finest(side, told).by or "i" for side in "qk"}

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
