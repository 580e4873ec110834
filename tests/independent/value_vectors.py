"""Vectors of tables that `value` lines add to the values of pairs: what is drawn, and what it means."""

from random import Random

import numpy as np

from tests.independent.derivatives import plain
from tests.independent.meaning import Meaning
from tests.independent.programs import Program
from tests.independent.reader import Node
from tests.independent.tokens import Token

Row = tuple[str, tuple[int, ...], float]
"""An input, the indices of a vector in it, and its factor."""


def add_values(program: Program) -> None:
    """Drawn from the text so far, so that they change nothing else of a program."""
    random = Random("values\n" + "\n".join(program.lines))
    if random.random() < 0.85:
        return
    by_head = random.random() < 0.5
    head, shape = ("head, ", (program.heads, 5, 4)) if by_head else ("", (5, 4))
    program.give("moves", "float", "heads, 5, dim" if by_head else "5, dim", shape)
    row = random.choice(["(q - k) % 5", "clamp(k - q + 2, 0, 4)", "q % 5"])
    vector = f"moves[{head}{row}]"
    factor = random.choice(["", "0.5 * ", "float(q % 3 - 1) * "])
    vector = random.choice([f"{factor}{vector}", f"({factor}{vector} if k <= q else 0.0)"])
    program.lines.append(f"value v + {vector}")


def rows(meaning: Meaning, q: Token, k: Token) -> list[Row]:
    """What is added to the value of a pair."""
    found: list[Row] = []
    for each in meaning.pattern.statements:
        if each[0] == "value":
            sign, value, vector = each[1]
            assert (sign, value) == ("+", ("name", "v"))
            found += _rows(meaning, vector, each, q, k)
    return found


def _rows(meaning: Meaning, node: Node, line: Node, q: Token, k: Token) -> list[Row]:
    scope = meaning.pair(q, k, line)
    match node:
        case ("if", condition, vector, _):
            return _rows(meaning, vector, line, q, k) if meaning.value(condition, scope) else []
        case ("*", factor, vector):
            number = float(plain(meaning.value(factor, scope)))
            return [(name, at, number * own) for name, at, own in _rows(meaning, vector, line, q, k)]
        case ("index", name, *indices):
            return [(name, tuple(int(meaning.value(each, scope)) for each in indices), 1.0)]
    raise AssertionError(node)


def moved(inputs: dict[str, np.ndarray], value: np.ndarray, given: list[Row]) -> np.ndarray:
    """The value of a key with what a pair adds."""
    return value + sum(factor * inputs[name][at] for name, at, factor in given)
