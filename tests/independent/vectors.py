"""Vectors of tokens, of tables and of groups: in `dot` of a score, and as the value of a pair."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.independent import derivatives
from tests.independent.derivatives import Number, made, plain
from tests.independent.functions import walk
from tests.independent.groups import POOLINGS, pool_of, score_and_condition
from tests.independent.reader import Node
from tests.independent.tokens import Later, Scope, Token

if TYPE_CHECKING:
    from tests.independent.meaning import Meaning


def dot(meaning: "Meaning", a: Node, b: Node, scope: Scope) -> object:
    """The product of two vectors."""
    one, two = (vector(meaning, node, scope) for node in (a, b))
    x, y = plain(one), plain(two)
    return made(float(np.dot(x, y)), (one, y), (two, x))


def is_vector(meaning: "Meaning", node: Node, scope: Scope) -> bool:
    """Whether an expression is one, by its form."""
    match node:
        case ("name", "q" | "k" | "v"):
            return True
        case ("name", name):
            held = scope.names.get(name)
            return isinstance(held, Later) and is_vector(meaning, held.node, scope)
        case ("index", name, *indices):
            return name in meaning.inputs and meaning.inputs[name].ndim > len(indices)
        case ("attribute", _, name):
            return is_vector_input(meaning, name)
        case ("call", name, ((_, _), ("by", _), *_)):
            return name in POOLINGS
        case ("call", "max" | "min" | "abs", arguments):
            return any(is_vector(meaning, each, scope) for _, each in arguments)
        case (("negative" | "+" | "-" | "*" | "/"), *parts):
            return any(is_vector(meaning, each, scope) for each in parts)
        case ("if", _, first, second):
            return is_vector(meaning, first, scope) or is_vector(meaning, second, scope)
    return False


def is_vector_input(meaning: "Meaning", name: str) -> bool:
    """Whether an input has a vector for each token."""
    dims = next((each[3] for each in meaning.pattern.statements if each[:2] == ("input", name)), ())
    return len(dims) > 1 and (dims[-1] == ("name", "dim") or dims[-1][0] == "number")


def vector(meaning: "Meaning", node: Node, scope: Scope) -> object:
    """The vector that an expression is, [dim]."""

    def part(each: Node) -> object:
        return vector(meaning, each, scope) if is_vector(meaning, each, scope) else meaning.value(each, scope)

    match node:
        case ("name", "q" | "k" | "v" as name):
            return of_token(meaning, name, token_of(scope, "k" if name == "v" else name).i, meaning.head)
        case ("name", name):
            held = scope.names[name]
            return vector(meaning, held.node, Scope(held.scope.names, q=scope.q, k=scope.k, s=scope.s))
        case ("index", name, *indices):
            return row(meaning, name, tuple(int(meaning.value(each, scope)) for each in indices))
        case ("attribute", side, name):
            dims = next(each[3] for each in meaning.pattern.statements if each[:2] == ("input", name))
            return row(meaning, name, meaning.place(dims[:-1], token_of(scope, side)))
        case ("negative", inner):
            return derivatives.multiply(part(inner), -1.0)
        case ("+", first, second):
            return derivatives.add(part(first), part(second))
        case ("-", first, second):
            return derivatives.subtract(part(first), part(second))
        case ("*", first, second):
            return derivatives.multiply(part(first), part(second))
        case ("/", first, second):
            return derivatives.multiply(part(first), derivatives.divide(1.0, part(second)))
        case ("if", condition, first, second):
            chosen = first if meaning.value(condition, scope) else second
            return part(chosen) if is_vector(meaning, chosen, scope) else np.zeros(meaning.dim)
        case ("call", "abs", ((_, inner),)):
            x = part(inner)
            return made(np.abs(plain(x)), (x, np.sign(plain(x))))
        case ("call", "max" | "min" as name, ((None, first), (None, second))):
            return chosen_elements(part(first), part(second), np.maximum if name == "max" else np.minimum)
        case ("call", *_):
            return of_group(meaning, node, scope)
    raise AssertionError(node)


def token_of(scope: Scope, side: str) -> Token:
    token = {"q": scope.q, "k": scope.k}[side]
    assert token is not None
    return token


def chosen_elements(a: object, b: object, function: Callable[[Any, Any], Any]) -> object:
    """The larger or the lesser of each element."""
    x, y = np.broadcast_arrays(plain(a), plain(b))
    value = function(x, y)
    both = 0.5 if isinstance(a, Number) and isinstance(b, Number) else 1.0
    return made(value, (a, np.where(x == y, both, x == value)), (b, np.where(x == y, both, y == value)))


# Where vectors come from


def row(meaning: "Meaning", name: str, index: tuple[int, ...]) -> Number:
    """A vector of an input."""
    shape = meaning.inputs[name].shape
    assert all(0 <= each < length for each, length in zip(index, shape, strict=False)), (name, index, shape)
    return meaning.leaves.setdefault((name, index), Number(meaning.inputs[name][index]))


def of_token(meaning: "Meaning", name: str, token: int, head: int) -> Number:
    """The vector of a query, a key or a value, for one query head: a token of a call, or pooled from some."""
    given = meaning.given_vectors(name, head)
    head = head if name == "q" else meaning.shared(head)
    rows, backs = given
    leaves = [
        (meaning.leaves.setdefault((name, (meaning.batch, head, at)), Number(np.zeros(meaning.dim))), share)
        for at, share in backs[token]
    ]
    return Number(rows[token], tuple(leaves))


def of_group(meaning: "Meaning", node: Node, scope: Scope) -> object:
    """The pool of the tokens that have a coordinate in common with this one; zero where it is negative."""
    pool = pool_of(node, scope.names)
    assert pool is not None, node
    side, what, coordinate, options = pool
    inner, condition = score_and_condition(what)
    token = token_of(scope, side)
    first = int(plain(meaning.coordinate(token, coordinate)))
    last = first + int(meaning.value(options["span"], scope) if "span" in options else 1) - 1
    tokens = [each for each in meaning.tokens[side] if meaning.within(each.space, each.number)]
    members = [each for each in tokens if first <= plain(meaning.coordinate(each, coordinate)) <= last]
    if condition is not None:
        members = [each for each in members if meaning.value(condition, Scope(scope.names, token=each, bare=True))]
    heads, own = together(meaning, options["heads"], scope) if "heads" in options else [meaning.head], meaning.head
    if first < 0 or not members:
        return np.zeros_like(plain(at_token(meaning, inner, side, token, scope)))
    parts = []
    for meaning.head in heads:
        parts += [at_token(meaning, inner, side, each, scope) for each in members]
    meaning.head = own
    stacked = np.array([plain(each) for each in parts])
    value = pooled(node[1], stacked)
    match node[1]:
        case "max" | "min":
            shares = (stacked == value) / (stacked == value).sum(axis=0)
        case "sum":
            shares = np.ones(len(parts))
        case "mean":
            shares = np.full(len(parts), 1.0 / len(parts))
        case "root":
            shares = np.full(len(parts), len(parts) ** -0.5)
    return made(value, *zip(parts, shares, strict=True))


def at_token(meaning: "Meaning", node: Node, side: str, token: Token, scope: Scope) -> object:
    """A vector of one token of a side."""
    q, k = (token, scope.k) if side == "q" else (scope.q, token)
    return vector(meaning, node, Scope(scope.names, q=q, k=k, s=scope.s))


def pooled(kind: str, rows: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        match kind:
            case "max":
                return rows.max(axis=0)
            case "min":
                return rows.min(axis=0)
            case "sum":
                return rows.sum(axis=0)
            case "mean":
                return rows.sum(axis=0) / len(rows)
            case "root":
                return rows.sum(axis=0) / math.sqrt(len(rows))
            case _:
                raise AssertionError(kind)


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


# What lines have vectors


def pools_scores(meaning: "Meaning") -> bool:
    """Whether a score pools vectors, for which a call needs all tokens."""
    lines = [each for each in meaning.pattern.statements if each[0] == "score"]
    named = ((line, meaning.names_before(line)) for line in lines)
    return any(pool_of(node, names) is not None for line, names in named for node in reached(line, names))


def reached(node: Any, names: Mapping[str, Any]) -> Iterator[Node]:
    """All nodes of an expression, and of what its names stand for."""
    if isinstance(node, tuple):
        if node and isinstance(node[0], str):
            yield node
            held = names.get(node[1]) if node[0] == "name" else None
            if isinstance(held, Later):
                yield from reached(held.node, held.scope.names)
        for part in node:
            yield from reached(part, names)


def has_vectors(meaning: "Meaning") -> bool:
    """Whether scores or values multiply or add vectors."""
    lines = [each for each in meaning.pattern.statements if each[0] in ("score", "let", "value")]
    return any(each[0] == "value" or each[:2] == ("call", "dot") for line in lines for each in walk(line))
