"""What `explain` says of a pair, held against the second meaning: every condition, keys along an axis, selections."""

import re
from contextlib import suppress
from random import Random

import numpy as np

import maskdsl
from maskdsl.analysis.reasons.explanation import Explanation, Reason
from tests.independent.checks import Differs
from tests.independent.derivatives import plain
from tests.independent.meaning import Meaning
from tests.independent.reader import Node, Reader
from tests.independent.selection import Unclear
from tests.independent.tokens import Scope, Token
from tests.independent.truth import Truth

ALONG = re.compile(
    r"(?:(k(?:\.\w+)?) = (\d+)(?:(, and no other)| is (in|outside|not) (.*))|no (k(?:\.\w+)?) is allowed)$"
)
SELECTED = re.compile(
    r"(?:query (?P<query>\d+)|group (?P<group>\d+) of `(?P<by>\w+)`|the queries|group \d+ of the queries) selected "
    r"(?:no (?:key|group)|(?:key|group)s? (?P<chosen>[\d, ]+?))(?P<more> and \d+ more)?(?: of `(?P<of>\w+)`)?; "
    r"(?:this is key|the key is in group) (?P<key>-?\d+)$"
)


def check_explained(mask: maskdsl.Mask, truth: Truth, random: Random, count: int = 2) -> None:
    """Of some pairs, those that attend as often as others."""
    for _ in range(count):
        wanted = np.argwhere(truth.attends == (random.random() < 0.5))
        if len(wanted):
            batch, head, query, key = random.choice(wanted.tolist())
            found = mask.explain(query, key, head=head, batch=batch, **truth.relation)
            with suppress(Unclear):  # of routes that decide no pair
                Explained(truth.meaning, batch, head).check(found)


