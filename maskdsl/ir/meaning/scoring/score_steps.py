"""Reference semantics of the steps of scores and of selection, on NumPy arrays of all heads.

Scores are [heads, query groups, key groups], float64. `candidates` are bools of the same shape.
"""

from typing import assert_never

import numpy as np

from maskdsl.ir.ops import Array
from maskdsl.ir.routes import Above, Selector, TopCount, TopMass
from maskdsl.ir.values.group_scores import Extent
from maskdsl.ir.values.token_vectors import PoolKind


def _rows_of(x: Array, per: Extent) -> Array:
    """[rows, pairs]: the pairs that compete, a row each."""
    match per:
        case Extent.QUERY:
            return x.reshape(-1, x.shape[-1])
        case Extent.KEY:
            return x.swapaxes(1, 2).reshape(-1, x.shape[1])
        case Extent.KEY_OF_ALL_HEADS:
            return np.moveaxis(x, 2, 0).reshape(x.shape[2], -1)
        case Extent.HEAD:
            return x.reshape(len(x), -1)
        case Extent.BATCH:
            return x.reshape(1, -1)
        case _:
            assert_never(per)


def _from_rows(rows: Array, per: Extent, shape: tuple[int, int, int]) -> Array:
    """[heads, query groups, key groups], from the rows of `_rows_of`."""
    if per is Extent.KEY:
        return rows.reshape(shape[0], shape[2], shape[1]).swapaxes(1, 2)
    if per is Extent.KEY_OF_ALL_HEADS:
        return np.moveaxis(rows.reshape(shape[2], *shape[:2]), 0, 2)
    return rows.reshape(shape)


def softmax(scores: Array, candidates: Array, per: Extent) -> Array:
    """The shares of candidates; zero elsewhere, and for scores of minus infinity or NaN."""
    fitting = candidates & (scores > -np.inf)
    rows = _rows_of(np.where(fitting, scores, -np.inf), per)
    weights = np.stack([_weights(row) for row in rows])
    sums = weights.sum(axis=1, keepdims=True)
    return _from_rows(np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0), per, scores.shape)


def _weights(scores: Array) -> Array:
    """The exponentials of scores less the largest; infinite scores weigh the same, and those of minus infinity zero."""
    largest = scores.max(initial=-np.inf)
    with np.errstate(invalid="ignore"):
        differences = np.where(scores == largest, 0, scores - largest)
    return np.asarray(np.where(scores > -np.inf, np.exp(differences), 0))


def extreme(scores: Array, candidates: Array, kind: PoolKind, per: Extent) -> Array:
    """The least or the largest score of all candidates that are not NaN, at each of them; NaN where there is none."""
    fitting = candidates & ~np.isnan(scores)
    rows = _rows_of(np.where(fitting, scores, np.nan), per)
    some = ~np.isnan(rows).all(axis=1)
    result = np.full(len(rows), np.nan)
    result[some] = (np.nanmin if kind is PoolKind.MIN else np.nanmax)(rows[some], axis=1)
    return _from_rows(np.broadcast_to(result[:, None], rows.shape), per, scores.shape)


def gathered(scores: Array, candidates: Array, kind: PoolKind, queries: Array, keys: Array) -> tuple[Array, Array]:
    """Scores and candidates of other groups; `queries` and `keys` say which groups, bool [groups, other groups]."""
    shape = len(scores), queries.shape[1], keys.shape[1]
    result, fitting = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for head, query, key in np.ndindex(shape):
        here = np.ix_(queries[:, query], keys[:, key])
        members = scores[head][here][candidates[head][here]]
        if len(members):
            result[head, query, key], fitting[head, query, key] = _pooled_score(members, kind), True
    return result, fitting


def _pooled_score(members: Array, kind: PoolKind) -> float:
    """One score of several."""
    match kind:
        case PoolKind.MEAN:
            return float(members.mean())
        case PoolKind.SUM:
            return float(members.sum())
        case PoolKind.MAX:
            return float(members.max())
        case PoolKind.MIN:
            return float(members.min())
        case PoolKind.ROOT:
            return float(members.sum() / np.sqrt(len(members)))
        case _:
            assert_never(kind)


def of_heads(scores: Array, candidates: Array, kind: PoolKind, numbers: Array) -> tuple[Array, Array]:
    """Scores and candidates of heads of equal number together, at each of these heads."""
    result, fitting = np.full(scores.shape, np.nan), np.zeros(scores.shape, dtype=bool)
    for head, query, key in np.ndindex(scores.shape):
        heads = (numbers == numbers[head]) & candidates[:, query, key]
        if heads.any():
            result[head, query, key], fitting[head, query, key] = _pooled_score(scores[heads, query, key], kind), True
    return result, fitting


def selected(scores: Array, candidates: Array, always: Array, selector: Selector, arguments: Array) -> Array:
    """Which pairs are selected. `always` has no groups without tokens. `arguments` are those of the selector."""
    candidates = candidates & (scores > -np.inf)  # false for NaN too
    per = selector.per
    rows = zip(*(_rows_of(each, per) for each in (scores, candidates, always, arguments)), strict=True)
    match selector:
        case TopCount():
            chosen = [_best(row, fitting, forced, int(count[0])) for row, fitting, forced, count in rows]
        case TopMass(weighs=weighs, reach=reach):
            chosen = [
                _heaviest(row, _shares(row, fitting, weighs), fitting, forced, float(mass[0]), reach)
                for row, fitting, forced, mass in rows
            ]
        case Above():
            chosen = [forced | (fitting & (row > threshold)) for row, fitting, forced, threshold in rows]
        case _:
            assert_never(selector)
    return _from_rows(np.stack(chosen), per, scores.shape)


def _by_score(scores: Array, candidates: Array) -> Array:
    """The positions of candidates, from the highest score down, ties to the lower position."""
    order = np.argsort(-scores, kind="stable")
    return np.asarray(order[candidates[order]])


def _best(scores: Array, candidates: Array, forced: Array, count: int) -> Array:
    chosen = forced.copy()
    room = max(count - int(forced.sum()), 0)
    chosen[_by_score(scores, candidates & ~forced)[:room]] = True
    return chosen


def _shares(scores: Array, candidates: Array, weighs: bool) -> Array:
    """What candidates weigh, before they are divided by the sum."""
    if weighs:
        return np.where(candidates, np.maximum(scores, 0), 0)
    return _weights(np.where(candidates, scores, -np.inf))


def _heaviest(scores: Array, weights: Array, candidates: Array, forced: Array, mass: float, reach: bool) -> Array:
    """The fewest candidates of this share of the weights, or (not `reach`) the most that stay within it."""
    whole = weights.sum()
    if not whole > 0:
        return forced | candidates
    chosen, taken = forced.copy(), weights[forced].sum()
    order = _by_score(scores, candidates & ~forced)
    after = taken + np.cumsum(weights[order])
    before = after - weights[order]
    fits = (before < mass * whole) if reach else (after <= mass * whole)
    if not reach and not forced.any():
        fits[:1] = True
    chosen[order[fits]] = True
    return chosen
