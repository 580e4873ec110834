"""All numbers of one program, from pairs one by one: what attends, the output, the log-sum-exp and all gradients."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tests.independent.derivatives import Number, plain
from tests.independent.drawing import Drawn, arrays
from tests.independent.meaning import Meaning
from tests.independent.pooling import pooled, spread, vectors
from tests.independent.reader import read
from tests.independent.selection import needs_others
from tests.independent.tokens import Token
from tests.independent.value_vectors import Row, moved, rows

DIM = 4
LARGEST = 1e290
"""Gradients beyond it may leave float64 where sums are in another order."""


@dataclass(frozen=True)
class PairNumbers:
    """The final score of a pair, its product, its weight, the inputs that were read, and vectors added to the value."""

    score: Number
    dot: Number
    weight: object
    leaves: dict[tuple[str, tuple[int, ...]], Number]
    rows: list[Row]


@dataclass(frozen=True)
class SinkNumbers:
    """The score of a sink, and the inputs that the sinks of its query read."""

    score: Number
    leaves: dict[tuple[str, tuple[int, ...]], Number]


@dataclass(frozen=True)
class Truth:
    """All numbers of one program, from pairs one by one."""

    drawn: Drawn
    inputs: dict[str, np.ndarray]
    tensors: tuple[np.ndarray, np.ndarray, np.ndarray]
    """q [batch, heads, given queries, DIM], k and v [batch, key heads, given keys, DIM]."""
    of_branch: tuple["Truth", int] | None = None
    """The truth of the whole and the number of the branch, for one branch alone."""

    @cached_property
    def branches(self) -> "list[Truth]":
        """Those of the branches, if there are any."""
        return [replace(self, of_branch=(self, number)) for number in range(len(self.meaning.branches))]

    @property
    def has_sinks(self) -> bool:
        return any(each[0] == "sink" for each in self.meaning.pattern.statements)

    @cached_property
    def meaning(self) -> Meaning:
        if self.of_branch is not None:
            whole, number = self.of_branch
            return whole.meaning.branches[number]
        drawn = self.drawn
        learned = frozenset(name for name, declared in drawn.inputs.items() if declared.kind == "float")
        file = read(drawn.text, drawn.files)
        found = Meaning.of(file, drawn.heads, self.inputs, learned, values=drawn.values, key_heads=drawn.key_heads)
        found.vectors = vectors(found, self.tensors)
        return found

    @cached_property
    def relation(self) -> dict[str, np.ndarray]:
        """The inputs of the relation, as the product takes them."""
        if not any(each.routes for each in (self.meaning, *self.meaning.branches)):
            return self.inputs
        return self.inputs | dict(zip("qk", self.tensors[:2], strict=True))

    @cached_property
    def attends(self) -> np.ndarray:
        """bool [batch, heads, queries, keys]."""
        entries = range(self.drawn.batch), range(self.drawn.heads)
        return np.array([[self.meaning.dense(head, batch) for head in entries[1]] for batch in entries[0]])

    def misses_queries(self, rows: list[list[int]]) -> bool:
        """Whether a route cannot be found for these queries of each batch entry alone."""
        if self.branches:
            return any(each.misses_queries(rows) for each in self.branches)
        routes = self.meaning.routes if self.of_branch is None else self.meaning.used_routes
        for entry, present in enumerate(rows):
            for head in range(self.drawn.heads):
                self.meaning.at(head, entry)
                if any(needs_others(self.meaning, route, {*present}) for route in routes):
                    return True
        return False

    @cached_property
    @np.errstate(all="ignore")
    def numbers(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]] | None:
        """The output, the log-sum-exp and all gradients along `grads`; None where a score is NaN or plus infinity."""
        if self.branches:
            return self.sum_of_branches()
        drawn, meaning = self.drawn, self.meaning
        q, k, v = self.tensors
        grad_out, grad_lse = self.grads
        out, lse = np.zeros_like(grad_out), np.full(grad_lse.shape, -np.inf)
        found = {name: np.zeros_like(x) for name, x in (("q", q), ("k", k), ("v", v))}
        found |= {name: np.zeros(x.shape) for name, x in self.inputs.items() if name in meaning.learned}
        for batch, head in np.ndindex(drawn.batch, drawn.heads):
            meaning.at(head, batch)
            shared = head * drawn.key_heads // drawn.heads
            queries, query_backs = pooled(meaning, "q", q[batch, head])
            keys, key_backs = pooled(meaning, "k", k[batch, shared])
            values, value_backs = pooled(meaning, "k", v[batch, shared])
            for row, query in enumerate(meaning.tokens["q"]):
                columns = np.flatnonzero(self.attends[batch, head, row])
                pairs = [self.pair(query, meaning.tokens["k"][n], queries[row], keys[n]) for n in columns]
                scores = np.array([pair.score.value for pair in pairs])
                weights = np.array([plain(pair.weight) for pair in pairs], dtype=float)
                if np.isnan(scores).any() or (scores == np.inf).any() or not np.isfinite(weights).all():
                    return None
                sinks = self.sinks(query)
                ends = np.concatenate([scores, [sink.score.value for sink in sinks]])
                if np.isnan(ends).any() or (ends == np.inf).any():
                    return None
                if not len(ends) or ends.max() == -np.inf:
                    continue
                highest = ends.max()
                shares = np.exp(ends - highest)
                lse[batch, head, row] = highest + np.log(shares.sum())
                shares /= shares.sum()
                p, rest = np.split(shares, [len(columns)])
                given = [moved(self.inputs, values[n], pair.rows) for n, pair in zip(columns, pairs, strict=True)]
                attended = np.reshape(given, (len(columns), DIM))
                out[batch, head, row] = (p * weights) @ attended
                outer, outer_lse = grad_out[batch, head, row], grad_lse[batch, head, row]
                along = attended @ outer
                slopes = p * (along * weights - outer @ out[batch, head, row] + outer_lse)
                for position, (column, pair) in enumerate(zip(columns, pairs, strict=True)):
                    spread(value_backs[column], p[position] * weights[position] * outer, found["v"][batch, shared])
                    through = pair.score.gradients() if slopes[position] else {}
                    slope = through.get(pair.dot, 0.0) * slopes[position]
                    spread(query_backs[row], slope * keys[column], found["q"][batch, head])
                    spread(key_backs[column], slope * queries[row], found["k"][batch, shared])
                    for name, at, factor in pair.rows:
                        found[name][at] += factor * p[position] * weights[position] * outer
                    by_weight = pair.weight.gradients() if isinstance(pair.weight, Number) else {}
                    for (name, index), leaf in pair.leaves.items():
                        found[name][index] += through.get(leaf, 0.0) * slopes[position]
                        found[name][index] += by_weight.get(leaf, 0.0) * p[position] * along[position]
                for share, sink in zip(rest, sinks, strict=True):
                    slope = share * (outer_lse - outer @ out[batch, head, row])
                    by_score = sink.score.gradients() if slope else {}
                    for (name, index), leaf in sink.leaves.items():
                        found[name][index] += by_score.get(leaf, 0.0) * slope
        if not all((np.abs(x) < LARGEST).all() for x in found.values()):
            return None
        return out, lse, found

    def sum_of_branches(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]] | None:
        """Sums of outputs and gradients, and the log-sum-exp of each branch, [batch, branches, heads, queries]."""
        each = [truth.numbers for truth in self.branches]
        known = [numbers for numbers in each if numbers is not None]
        if len(known) < len(each):
            return None
        outs, lses, grads = zip(*known, strict=True)
        return sum(outs), np.stack(lses, axis=1), {name: sum(one[name] for one in grads) for name in grads[0]}

    def pair(self, query: Token, key: Token, q: np.ndarray, k: np.ndarray) -> "PairNumbers":
        leaves: dict[tuple[str, tuple[int, ...]], Number] = {}
        self.meaning.leaves = leaves
        score, dot = self.meaning.score(query, key, float(q @ k), DIM)
        return PairNumbers(score, dot, self.meaning.weight(query, key), leaves, rows(self.meaning, query, key))

    def sinks(self, query: Token) -> "list[SinkNumbers]":
        leaves: dict[tuple[str, tuple[int, ...]], Number] = {}
        self.meaning.leaves = leaves
        return [SinkNumbers(score, leaves) for score in self.meaning.sinks(query)]

    @cached_property
    def grads(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the output and of the log-sum-exp; NaN where a query attends nothing, as nothing flows from there."""
        if self.of_branch is not None:
            whole, number = self.of_branch
            return whole.grads[0], whole.grads[1][:, number]
        random = np.random.default_rng(7)
        batch, heads, queries, _ = self.attends.shape
        outer, outer_lse = random.normal(size=(batch, heads, queries, DIM)), random.normal(size=(batch, heads, queries))
        nothing = ~self.attends.any(axis=-1)
        if any(each.has_sinks for each in (self, *self.branches)):
            nothing[:] = False
        outer[nothing] = np.nan
        if self.branches:
            silent = [~each.attends.any(axis=-1) & (not each.has_sinks) for each in self.branches]
            nothing = np.stack(silent, axis=1)
            outer_lse = random.normal(size=nothing.shape)
        outer_lse[nothing] = np.nan
        return outer, outer_lse