class Explained:
    """The second meaning, at one head of one entry of the batch."""

    def __init__(self, meaning: Meaning, batch: int, head: int) -> None:
        self.meaning, self.batch, self.head = meaning, batch, head

    def check(self, found: Explanation) -> None:
        meaning = self.meaning
        meaning.at(self.head, self.batch)
        q, k = meaning.tokens["q"][found.query], meaning.tokens["k"][found.key]
        say(found.attends == meaning.attends(q, k), f"{found.verdict}")
        for name, values, token in (("query", found.query_values, q), ("key", found.key_values, k)):
            for coordinate, value in values.items():
                own = self.coordinate(token, coordinate)
                say(own is None or value == own, f"{name} {token.i}: {coordinate} = {value}, not {own}")
        for own, each in zip(meaning.branches, found.branches, strict=True):
            Explained(own, self.batch, self.head).check(each)
        for kind in ("attend", "require"):
            lines = [each for each in found.lines if each.kind == kind]
            statements = [each for each in meaning.pattern.statements if each[0] == kind]
            asked = kind == "attend" or any(each.reason.holds for each in found.lines if each.kind == "attend")
            for line, statement in zip(lines, statements, strict=False):
                if asked:  # a line may assume what those before it say
                    self.check_reason(line.reason, statement, statement[1], q, k)
                asked = asked and (kind == "attend" or line.reason.holds)
            for line in lines[len(statements) :]:
                empty = not all(meaning.within(each.space, each.number) for each in (q, k))
                say(empty and not line.reason.holds, f"{line.reason.text}: {line.reason.because}")

    def coordinate(self, token: Token, name: str) -> object:
        """The value of a coordinate, or of an expression that lines compute of one token; None of sets of rows."""
        route = self.meaning.route(name)
        if route is not None and route[2][1] == "balanced":
            return None
        scope = Scope(self.meaning.parameters, token=token, bare=True)
        return plain(self.meaning.value(Reader(name).expression(), scope))

    def check_reason(self, reason: Reason, statement: Node, node: Node, q: Token, k: Token) -> None:
        value = self.value(statement, node, q, k)
        if value is None:  # reads outside of a table, where nobody asks
            return
        say(reason.holds == value, f"query {q.i}, key {k.i}: {reason.text} is {value}")
        along = [each for each in reason.operands if ALONG.match(each.text)]
        others = [each for each in reason.operands if each not in along]
        if along:
            say(all(each.holds for each in along) == value, f"query {q.i}, key {k.i}: {along} but {value}")
        texts = [each.text for each in along if all(other.holds for other in along if other is not each)]
        for text in (*texts, reason.because):
            self.check_along(text, statement, node, q, k)
        self.check_selected(reason, node, q, k)
        for each in others:
            self.check_reason(each, statement, Reader(each.text).expression(), q, k)

    def value(self, statement: Node, node: Node, q: Token, k: Token) -> bool | None:
        try:
            return bool(self.meaning.value(node, self.meaning.pair(q, k, statement)))
        except AssertionError:
            return None

    def check_along(self, text: str, statement: Node, node: Node, q: Token, k: Token) -> None:
        """The keys that a query attends along an axis."""
        found = ALONG.match(text)
        if found is None or node[0] not in ("call", "name", "each"):
            return
        name, index, only, word, phrase, nothing = found.groups()
        axis = (name or nothing).removeprefix("k").removeprefix(".") or "i"
        line = [each for each in self.meaning.tokens["k"] if axis == "i" or self.beside(each, k, axis)]
        values = [self.value(statement, node, q, each) for each in line]
        numbers = [self.meaning.coordinate(each, axis) for each in line]
        expected = {number for number, value in zip(numbers, values, strict=True) if value}
        if None in values:
            return
        if index is not None:
            say(int(index) == self.meaning.coordinate(k, axis), f"query {q.i}, key {k.i}: {text}")
            say(only is not None or (word == "in") == (int(index) in expected), f"query {q.i}, key {k.i}: {text}")
        listed = set() if nothing else {int(index)} if only else numbers_of(phrase)
        say(listed == expected, f"query {q.i}, key {k.i}: {text}, not {sorted(expected)}")  # type: ignore[type-var]

    def beside(self, token: Token, key: Token, axis: str) -> bool:
        """Whether a token differs from a key along one axis at most."""
        others = [each for each in key.cell if each != axis]
        return token.space == key.space and all(token.cell[each] == key.cell[each] for each in others)

    def check_selected(self, reason: Reason, node: Node, q: Token, k: Token) -> None:
        """The groups that a route selected."""
        route = self.meaning.route(node[1]) if node[0] == "name" else None
        found = SELECTED.match(reason.because)
        if route is None or found is None:
            return
        where, by = f"query {q.i}, key {k.i}: {reason.because}", found["of"] or "i"
        for number, name in ((found["query"], "i"), (found["group"], found["by"])):
            say(number is None or int(number) == plain(self.meaning.coordinate(q, name)), where)
        say(int(found["key"]) == plain(self.meaning.coordinate(k, by)), where)
        chosen = {int(each) for each in (found["chosen"] or "").split(", ") if each}
        for token in self.meaning.tokens["k"]:
            if self.meaning.has(token, by):
                is_listed = plain(self.meaning.coordinate(token, by)) in chosen
                selected = self.meaning.selected(route, q, token)
                say(is_listed == selected or (selected and found["more"] is not None), f"{where}, and key {token.i}")


def numbers_of(phrase: str) -> set[int]:
    """Of `0 to 2 or 5`, or `0, 4, ..., 60`."""
    if ", ..., " in phrase:
        start, last = phrase.split(", ..., ")
        first, second = map(int, start.split(", "))
        return set(range(first, int(last) + 1, second - first))
    runs = [each.split(" to ") for each in phrase.split(" or ")]
    return {number for run in runs for number in range(int(run[0]), int(run[-1]) + 1)}


def say(holds: bool, what: str) -> None:
    if not holds:
        raise Differs(f"explained: {what}")
