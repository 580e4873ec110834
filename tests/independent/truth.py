"""All numbers of one program, from pairs one by one: what attends, the output, the log-sum-exp and all gradients."""

from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

import numpy as np

from tests.independent import numbering, pooling, vectors
from tests.independent.derivatives import Number, made, plain
from tests.independent.drawing import Drawn, arrays
from tests.independent.meaning import Meaning
from tests.independent.probabilities import Leaves, PairNumbers, Shares, SinkNumbers, shares_of
from tests.independent.reader import read
from tests.independent.rounding import Roundings, room, room_in_float32
from tests.independent.selection import is_plain, needs_others
from tests.independent.tokens import Token

DIM = 4
LARGEST = {"float64": 1e290, "float32": 1e30}
"""Gradients beyond it may leave the type where sums are in another order."""

Numbers = tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]
"""The output, the log-sum-exp, if there is one, and all gradients."""
HeadNumbers = tuple[dict[tuple[int, int], PairNumbers], list[list[SinkNumbers]], Shares]


@dataclass(frozen=True)
class Truth:
    """All numbers of one program, from pairs one by one."""

    drawn: Drawn
    inputs: dict[str, np.ndarray]
    tensors: tuple[np.ndarray, np.ndarray, np.ndarray]
    """q [batch, heads, given queries, DIM], k and v [batch, key heads, given keys, DIM]."""
    dropout: tuple[float, int] | None = None
    """The rate and the seed of calls that drop pairs."""
    of_branch: tuple["Truth", int] | None = None
    """The truth of the whole and the number of the branch, for one branch alone."""
    kind: str = "float64"
    """The type of floats in calls, which holds all of these numbers; truths are computed in float64."""

    @cached_property
    def branches(self) -> "list[Truth]":
        """Those of the branches, if there are any."""
        return [replace(self, of_branch=(self, number)) for number in range(len(self.meaning.branches))]

    @property
    def options(self) -> dict[str, float]:
        """Of calls, beside their tensors."""
        return {} if self.dropout is None else dict(zip(("dropout_p", "seed"), self.dropout, strict=True))

    def held(self, x: np.ndarray) -> np.ndarray:
        """An array as calls get it."""
        return x.astype(self.kind) if x.dtype.kind == "f" else x

    @property
    def has_sums(self) -> bool:
        """Whether there are log-sum-exps."""
        return all(each.normalize == ("softmax", "q") for each in self.meaning.branches or [self.meaning])

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
        found.vectors, found.tensors = pooling.vectors(found, self.tensors), self.tensors
        return found

    @property
    def has_plain_routes(self) -> bool:
        """Whether all routes of the pattern and of its branches are plain."""
        each = (self.meaning, *self.meaning.branches)
        return all(is_plain(meaning, route) for meaning in each for route in meaning.routes)

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
        """Whether a plain route cannot be found for these queries of each batch entry alone."""
        if self.branches:
            return any(each.misses_queries(rows) for each in self.branches)
        routes = self.meaning.routes if self.of_branch is None else self.meaning.used_routes
        for entry, present in enumerate(rows):
            for head in range(self.drawn.heads):
                self.meaning.at(head, entry)
                plain = (route for route in routes if is_plain(self.meaning, route))
                if any(needs_others(self.meaning, route, {*present}) for route in plain):
                    return True
        return False

    @cached_property
    @np.errstate(all="ignore")
    def of_heads(self) -> dict[tuple[int, int], HeadNumbers] | None:
        """The pairs, sinks and probabilities of each batch entry and head; None as of `shares_of`."""
        meaning, found = self.meaning, dict[tuple[int, int], HeadNumbers]()
        for batch, head in np.ndindex(self.drawn.batch, self.drawn.heads):
            meaning.at(head, batch)
            pairs = {
                (row, column): self.pair(meaning.tokens["q"][row], meaning.tokens["k"][column])
                for row, column in np.argwhere(self.attends[batch, head]).tolist()
            }
            sinks = [self.sinks(query) for query in meaning.tokens["q"]]
            shares = shares_of(meaning.normalize, self.attends[batch, head], pairs, sinks)
            if shares is None:
                return None
            found[batch, head] = pairs, sinks, shares
        return found

    @cached_property
    @np.errstate(all="ignore")
    def numbers(self) -> Numbers | None:
        """The output, the log-sum-exp and all gradients along `grads`; None where a score is NaN or plus infinity."""
        if self.branches:
            return self.sum_of_branches()
        if self.of_heads is None or (self.kind == "float32" and self.roundings is None):
            return None
        grad_out, grad_lse = self.grads
        out, lse = np.zeros_like(grad_out), np.full(grad_lse.shape, -np.inf)
        found = self.zeros()
        for (batch, head), (pairs, sinks, shares) in self.of_heads.items():
            lse[batch, head] = shares.lse
            outer = grad_out[batch, head]
            for (row, column), pair in pairs.items():
                out[batch, head, row] += shares.p[row, column] * pair.factor * plain(pair.given)
            along = np.zeros(shares.p.shape)
            for (row, column), pair in pairs.items():
                along[row, column] = plain(pair.given) @ outer[row]
            slopes = shares.slopes(pairs, along, grad_lse[batch, head])
            for (row, column), pair in pairs.items():
                p = shares.p[row, column]
                pair.add_gradients(found, slopes[row, column], p * pair.dropped * along[row, column])
                if isinstance(pair.given, Number):
                    pair.add(found, pair.given.gradients(p * pair.factor * outer[row]))
            for row, own in enumerate(sinks):
                for share, sink in zip(shares.sinks[row], own, strict=True):
                    slope = share * (grad_lse[batch, head, row] - outer[row] @ out[batch, head, row])
                    sink.add(found, sink.score.gradients(slope) if slope else {})
        if not all((np.abs(x) < LARGEST[self.kind]).all() for x in found.values()):
            return None
        return out, None if self.meaning.normalize != ("softmax", "q") else lse, found

    def zeros(self) -> dict[str, np.ndarray]:
        """For the gradients of tensors and inputs."""
        found = {name: np.zeros_like(x) for name, x in zip("qkv", self.tensors, strict=True)}
        return found | {name: np.zeros(x.shape) for name, x in self.inputs.items() if name in self.meaning.learned}

    @cached_property
    def rooms(self) -> Numbers:
        """How far results may be from `numbers`, for sums in another order and, in float32, for all that is rounded."""
        assert self.numbers is not None
        out, lse, grads = self.numbers
        if self.kind == "float64":
            return room(out), None if lse is None else room(lse), {name: room(x) for name, x in grads.items()}
        assert self.roundings is not None
        bounds, terms = self.roundings, max(self.attends.shape[2:])
        found = {name: room_in_float32(x, bounds.grads[name], terms) for name, x in grads.items()}
        sums = None if lse is None else room_in_float32(lse, bounds.lse, terms)
        return room_in_float32(out, bounds.out, terms), sums, found

    @cached_property
    def roundings(self) -> Roundings | None:
        """How far roundings of float32 may take each of the numbers; None where these leave its range."""
        if self.branches:
            each = [truth.roundings for truth in self.branches]
            known = [one for one in each if one is not None]
            return Roundings.of_branches(known) if len(known) == len(each) else None
        found = Roundings(*map(np.zeros_like, self.grads), self.zeros())
        for at, numbers in (self.of_heads or {}).items():
            if not found.add_head(at, *numbers, *(x[at] for x in self.grads)):
                return None
        return found

    def sum_of_branches(self) -> Numbers | None:
        """Sums of outputs and gradients, and the log-sum-exp of each branch, [batch, branches, heads, queries]."""
        each = [truth.numbers for truth in self.branches]
        known = [numbers for numbers in each if numbers is not None]
        if len(known) < len(each):
            return None
        outs, lses, grads = zip(*known, strict=True)
        have_sums = [lse for lse in lses if lse is not None]
        lse = np.stack(have_sums, axis=1) if len(have_sums) == len(lses) else None
        return sum(outs), lse, {name: sum(one[name] for one in grads) for name in grads[0]}

    def pair(self, query: Token, key: Token) -> PairNumbers:
        meaning = self.meaning
        leaves: Leaves = {}
        meaning.leaves = leaves
        q, k, v = (
            vectors.of_token(meaning, name, token.i, meaning.head)
            for name, token in (("q", query), ("k", key), ("v", key))
        )
        score = meaning.score(query, key, made(float(q.value @ k.value), (q, k.value), (k, q.value)), DIM)
        given = meaning.value_of(query, key)
        return PairNumbers(
            score, meaning.weight(query, key), v if given is None else given, self.kept(query, key), leaves
        )

    def kept(self, query: Token, key: Token) -> float:
        """What dropout makes of a pair: 0 where it is dropped."""
        if self.dropout is None:
            return 1.0
        rate, seed = self.dropout
        is_kept = numbering.random(seed, self.meaning.batch, self.meaning.head, query.i, key.i) >= rate * 2**31
        return is_kept / (1.0 - rate)

    def sinks(self, query: Token) -> list[SinkNumbers]:
        leaves: Leaves = {}
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
        if not self.has_sums:
            outer_lse[:] = 0.0
        return rounded(outer, self.kind), rounded(outer_lse, self.kind)