def truth_of(drawn: Drawn, seed: int, infinite: bool = True) -> Truth:
    """Of tensors of a seed, which are NaN and infinite where nobody attends, if they may be."""
    inputs = arrays(drawn, seed)
    random = np.random.default_rng(seed + 1)
    meaning = Meaning.of(read(drawn.text, drawn.files), drawn.heads, inputs, values=drawn.values)
    given = {side: sum(space.size for space in meaning.given(side)) for side in "qk"}
    q = random.normal(size=(drawn.batch, drawn.heads, given["q"], DIM))
    k, v = (random.normal(size=(drawn.batch, drawn.key_heads, given["k"], DIM)) for _ in range(2))
    if random.random() < 0.3:
        q, k = np.round(q), np.round(k)  # so that there are ties
    for x in (q, k, v):
        if random.random() < 0.15:
            x[:] = x[:1] if random.random() < 0.5 else x[:, :1]  # which may be expanded
    found = Truth(drawn, inputs, (q, k, v))
    hides = infinite and not meaning.finds and random.random() < 0.4
    return replace(found, tensors=unseen(found, random)) if hides else found


def unseen(truth: Truth, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tensors with NaN and infinities in the queries that attend nothing, and the keys that nobody attends."""
    q, k, v = (x.copy() for x in truth.tensors)
    shared = truth.drawn.heads // truth.drawn.key_heads
    attended = truth.attends.any(axis=2).reshape(truth.drawn.batch, -1, shared, truth.attends.shape[-1]).any(axis=2)
    asked, given = np.zeros(q.shape[:3], dtype=bool), np.zeros(k.shape[:3], dtype=bool)
    for entry in range(truth.drawn.batch):
        truth.meaning.batch = entry
        for side, used, by in (("q", asked, truth.attends.any(axis=-1)), ("k", given, attended)):
            _, backs = pooled(truth.meaning, side, (q if side == "q" else k)[entry, 0])
            for token, back in enumerate(backs):
                for row, _ in back:
                    used[entry, :, row] |= by[entry, :, token]
    q[~asked] = random.choice([np.nan, np.inf])
    for x in (k, v):
        x[~given] = random.choice([np.nan, np.inf, -np.inf])
    return q, k, v
