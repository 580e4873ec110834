"""Relations of the distance between two tokens alone, as text of the language. Imports NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.bool_]
"""Which query attends which key, [queries, keys]."""
_MOST_BANDS = 8
"""More bands than these are no pattern that anybody would write."""


@dataclass(frozen=True)
class BandAxis:
    """A coordinate: how relations read it and how macros take it."""

    name: str = "i"

    @property
    def distance(self) -> str:
        return "q - k" if self.name == "i" else f"q.{self.name} - k.{self.name}"

    @property
    def same(self) -> str:
        return "q == k" if self.name == "i" else f"q.{self.name} == k.{self.name}"

    def call(self, macro: str, *arguments: Any) -> str:
        """The call of a macro for this axis; the default one is not named."""
        words = [str(each) for each in arguments] + ([] if self.name == "i" else [f"axis = {self.name}"])
        return f"{macro}({', '.join(words)})" if words else macro


def _is_banded(pairs: Pairs) -> bool:
    return bool((pairs[1:, 1:] == pairs[:-1, :-1]).all())


def _distances(pairs: Pairs) -> NDArray[np.int64]:
    """The distances `q - k` at which a query attends, ascending, of a relation of distances alone."""
    ahead = -np.flatnonzero(pairs[0, 1:])[::-1] - 1
    return np.concatenate([ahead, np.flatnonzero(pairs[:, 0])])


def band_relation(pairs: Pairs, axis: BandAxis = BandAxis()) -> str | None:  # frozen
    """The relation of distances that these pairs are; None if they are none, or one of many bands."""
    if not pairs.any() or not _is_banded(pairs):
        return None
    found = _distances(pairs)
    most = pairs.shape[0] - 1, pairs.shape[1] - 1
    low, high = int(found[0]), int(found[-1])
    if high - low + 1 == len(found):
        return _one_band(low, high, most, axis)
    return (
        _powers_of_two(found, most, axis)
        or _strided(found, most, axis)
        or _spread(found, most, axis)
        or _bands(found, axis)
    )


def _one_band(low: int, high: int, most: tuple[int, int], axis: BandAxis) -> str:
    """All distances from one to another; the furthest that there are, `most`, stand for all."""
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


def _powers_of_two(found: NDArray[np.int64], most: tuple[int, int], axis: BandAxis) -> str | None:
    apart = found[found != 0]
    behind, ahead = ({1 << n for n in range(each.bit_length())} - {each + 1} for each in most)
    powers = axis.call("powers")
    own = f"({powers} or {axis.same})" if len(apart) < len(found) else powers
    if {*apart.tolist()} == {*behind} and len(behind) > 2:
        return f"{axis.call('causal')} and {own}"
    return own if {*apart.tolist()} == {*behind} | {-each for each in ahead} and len(behind) > 2 else None


def _strided(found: NDArray[np.int64], most: tuple[int, int], axis: BandAxis) -> str | None:
    """Sparse Transformer's: the last positions, and every so many-th before."""
    if found[0] != 0:
        return None
    stride = int(np.flatnonzero(np.append(np.diff(found), 2) > 1)[0])  # one stride further is the next of them
    if stride < 2:
        return None
    all_of_it = np.union1d(np.arange(stride), np.arange(0, most[0] + 1, stride))
    return axis.call("strided", stride) if np.array_equal(found, all_of_it) else None


def _spread(found: NDArray[np.int64], most: tuple[int, int], axis: BandAxis) -> str | None:
    """Every so many-th position of a band."""
    step = int(np.gcd.reduce(found))
    low, high = int(found[0]), int(found[-1])
    if step < 2 or len(found) != (high - low) // step + 1:
        return None
    ends = (-most[1] if low - step < -most[1] else low), (most[0] if high + step > most[0] else high)
    band = _one_band(*ends, most, axis)
    dilated = axis.call("dilated", step)
    return dilated if band == "all -> all" else f"{dilated} and {band}"


def _bands(found: NDArray[np.int64], axis: BandAxis) -> str | None:
    cuts = np.flatnonzero(np.diff(found) > 1)
    lows, highs = found[[0, *(cuts + 1)]].tolist(), found[[*cuts, -1]].tolist()
    if len(lows) > _MOST_BANDS:
        return None
    parts = (
        f"{axis.distance} == {low}" if low == high else f"{low} <= {axis.distance} <= {high}"
        for low, high in zip(lows, highs, strict=True)
    )
    return f"({' or '.join(parts)})"
