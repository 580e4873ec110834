"""Sparse inputs of random programs, as pairs, and numbers of their entries: what is drawn, and what is read."""

from random import Random
from typing import NamedTuple

import numpy as np

from tests.independent.programs import Program

SHARE = 0.12


class Edges(NamedTuple):
    """Rows, columns and entries of a sparse input."""

    rows: int
    columns: int
    count: int


def add_lists(program: Program, seed: int) -> None:
    """Drawn apart, so that they change no other program: a graph, and often numbers of its edges."""
    random = Random(f"{seed} has lists")
    if random.random() >= SHARE:
        return
    coarse = random.choice([1, 1, 3])
    rows, columns = (-(-program.length(side) // coarse) for side in "qk")
    numbers = random.random() < 0.7
    most = min(rows * columns, 3 * max(rows, columns))
    count = random.choice([0, 1, most // 4, most // 2, most])
    words = ("queries, keys" if program.crosses else "tokens, tokens") if coarse == 1 else f"{rows}, {columns}"
    program.give("edge", "sparse", words, Edges(rows, columns, count), 1 if numbers else None)
    at = "q, k" if coarse == 1 else f"q // {coarse}, k // {coarse}"
    program.truths += [f"edge[{at}]"] * 6 + [f"not edge[{at}]"]
    if rows == columns:
        program.truths.append(f"edge[{', '.join(reversed(at.split(', ')))}]")
    if numbers:
        program.give("kind", "int", "edge", (count,))
        program.truths += 2 * [
            f"(edge[{at}] and kind[{at}] > 0)",
            f"(kind[{at}] == 1 if edge[{at}] else q % 3 == k % 2)",
        ]
        program.give("length", "float", "heads, edge", (program.heads, count))
        program.reals += 2 * [f"(length[head, {at}] if edge[{at}] else 0.25)"]


def pairs(edges: Edges, once: bool, random: np.random.Generator) -> np.ndarray:
    """int64 [2, entries], in any order."""
    chosen = random.choice(edges.rows * edges.columns, edges.count, replace=not once)
    return np.array(np.divmod(chosen, edges.columns))


def entry(given: np.ndarray, row: int, column: int) -> int | None:
    """The number of the pair in the list; None if it is not there."""
    places = [n for n, pair in enumerate(given.T.tolist()) if pair == [row, column]]
    return places[0] if places else None
