"""Random calls of the kernels in C whose holes are filled: scores and weights of some forms, and what they give."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import maskdsl
from maskdsl.emit.native_scores import NativeText, native_of_terms
from maskdsl.ir.expressions import Coordinate, Expression, Score, Side, substitute
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.derive import derivative
from maskdsl.ir.rewrites.score_terms import ScoreTerms, TermKind, score_terms
from tests.support.native_cases import Array, NativeCase, drawn_cases, read, rounded
from tests.support.native_lists import LANES, ROW

FORMS = {
    "terms": (
        "score s * (1.0 + q.x) + (k.x if q.x > 0.0 else 0.5 * k.x)"
        " score s * sigmoid(r[q - k + 7]) + (0.25 if q - k == 2 else 0.0) + r[k - q + 7]"
    ),
    "functions": (
        "score sqrt(s * s + 0.5) * k.x - log(2.0 + abs(s)) + exp(0.3 * s) + tanh(s) ** 2.0 + (1.0 + abs(s)) ** -1.5"
        " + max(min(s, q.x), -1.0) + (0.3 * s if s < k.x else 0.3 * k.x)"
    ),
    "weights": "score s * q.x weight k.x * exp(-abs(q.x - k.x))",
    "alone": "score max(s - q.x, 0.0) * r[q - k + 7] weight k.x + 1.0 normalize none",
}


@dataclass(frozen=True)
class FormCase(NativeCase):
    """One call of a text that is filled."""

    form: str = ""

    @cached_property
    def terms(self) -> ScoreTerms:
        inputs = "input x: float[t] input r: float[15]"
        text = f"pattern p(n = 8) {{ space t[n] {inputs} attend all -> all {FORMS[self.form]} }}"
        made = score_terms(maskdsl.parse(text)["p"].bind().ir)
        assert made is not None
        return made

    @property
    def text(self) -> NativeText:
        return native_of_terms(self.terms)

    @cached_property
    def numbers(self) -> dict[str, Array]:
        """The terms by the name of their leaf: float64 [batch, heads, queries or 1, keys or 1]."""
        random, made = np.random.default_rng(self.seed + 7), {}
        for kind, terms in self.terms.terms:
            queries, keys = (
                1 if kind == without else n for without, n in (("key", self.queries), ("query", self.keys))
            )
            for leaf, _ in terms:
                drawn = random.standard_normal((self.batch, self.heads, queries, keys))
                made[leaf.input] = rounded(drawn, "float32") if leaf.type is Type.FLOAT else (drawn > 0).astype(float)
        return made

    def results(self) -> dict[str, Array]:
        """In float64, each in the order in which it is written."""
        made = {f"grad_{name}": np.zeros(self.tensors[name].shape) for name in "qkv"}
        made |= {"out": np.zeros(self.tensors["grad_out"].shape), "lse": np.zeros(self.tensors["grad_lse"].shape)}
        made |= {f"grad_{name}": np.zeros(x.shape) for name, x in self.numbers.items()}
        for b, head in np.ndindex(self.batch, self.heads):
            self._add_results(made, b, head)
        return made

    def _add_results(self, made: dict[str, Array], b: int, head: int) -> None:
        terms, key_head = self.terms, head // self.group
        at, keys, attends = self.order[0][b, head], self.order[1][b, head], self.attends[b, head]
        q, grad_out, sink, factor = (self.tensors[name][b, head, at] for name in ("q", "grad_out", "sinks", "factor"))
        k, v = (self.tensors[name][b, key_head, keys] for name in ("k", "v"))
        product = q @ k.T * self.scale
        tables = {leaf.input: self.numbers[leaf.input][b, head].astype(_KINDS[leaf.type]) for leaf in terms.leaves}

        names = {leaf: Coordinate(Side.TOKEN, leaf.input, leaf.type) for leaf in terms.leaves}

        def value(expression: Expression | None) -> Array:
            if expression is None:
                return np.zeros(product.shape)
            read = substitute(expression, {**names})
            with np.errstate(all="ignore"):
                made = evaluate(read, lambda each: tables[each.name] if isinstance(each, Coordinate) else product, {})
            return np.broadcast_to(made, product.shape)

        sink = sink if self.has_sinks else np.full(self.queries, -np.inf)
        factor = factor[:, None] if self.has_factor else np.ones((self.queries, 1))
        p = s = np.where(attends, value(terms.score), -np.inf if terms.normalizes else 0)
        if terms.normalizes:
            with np.errstate(divide="ignore"):
                norm = np.logaddexp(np.logaddexp.reduce(s, axis=1, initial=-np.inf), sink)
            made["lse"][b, head, at] = norm
            p = np.exp(s - np.where(norm == -np.inf, 0, norm)[:, None])
            grad_out = np.where(norm == -np.inf, 0, 1)[:, None] * grad_out
        weight = np.ones(p.shape) if terms.weight is None else value(terms.weight)
        made["out"][b, head, at] = result = (p * weight) @ v * factor
        delta = (rounded(result, self.kind) * grad_out).sum(axis=1) - self.tensors["grad_lse"][b, head, at]
        of_product = grad_out * factor @ v.T
        of_score = p * (of_product * weight - delta[:, None]) if terms.normalizes else attends * of_product * weight
        of_s = of_score * value(derivative(terms.score, Score()))
        made["grad_q"][b, head, at] = of_s @ k * self.scale
        np.add.at(made["grad_k"][b, key_head], keys, of_s.T @ q * self.scale)
        np.add.at(made["grad_v"][b, key_head], keys, (p * weight).T @ (grad_out * factor))
        for leaf in terms.leaves:
            of_term = of_score * value(derivative(terms.score, leaf))
            if terms.weight is not None:
                of_term = of_term + p * of_product * value(derivative(terms.weight, leaf))
            size = self.numbers[leaf.input].shape[2:]
            axes = tuple(axis for axis, n in enumerate(size) if n == 1)
            made[f"grad_{leaf.input}"][b, head] = of_term.sum(axis=axes, keepdims=True).reshape(size)

    def _stacked(self, kind: TermKind) -> list[Array]:
        return [self.numbers[leaf.input] for leaf, _ in self.terms.of(kind)]

    def arrays(self) -> dict[str, Array]:
        made = super().arrays()
        made["numbers"] = np.array([*self.text.numbers, 0], np.float32)
        shape = self.batch, self.heads
        queries, keys, pairs = map(self._stacked, TermKind)
        if queries:
            made["query_terms"] = np.stack([x[..., 0] for x in queries], axis=-1).astype(np.float32)
            made["grad_query_terms"] = np.zeros((*made["query_terms"].shape, LANES), np.float32)
        if keys:
            made["key_terms"] = np.full((*shape, len(keys), self.keys + LANES), np.nan, np.float32)
            made["key_terms"][..., : self.keys] = np.stack([x[..., 0, :] for x in keys], axis=2)
            made["grad_key_terms"] = np.zeros_like(made["key_terms"])
        if pairs:
            made["bias"] = np.zeros((*shape, len(self.lists[0].biases), len(pairs), ROW, LANES), np.float32)
            for b, head, number, here, some in self._bias_panels():
                for term, x in enumerate(pairs):
                    made["bias"][b, head, number, term][here] = x[b, head][some]
            made["grad_bias"] = np.zeros_like(made["bias"])
        return made

    def read(self, path: Path, where: Mapping[str, tuple[int, int]]) -> tuple[int, dict[str, Array]]:
        fault, made = NativeCase.read(replace(self, has_bias=False), path, where)
        content, shape = path.read_bytes(), (self.batch, self.heads)

        def gradients(name: str, *size: int) -> Array:
            first, count = where[name]
            return read(content[first : first + count], "float32").reshape(*shape, *size)

        for leaf, (kind, number) in ((each, each.input.split()) for each in self.terms.leaves):
            if leaf.type is not Type.FLOAT or not self.wants_gradients:
                continue
            count, n, name = len(self.terms.of(TermKind(kind))), int(number), f"grad_{leaf.input}"
            if kind == "query":
                of_queries = gradients("grad_query_terms", self.queries, count, LANES)
                made[name] = of_queries[:, :, :, n].sum(axis=-1)[..., None]
            elif kind == "key":
                made[name] = gradients("grad_key_terms", count, self.keys + LANES)[:, :, n, None, : self.keys]
            else:
                panels = gradients("grad_bias", -1, count, ROW, LANES)
                made[name] = np.zeros(self.mask.shape)
                for b, head, panel, here, some in self._bias_panels():
                    made[name][b, head][some] = panels[b, head, panel, n][here]
        if not self.terms.normalizes:
            made.pop("lse", None)
        return fault, made


_KINDS = {Type.FLOAT: np.float64, Type.BOOL: np.bool_}


def drawn_forms(form: str, seed: int, count: int) -> list[FormCase]:
    """Random calls of a form: of whole rows, all of whose keys exist."""
    drawn = [each for each in drawn_cases(seed, 8 * count) if not (each.has_segments or each.page or each.misses)]
    made = [
        FormCase(**{each.name: getattr(case, each.name) for each in fields(NativeCase)}, form=form) for case in drawn
    ]
    return [
        replace(
            each,
            cap=0.0,
            has_bias=bool(each.terms.of(TermKind.PAIR)),
            has_sinks=each.has_sinks and each.terms.normalizes,
        )
        for each in made[:count]
    ]
