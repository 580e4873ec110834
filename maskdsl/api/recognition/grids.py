"""Guesses relations of tokens on a grid, one relation for each axis, as text of the language. Callers verify them.

A grid lies row by row, in tiles one after the other, or along Morton's curve; each of its cells may hold several tokens
that attend alike; tokens that attend everything may stand before or after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, reduce
from itertools import product
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

from maskdsl.api.recognition.bands import BandAxis, Pairs
from maskdsl.api.recognition.guesses import Tokens, first_relation
from maskdsl.api.recognition.lines import run_length
from maskdsl.base.records import dataclass

_NAMES = {1: ("block",), 2: ("y", "x"), 3: ("t", "y", "x")}
_LENGTHS = {"t": "frames", "y": "h", "x": "w", "block": "count"}
"""The parameters that are the lengths of axes."""
_ALL = "all -> all"
_CALL = re.compile(r"(neighborhood|window|blocks)\((\d+)(?:, (dilation|shift) = (\d+))?, axis = \w+\)")
_DEFAULTS = {"dilation": "1", "shift": "0"}
_SAMPLE_ROWS = 10
_FEWEST_TOKENS = 4
"""The smallest grid, in tokens."""


@dataclass(frozen=True)
class TokenGrid:
    """A grid of this shape, of so many tokens a cell, after `before` and before `after` other tokens."""

    shape: tuple[int, ...]
    cell: int = 1
    before: int = 0
    after: int = 0
    is_given: bool = False
    """Whether the user said so."""
    tile: tuple[int, ...] | None = None
    """The tiles that lie one after the other, of a grid of two axes."""
    is_morton: bool = False

    @property
    def length(self) -> int:
        """The number of cells."""
        return prod(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """The coordinates."""
        return _NAMES[len(self.shape)]

    @property
    def _sizes(self) -> dict[str, int]:
        """The parameters that are lengths of axes, with their values."""
        return dict(zip((_LENGTHS[name] for name in self.names), self.shape, strict=True))

    @property
    def tokens(self) -> Tokens:
        """How it is declared."""
        if self.tile is not None:
            return self._in_tiles(self.tile)
        if self.is_morton:
            digits = "sum(i // 2 ** (2 * j{one}) % 2 * 2 ** j for j in 0 .. {bits})"
            bits = self.length.bit_length() // 2
            coordinates = (digits.format(one=" + 1", bits=bits), digits.format(one="", bits=bits))
            coords = (f"coord {name} = {text}" for name, text in zip(self.names, coordinates, strict=True))
            return Tokens({"n": self.length}, ("space tokens[n]", *coords))
        axes = [f"{name} = {_LENGTHS[name]}" for name in self.names]
        parameters = dict(self._sizes)
        if self.cell > 1:
            axes.append("inside = size")
            parameters["size"] = self.cell
        statements = [f"space grid[{', '.join(axes)}]"]
        if self.before or self.after:
            statements += ["space text[length]", f"tokens {'text ++ grid' if self.before else 'grid ++ text'}"]
            parameters["length"] = self.before or self.after
        return Tokens(parameters, tuple(statements))

    def _in_tiles(self, tile: tuple[int, ...]) -> Tokens:
        parameters = {**self._sizes, **{f"tile_{each}": size for each, size in zip("hw", tile, strict=True)}}
        axes = "row = h // tile_h, column = w // tile_w, inner_y = tile_h, inner_x = tile_w"
        coords = "coord y = row * tile_h + inner_y", "coord x = column * tile_w + inner_x"
        return Tokens(parameters, (f"space grid[{axes}]", *coords))

    def positions(self) -> NDArray[np.int64] | None:
        """The token at each cell, row by row; None where they lie row by row."""
        cells = np.arange(self.length)
        if self.tile is not None:
            (h, w), (tile_h, tile_w) = self.shape, self.tile
            tiles = cells.reshape(h // tile_h, w // tile_w, tile_h, tile_w)
            return tiles.transpose(0, 2, 1, 3).ravel()
        if self.is_morton:
            bits = range(self.length.bit_length() // 2)
            y, x = np.divmod(cells, self.shape[1])
            return np.asarray(sum((y >> j & 1) << 2 * j + 1 | (x >> j & 1) << 2 * j for j in bits))
        return None

    def relations(self, pairs: Pairs) -> Iterator[str]:
        """Guesses of the relation of all tokens, with those before and after the grid."""
        relation = _CellPairs(self, pairs).relation()
        if relation is not None:
            is_mixed = (self.before or self.after) and relation != _ALL
            yield f"text -> all or all -> text or grid -> grid where {relation}" if is_mixed else relation


@dataclass(frozen=True, eq=False)
class _CellPairs:
    """The pairs [tokens, tokens] of cells of a grid."""

    grid: TokenGrid
    pairs: Pairs

    @cached_property
    def _tokens(self) -> NDArray[np.int64]:
        """The token that stands for each cell, row by row."""
        positions = self.grid.positions()
        cells = np.arange(self.grid.length) if positions is None else positions
        return cells * self.grid.cell + self.grid.before

    def _keys(self, cells: NDArray[np.int64]) -> Pairs:
        """The cells that each of these attends: an array [cells, ...] with the axes of the grid."""
        return self.pairs[self._tokens[cells]][:, self._tokens].reshape(-1, *self.grid.shape)

    def _by_axis(self) -> list[Pairs]:
        """For each axis which of its positions attend which, if the pairs are a product: read off a line of cells."""
        shape = self.grid.shape
        relations = []
        for axis, size in enumerate(shape):
            line = [np.arange(size) if each == axis else np.full(size, shape[each] // 2) for each in range(len(shape))]
            keys = self._keys(np.ravel_multi_index(line, shape))
            relations.append(_along(keys, axis))
        return relations

    def _factors(self) -> list[Pairs] | None:
        """The relations of the axes, if a few cells attend the product of what their positions attend; else None."""
        shape, length = self.grid.shape, self.grid.length
        cells = np.linspace(0, length - 1, _SAMPLE_ROWS, dtype=np.int64)
        keys = self._keys(cells)
        sides = [_along(keys, axis) for axis in range(len(shape))]
        if not (keys.any() and np.array_equal(keys, _product(sides))):
            return None
        by_axis = self._by_axis()
        positions = np.unravel_index(cells, shape)
        expected = _product([relation[position] for relation, position in zip(by_axis, positions, strict=True)])
        return by_axis if np.array_equal(keys, expected) else None

    def relation(self) -> str | None:
        """The relations along the axes, joined, if the pairs are their product."""
        grid, by_axis = self.grid, self._factors()
        if by_axis is None:
            return None
        relations = []
        for pairs, name in zip(by_axis, grid.names, strict=True):
            relation = first_relation(pairs, BandAxis(name, is_of_grid=len(grid.shape) > 1))
            if relation is None:
                return None
            relations.append(relation)
        if len(relations) == 3 and relations[2] == _ALL and not grid.is_given:
            return None  # an image whose cells are of several tokens
        return _joined(relations, all_axes=grid.tile is None and not grid.is_morton and grid.cell == 1)


def _along(keys: Pairs, axis: int) -> Pairs:
    """Whether an entry of keys [entries, ...] has some at each position of one axis: [entries, length of the axis]."""
    return np.asarray(keys.any(tuple(each for each in range(1, keys.ndim) if each != axis + 1)))


def _product(sides: list[Pairs]) -> Pairs:
    """For each entry of the sides [entries, length of an axis] their product, [entries, ...] with all axes."""
    shaped = (
        side.reshape(len(side), *(-1 if other == axis else 1 for other in range(len(sides))))
        for axis, side in enumerate(sides)
    )
    return reduce(np.logical_and, shaped)


def _joined(relations: list[str], all_axes: bool) -> str:
    """The conjunction of one relation for each axis; where these are `all_axes`, calls of one macro become one call."""
    calls = [_CALL.fullmatch(relation) for relation in relations]
    matches = [each for each in calls if each is not None]
    if len(matches) < len(relations) or len({each[1] for each in matches}) > 1 or not all_axes:
        return " and ".join(relation for relation in relations if relation != _ALL) or _ALL
    sizes = ", ".join(each[2] for each in matches)
    option = next((each[3] for each in matches if each[3]), None)
    if option is None:
        return f"{matches[0][1]}(({sizes}))"
    options = ", ".join(each[4] or _DEFAULTS[option] for each in matches)
    return f"{matches[0][1]}(({sizes}), {option} = ({options}))"


def grids(pairs: Pairs, given: tuple[int, ...] | None) -> Iterator[TokenGrid]:
    """The grids that the tokens of pairs [heads, tokens, tokens] may form: those given, or all."""
    length = pairs.shape[1]
    if length != pairs.shape[2]:
        return
    full = np.asarray(pairs.all((0, 1)) & pairs.all((0, 2)))
    before, after = run_length(full), run_length(full[::-1])
    for first, last in dict.fromkeys(((0, 0), (before, 0), (0, after))):
        count = length - first - last
        if count < _FEWEST_TOKENS:
            continue
        if given is not None:
            yield from [TokenGrid(given, 1, first, last, is_given=True)] if prod(given) == count else []
            continue
        cell = _cell(pairs[:, first : length - last, first : length - last])
        yield from (TokenGrid(shape, 1, first, last) for shape in _shapes(count) if not _has_cells(shape, cell))
        if 1 < cell < count:
            yield from (TokenGrid(shape, cell, first, last) for shape in ((count // cell,), *_shapes(count // cell)))
    if _cell(pairs) == 1:
        yield from _out_of_order(_shapes(length) if given is None else [given])


def _has_cells(shape: tuple[int, ...], cell: int) -> bool:
    """Whether tokens along the last axis attend alike, so that a grid of fewer axes or longer cells says the same."""
    return cell % shape[-1] == 0 and (len(shape) > 2 or shape[-1] < cell)


def _cell(pairs: Pairs) -> int:
    """The number of tokens, of [heads, tokens, tokens], that attend alike everywhere: the largest."""
    borders = np.union1d(changes(pairs, 1), changes(pairs, 2))
    return gcd(pairs.shape[1], *borders.tolist())


def _shapes(length: int) -> Iterator[tuple[int, ...]]:
    """The shapes of all 2-D and 3-D grids of `length` tokens, the squarest first."""
    sides = [side for side in range(2, length // 2 + 1) if length % side == 0]
    pairs = sorted(((h, length // h) for h in sides), key=lambda pair: (abs(pair[0] - pair[1]), pair))
    yield from pairs
    triples = ((t, h, length // t // h) for t, h in product(sides, sides) if length % (t * h) == 0)
    yield from sorted((each for each in triples if each[2] > 1), key=lambda each: (abs(each[1] - each[2]), each))


def changes(pairs: Pairs, axis: int) -> NDArray[np.int64]:
    """The tokens of an axis of [heads, queries, keys] that differ from the one before them."""
    first, second = (pairs.take(range(start, pairs.shape[axis] + start - 1), axis) for start in (1, 0))
    others = tuple(n for n in range(3) if n != axis)
    return np.flatnonzero((first != second).any(others)) + 1


def _out_of_order(shapes: Iterable[tuple[int, ...]]) -> Iterator[TokenGrid]:
    """Grids of two axes whose tokens lie tile by tile, or along Morton's curve."""
    for h, w in (shape for shape in shapes if len(shape) == 2):
        if h == w and h & (h - 1) == 0:
            yield TokenGrid((h, w), is_morton=True)
        for tile_h, tile_w in product(_divisors(h), _divisors(w)):
            if tile_w < w and tile_h > 1:
                yield TokenGrid((h, w), tile=(tile_h, tile_w))


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
