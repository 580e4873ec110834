"""Recognizes relations of the distance between two tokens: pairs to text of the language. Imports NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.records import dataclass

Pairs = NDArray[np.bool_]
"""Which query attends which key, bool [queries, keys]."""
_MOST_BANDS = 8
"""The most bands in a relation: nobody would write more."""


@dataclass(frozen=True)
class BandAxis:
    """A coordinate, and how relations and macros are written for it."""

    name: str = "i"
    is_of_grid: bool = False
    """Whether it is one of several axes."""

    def of(self, side: str) -> str:
        """The text of the coordinate of `q` or `k`."""
        return side if self.name == "i" else f"{side}.{self.name}"

    @property
    def distance(self) -> str:
        """The text of query minus key."""
        return f"{self.of('q')} - {self.of('k')}"

    @property
    def same(self) -> str:
        """The text of query equal to key."""
        return f"{self.of('q')} == {self.of('k')}"

    def call(self, macro: str, *arguments: Any) -> str:
        """The text of a macro call for this axis."""
        words = [str(each) for each in arguments] + ([] if self.name == "i" else [f"axis = {self.name}"])
        return f"{macro}({', '.join(words)})" if words else macro


def _is_banded(pairs: Pairs) -> bool:
    return bool((pairs[1:, 1:] == pairs[:-1, :-1]).all())


def _distances(pairs: Pairs) -> NDArray[np.int64]:
    """The distances `q - k` at which queries attend, ascending, of banded pairs."""
    ahead = -np.flatnonzero(pairs[0, 1:])[::-1] - 1
    return np.concatenate([ahead, np.flatnonzero(pairs[:, 0])])


_OF_TOKENS = BandAxis()


def band_relation(pairs: Pairs, axis: BandAxis = _OF_TOKENS) -> str | None:
    """The text of the relation if it depends on the distance alone and has few bands; else None."""
    if not pairs.any() or not _is_banded(pairs):
        return None
    distances = _distances(pairs)
    most = pairs.shape[0] - 1, pairs.shape[1] - 1
    low, high = int(distances[0]), int(distances[-1])
    if high - low + 1 == len(distances):
        return _one_band(low, high, most, axis)
    return (
        _powers_of_two(distances, most, axis)
        or _strided(distances, most, axis)
        or _spread(distances, most, axis)
        or _bands(distances, axis)
    )


def _one_band(low: int, high: int, most: tuple[int, int], axis: BandAxis) -> str:
    """The text for all distances from `low` to `high`. An end at the greatest distance, in `most`, is unbounded."""
    before, behind = high >= most[0], -low >= most[1]
    match before, behind:
        case True, True:
            return "all -> all"
        case True, False:
            return axis.call("causal") if low == 0 else f"{axis.distance} >= {low}"
        case False, True:
            return f"{axis.distance} <= {high}"
        case _:
            if low == 0:
                return axis.call("backward", high + 1)
            return axis.call("window", 2 * high + 1) if low == -high else f"{low} <= {axis.distance} <= {high}"


def _powers_of_two(distances: NDArray[np.int64], most: tuple[int, int], axis: BandAxis) -> str | None:
    nonzero = distances[distances != 0]
    behind, ahead = ({1 << n for n in range(each.bit_length())} - {each + 1} for each in most)
    powers = axis.call("powers")
    with_self = f"({powers} or {axis.same})" if len(nonzero) < len(distances) else powers
    if {*nonzero.tolist()} == {*behind} and len(behind) > 2:
        return f"{axis.call('causal')} and {with_self}"
    return with_self if {*nonzero.tolist()} == {*behind} | {-each for each in ahead} and len(behind) > 2 else None


def _strided(distances: NDArray[np.int64], most: tuple[int, int], axis: BandAxis) -> str | None:
    """The macro `strided` of Sparse Transformer: the last `stride` positions, and every stride-th one before."""
    if distances[0] != 0:
        return None
    stride = int(np.flatnonzero(np.append(np.diff(distances), 2) > 1)[0])  # the first gap is after `stride` positions
    if stride < 2:
        return None
    expected = np.union1d(np.arange(stride), np.arange(0, most[0] + 1, stride))
    return axis.call("strided", stride) if np.array_equal(distances, expected) else None


def _spread(distances: NDArray[np.int64], most: tuple[int, int], axis: BandAxis) -> str | None:
    """Every step-th position of one band: the macro `dilated`."""
    step = int(np.gcd.reduce(distances))
    low, high = int(distances[0]), int(distances[-1])
    if step < 2 or len(distances) != (high - low) // step + 1:
        return None
    ends = (-most[1] if low - step < -most[1] else low), (most[0] if high + step > most[0] else high)
    band = _one_band(*ends, most, axis)
    dilated = axis.call("dilated", step)
    return dilated if band == "all -> all" else f"{dilated} and {band}"


def _bands(distances: NDArray[np.int64], axis: BandAxis) -> str | None:
    cuts = np.flatnonzero(np.diff(distances) > 1)
    lows, highs = distances[[0, *(cuts + 1)]].tolist(), distances[[*cuts, -1]].tolist()
    if len(lows) > _MOST_BANDS:
        return None
    bands = (
        f"{axis.distance} == {low}" if low == high else f"{low} <= {axis.distance} <= {high}"
        for low, high in zip(lows, highs, strict=True)
    )
    return f"({' or '.join(bands)})"
