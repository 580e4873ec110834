"""Relations of tokens on a grid: on every axis one of its own. As text of the language, and to be verified."""

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
    """The grids of so many tokens, of two and three axes, those like a square first."""
    sides = [side for side in range(2, length // 2 + 1) if length % side == 0]
    pairs = sorted(((h, length // h) for h in sides), key=lambda pair: (abs(pair[0] - pair[1]), pair))
    yield from pairs
    triples = ((t, h, length // t // h) for t, h in product(sides, sides) if length % (t * h) == 0)
    yield from sorted((each for each in triples if each[2] > 1), key=lambda each: (abs(each[1] - each[2]), each))


def grid_relations(pairs: Pairs, shape: tuple[int, ...]) -> Iterator[str]:
    """What these pairs may be if their tokens form this grid, row by row."""
    names, rank = NAMES[len(shape)], len(shape)
    if not all(_is_product(pairs[row].reshape(shape)) for row in (0, len(pairs) // 2)):
        return
    whole = pairs.reshape(*shape, *shape)
    own = [np.asarray(whole.any(tuple(n for n in range(2 * rank) if n % rank != axis))) for axis in range(rank)]
    guesses = [[*line_relations(each, BandAxis(name))] for each, name in zip(own, names, strict=True)]
    for parts in islice(product(*guesses), _MOST_GUESSES):
        yield _joined(parts)


def _is_product(row: Pairs) -> bool:
    """Whether the keys of a query form a box, with gaps that are the same everywhere."""
    sides = [row.any(tuple(n for n in range(row.ndim) if n != axis)) for axis in range(row.ndim)]
    return int(row.sum()) == prod(int(side.sum()) for side in sides) and bool(row.any())


def _joined(parts: tuple[str, ...]) -> str:
    """Relations on every axis; those of one macro in one call."""
    calls = [_CALL.fullmatch(part) for part in parts]
    found = [each for each in calls if each is not None]
    if len(found) < len(parts) or len({each[1] for each in found}) > 1:
        return " and ".join(part for part in parts if part != "all -> all") or "all -> all"
    sizes = ", ".join(each[2] for each in found)
    option = next((each[3] for each in found if each[3]), None)
    if option is None:
        return f"{found[0][1]}(({sizes}))"
    options = ", ".join(each[4] or _DEFAULTS[option] for each in found)
    return f"{found[0][1]}(({sizes}), {option} = ({options}))"
