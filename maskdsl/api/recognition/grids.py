"""Guesses relations of tokens on a grid, one relation for each axis, as text of the language. Callers verify them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, product
from math import prod

import numpy as np

from maskdsl.api.recognition.bands import BandAxis, Pairs
from maskdsl.api.recognition.lines import line_relations

NAMES = {2: ("y", "x"), 3: ("t", "y", "x")}
_CALL = re.compile(r"(neighborhood|window|blocks)\((\d+)(?:, (dilation|shift) = (\d+))?, axis = \w+\)")
_DEFAULTS = {"dilation": "1", "shift": "0"}
_MOST_GUESSES = 16


def shapes(length: int) -> Iterator[tuple[int, ...]]:
    """The shapes of all 2-D and 3-D grids of `length` tokens, the squarest first."""
    sides = [side for side in range(2, length // 2 + 1) if length % side == 0]
    pairs = sorted(((h, length // h) for h in sides), key=lambda pair: (abs(pair[0] - pair[1]), pair))
    yield from pairs
    triples = ((t, h, length // t // h) for t, h in product(sides, sides) if length % (t * h) == 0)
    yield from sorted((each for each in triples if each[2] > 1), key=lambda each: (abs(each[1] - each[2]), each))


def grid_relations(pairs: Pairs, shape: tuple[int, ...]) -> Iterator[str]:
    """Guesses of the relation of these pairs, if the tokens form this grid in row-major order."""
    names, rank = NAMES[len(shape)], len(shape)
    if not all(_is_product(pairs[row].reshape(shape)) for row in (0, len(pairs) // 2)):
        return
    whole = pairs.reshape(*shape, *shape)
    by_axis = [np.asarray(whole.any(tuple(n for n in range(2 * rank) if n % rank != axis))) for axis in range(rank)]
    guesses = [[*line_relations(each, BandAxis(name))] for each, name in zip(by_axis, names, strict=True)]
    for relations in islice(product(*guesses), _MOST_GUESSES):
        yield _joined(relations)


def _is_product(row: Pairs) -> bool:
    """Whether the keys of a query are a product of sets, one of each axis."""
    sides = [row.any(tuple(n for n in range(row.ndim) if n != axis)) for axis in range(row.ndim)]
    return int(row.sum()) == prod(int(side.sum()) for side in sides) and bool(row.any())


def _joined(relations: tuple[str, ...]) -> str:
    """The conjunction of one relation for each axis; calls of one macro are joined into one call."""
    calls = [_CALL.fullmatch(relation) for relation in relations]
    matches = [each for each in calls if each is not None]
    if len(matches) < len(relations) or len({each[1] for each in matches}) > 1:
        return " and ".join(relation for relation in relations if relation != "all -> all") or "all -> all"
    sizes = ", ".join(each[2] for each in matches)
    option = next((each[3] for each in matches if each[3]), None)
    if option is None:
        return f"{matches[0][1]}(({sizes}))"
    options = ", ".join(each[4] or _DEFAULTS[option] for each in matches)
    return f"{matches[0][1]}(({sizes}), {option} = ({options}))"