def rounded(x: np.ndarray, kind: str) -> np.ndarray:
    """Floats that a type holds, in float64: finite ones stay finite."""
    most = np.finfo(kind).max
    return np.where(np.isfinite(x), x.clip(-most, most).astype(kind), x) if x.dtype.kind == "f" else x


def truth_of(drawn: Drawn, seed: int, infinite: bool = True, kind: str = "float64") -> Truth:
    """Of tensors of a seed, which are NaN and infinite where nobody attends, if they may be."""
    inputs = {name: rounded(x, kind) for name, x in arrays(drawn, seed).items()}
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
    chance = Random(f"{seed} drops pairs")
    dropout = (chance.choice([0.1, 0.5, 0.9]), chance.randint(-9, 2**40)) if chance.random() < 0.15 else None
    q, k, v = (rounded(x, kind) for x in (q, k, v))
    found = Truth(drawn, inputs, (q, k, v), dropout, kind=kind)
    reads_all = any(vectors.pools_scores(each) for each in (meaning, *meaning.branches))
    hides = infinite and not meaning.finds and random.random() < 0.4 and not reads_all
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
            _, backs = pooling.pooled(truth.meaning, side, (q if side == "q" else k)[entry, 0])
            for token, back in enumerate(backs):
                for row, _ in back:
                    used[entry, :, row] |= by[entry, :, token]
    q[~asked] = random.choice([np.nan, np.inf])
    for x in (k, v):
        x[~given] = random.choice([np.nan, np.inf, -np.inf])
    return q, k, v
