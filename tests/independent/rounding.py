"""How far results in float32 may be from the truth: bounds of the first order of what roundings do.

Every operation rounds once. So the error of a score is at most the sum, over all numbers that it is computed from, of
their size times the derivative by them: in units of half the distance of 1 from the next number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.independent.derivatives import Number, plain
from tests.independent.probabilities import Leaves, Pairs, Shares, SinkNumbers, add

SUMS = 1e-8
"""In float64, relative to the largest number: of sums in another order."""
UNIT = 2.0**-24
FUNCTIONS = 8
"""Roundings beside those of sums: of polynomials in place of exponentials and logarithms, of scales and quotients."""
MOST = float(np.finfo(np.float32).max)


def room(x: np.ndarray) -> np.ndarray:
    return np.full(x.shape, SUMS * largest(x))


def room_in_float32(x: np.ndarray, bound: np.ndarray, terms: int) -> np.ndarray:
    """Of results with these bounds, which are sums of so many terms: each sum may be rounded at each of its terms."""
    return (FUNCTIONS + terms) * UNIT * (largest(x) + bound)


def largest(x: np.ndarray) -> float:
    return max(1.0, float(np.abs(x[np.isfinite(x)]).max(initial=0.0)))


@dataclass(frozen=True)
class Roundings:
    """The bounds of the output, of the log-sum-exp, and of all gradients, in units of rounding."""

    out: np.ndarray
    lse: np.ndarray
    grads: dict[str, np.ndarray]

    @staticmethod
    def of_branches(each: "Sequence[Roundings]") -> "Roundings":
        grads = {name: np.sum([one.grads[name] for one in each], axis=0) for name in each[0].grads}
        return Roundings(np.sum([one.out for one in each], axis=0), np.stack([one.lse for one in each], axis=1), grads)

    @np.errstate(all="ignore")
    def add_head(
        self,
        at: tuple[int, int],
        pairs: Pairs,
        sinks: list[list[SinkNumbers]],
        shares: Shares,
        outer: np.ndarray,
        outer_lse: np.ndarray,
    ) -> bool:
        """Adds those of one head of one batch entry. False where a number leaves the range of float32."""
        outer, outer_lse = (np.nan_to_num(x) for x in (outer, outer_lse))
        of_scores, factors, of_factors, along, sizes = (np.zeros(shares.p.shape) for _ in range(5))
        for here, pair in pairs.items():
            value = np.nan_to_num(plain(pair.given))
            of_scores[here], of_factors[here] = of_number(pair.score), of_number(pair.weight) * pair.dropped
            factors[here] = abs(pair.factor)
            along[here], sizes[here] = value @ outer[here[0]] * pair.factor, np.abs(value) @ np.abs(outer[here[0]])
        of_sinks = [np.array([of_number(each.score) for each in own]) for own in sinks]
        if not all(np.isfinite(x).all() for x in (of_scores, of_factors, *of_sinks)):
            return False
        errors = shares.errors(of_scores, of_sinks)
        self.lse[at] += errors.lse
        given = errors.p * factors + np.abs(shares.p) * (factors + of_factors)
        slopes = shares.errors_of_slopes(along, sizes * (factors + of_factors), outer_lse, errors)
        for here, pair in pairs.items():
            self.out[(*at, here[0])] += given[here] * np.abs(np.nan_to_num(plain(pair.given)))
            self.add(pair.leaves, pair.given, given[here] * np.abs(outer[here[0]]))
            self.add(pair.leaves, pair.score, slopes[here])
            self.add(pair.leaves, pair.weight, (errors.p + np.abs(shares.p))[here] * pair.dropped * sizes[here])
        flows = (
            np.abs(outer_lse) + (np.abs(outer) * self.out[at]).sum(axis=1) + (shares.p * factors * sizes).sum(axis=1)
        )
        for row, own in enumerate(sinks):
            for share, error, sink in zip(shares.sinks[row], errors.sinks[row], own, strict=True):
                self.add(sink.leaves, sink.score, (share + error) * flows[row])
        return True

    def add(self, leaves: Leaves, x: object, error: Any) -> None:
        """Adds to the bounds of gradients of what a number was computed from, given that of its own gradient."""
        if isinstance(x, Number) and np.any(error):
            add(leaves, self.grads, {leaf: np.abs(slope) for leaf, slope in x.gradients(error).items()})


def of_number(x: object) -> float:
    """The bound of a float; infinite where what it is computed from leaves the range of float32."""
    if not isinstance(x, Number):
        return abs(float(plain(x)))
    found = 0.0
    for node, slope in x.gradients().items():
        size = np.abs(node.value)
        if (np.isfinite(size) & (size > MOST)).any():
            return np.inf
        parts = np.asarray(size * np.abs(slope))
        found += float(parts[np.isfinite(parts)].sum())
    return found
