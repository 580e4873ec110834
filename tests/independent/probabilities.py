"""From the scores of pairs to their probabilities, and back: how `normalize` and sinks share out a query, or a key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.independent.derivatives import Number, plain

Leaves = dict[tuple[str, tuple[int, ...]], Number]
"""Elements and vectors of inputs and tensors, by name and index."""


@dataclass(frozen=True)
class PairNumbers:
    """The final score of a pair, its weight, the vector that it adds, and what dropout makes of it."""

    score: Number
    weight: object
    given: object
    dropped: float
    leaves: Leaves

    @property
    def factor(self) -> float:
        """What its probability is multiplied by."""
        return float(plain(self.weight)) * self.dropped

    def add(self, found: Mapping[str, np.ndarray], gradients: Mapping[Number, Any]) -> None:
        """Adds gradients to those of the inputs and tensors that were read."""
        add(self.leaves, found, gradients)

    def add_gradients(self, found: Mapping[str, np.ndarray], by_score: float, by_weight: float) -> None:
        if by_score:
            self.add(found, self.score.gradients(by_score))
        if isinstance(self.weight, Number):
            self.add(found, self.weight.gradients(by_weight))


@dataclass(frozen=True)
class SinkNumbers:
    """The score of a sink, and what the sinks of its query read."""

    score: Number
    leaves: Leaves

    def add(self, found: Mapping[str, np.ndarray], gradients: Mapping[Number, Any]) -> None:
        """As `PairNumbers.add`."""
        add(self.leaves, found, gradients)


def add(leaves: Leaves, found: Mapping[str, np.ndarray], gradients: Mapping[Number, Any]) -> None:
    for (name, index), leaf in leaves.items():
        if leaf in gradients:
            found[name][index] += gradients[leaf]


Pairs = Mapping[tuple[int, int], PairNumbers]


@dataclass(frozen=True)
class Shares:
    """Probabilities [queries, keys], those of the sinks of each query, and log-sum-exps."""

    kind: tuple[str, str | None]
    p: np.ndarray
    sinks: list[np.ndarray]
    lse: np.ndarray

    def slopes(self, pairs: Pairs, along: np.ndarray, lse_grads: np.ndarray) -> np.ndarray:
        """Gradients of the scores, from products of what pairs add with the gradient of the output, [queries, keys]."""
        flowing = np.zeros(self.p.shape)
        for at, pair in pairs.items():
            flowing[at] = along[at] * pair.factor
        if self.kind[0] == "none":
            return flowing
        axis = 0 if self.kind[1] == "k" else 1
        found = flowing - (self.p * flowing).sum(axis=axis, keepdims=True)
        if axis:
            found = found + lse_grads[:, None]
        return np.where(self.p == 0, 0.0, self.p * found)

    def errors(self, of_scores: np.ndarray, of_sinks: list[np.ndarray]) -> "Errors":
        """What errors of scores and of sinks do, and one rounding of each result."""
        size = np.abs(self.p)
        if self.kind[0] == "none":
            return Errors(of_scores, self.sinks, 0.0)
        by_key = self.kind[1] == "k"
        known = np.where(size > 0, of_scores, 0.0)
        total = (size * known).sum(axis=0 if by_key else 1, keepdims=True)
        if by_key:
            return Errors(size * (1 + known + total), self.sinks, 0.0)
        own = [np.where(share > 0, each, 0.0) for share, each in zip(self.sinks, of_sinks, strict=True)]
        total[:, 0] += [share @ each for share, each in zip(self.sinks, own, strict=True)]
        sinks = [share * (1 + each + x) for share, each, x in zip(self.sinks, own, total[:, 0], strict=True)]
        lse = np.where(np.isfinite(self.lse), 1 + np.abs(self.lse) + total[:, 0], 0.0)
        return Errors(size * (1 + known + total), sinks, lse)

    def errors_of_slopes(
        self, flowing: np.ndarray, of_flowing: np.ndarray, lse_grads: np.ndarray, errors: "Errors"
    ) -> np.ndarray:
        """Those of `slopes`, by those of probabilities and of what they are multiplied by."""
        if self.kind[0] == "none":
            return of_flowing
        axis, size = (0 if self.kind[1] == "k" else 1), np.abs(flowing)
        through = size + (self.p * size).sum(axis=axis, keepdims=True)
        rest = of_flowing + (errors.p * size + self.p * of_flowing).sum(axis=axis, keepdims=True)
        if axis:
            through, rest = (x + np.abs(lse_grads)[:, None] for x in (through, rest))
        return errors.p * through + self.p * rest


@dataclass(frozen=True)
class Errors:
    """Of probabilities [queries, keys], of those of the sinks of each query, and of log-sum-exps."""

    p: np.ndarray
    sinks: list[np.ndarray]
    lse: np.ndarray | float


def shares_of(
    kind: tuple[str, str | None], attends: np.ndarray, pairs: Pairs, sinks: list[list[SinkNumbers]]
) -> Shares | None:
    """None where a score is NaN or plus infinity, where one that is no exponent is infinite, and for such weights."""
    scores = np.full(attends.shape, -np.inf)
    for at, pair in pairs.items():
        scores[at] = pair.score.value
    extra = [np.array([each.score.value for each in own], dtype=float) for own in sinks]
    ends = np.concatenate([scores.flatten(), *extra])
    if (
        np.isnan(ends).any()
        or (ends == np.inf).any()
        or not np.isfinite([pair.factor for pair in pairs.values()]).all()
    ):
        return None
    nothing = np.full(len(attends), np.nan)
    if kind[0] == "none":
        if not np.isfinite(scores[attends]).all():
            return None
        return Shares(kind, np.where(attends, scores, 0.0), extra, nothing)
    if kind[1] == "k":
        return Shares(
            kind, np.array([softmax(column)[0] for column in scores.T]).reshape(scores.T.shape).T, extra, nothing
        )
    whole = [softmax(np.concatenate([row, own])) for row, own in zip(scores, extra, strict=True)]
    p = np.array([each[: len(row)] for (each, _), row in zip(whole, scores, strict=True)]).reshape(scores.shape)
    rest = [each[scores.shape[1] :] for each, _ in whole]
    return Shares(kind, p, rest, np.array([lse for _, lse in whole]))


def softmax(ends: np.ndarray) -> tuple[np.ndarray, float]:
    """Shares and the log-sum-exp: zeros and minus infinity where there is nothing but minus infinity."""
    highest = ends.max(initial=-np.inf)
    if highest == -np.inf:
        return np.zeros(len(ends)), -np.inf
    shares = np.exp(ends - highest)
    return shares / shares.sum(), highest + np.log(shares.sum())
