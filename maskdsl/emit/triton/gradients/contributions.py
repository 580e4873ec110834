"""The statements that sum the contributions of pairs to gradients of float inputs: see `input_gradients.py`."""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from maskdsl.base.records import dataclass
from maskdsl.emit.triton.forward_body import scores_may_be_large
from maskdsl.emit.triton.gradients.input_gradients import Leaf, Leaves
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import Normalize
from maskdsl.ir.rewrites.derive import derivative


class ScoreStep(NamedTuple):
    """One step from products to final scores, with its derivatives as factors: empty for 1."""

    factor: str | None
    """Its derivative by the score before it; None for 0."""
    leaves: Mapping[Leaf, str]
    """Its derivatives by the float inputs that it reads."""


class ScoreDerivatives(NamedTuple):
    """The statements from products to final scores, and the derivatives of these steps."""

    lines: list[str]
    steps: list[ScoreStep]

    @property
    def factors(self) -> list[str]:
        """The factors of the derivative of final scores by products."""
        return ["0.0" if step.factor is None else step.factor for step in self.steps if step.factor != ""]

    def products(self, leaf: Leaf) -> list[list[str]]:
        """The derivative of final scores by a leaf: a sum over the steps that read it, of products of factors."""
        products, later = list[list[str]](), list[str]()
        for step in reversed(self.steps):
            if leaf in step.leaves:
                products.append([each for each in (*later, step.leaves[leaf]) if each])
            if step.factor is None:
                break
            later.insert(0, step.factor)
        return products


@dataclass(frozen=True)
class Contributions:
    """Statements of either kernel. The tokens of its program are the rows of its tiles [rows, columns]."""

    leaves: Leaves
    derivatives: ScoreDerivatives

    @cached_property
    def weighted(self) -> frozenset[Leaf]:
        """The leaves that the weight depends on."""
        weight = self.leaves.names.plan.mask.weight
        return frozenset(
            leaf for leaf in self.leaves.every if weight is not None and derivative(weight, leaf.node) is not None
        )

    def terms(self, leaf: Leaf) -> list[str]:
        """The terms of each pair's contribution to a leaf."""
        scored = [" * ".join(["ds", *factors]) for factors in self.derivatives.products(leaf)]
        return [*scored, f"{leaf.text}_weight_term"] if leaf in self.weighted else scored

    def bounds(self, leaf: Leaf) -> list[str]:
        """The terms of a bound of each pair's contribution to a leaf, from `ds_bound`, the bound of |dS|."""
        products = self.derivatives.products(leaf)
        scored = [f"tl.abs({' * '.join(['ds_bound', *factors])})" if factors else "ds_bound" for factors in products]
        return [*scored, f"tl.abs({leaf.text}_weight_term)"] if leaf in self.weighted else scored

    # In the dQ kernel

    def ds_bound(self) -> list[str]:
        """A bound of |dS| that rounding of the difference cannot exceed, for the fixed point of tables."""
        if any(self.derivatives.products(leaf) for leaf in self.leaves.of_tables()):
            softmax = self.leaves.names.plan.mask.normalize is not Normalize.NONE
            return ["ds_bound = p * (tl.abs(ds) + tl.abs(delta_i)[:, None])" if softmax else "ds_bound = tl.abs(ds)"]
        return []

    def query_starts(self) -> list[str]:
        return [f"{name} = tl.zeros([QUERY_BLOCK], dtype=WIDE)" for name in self.query_targets().values()]

    def query_targets(self) -> dict[str, str]:
        """The pointers that the kernel stores to, and the accumulators that it stores."""
        bounds = {f"{text}_bounds": f"{text}_bound" for text in self.leaves.tables.values()}
        return bounds | {f"{leaf.text}_grad": f"{leaf.text}_sum" for leaf in self.leaves.of_tokens(Side.QUERY)}

    def query_contributions(self, mask: str | None) -> list[str]:
        lines = []
        for leaf in self.leaves.of_tables():
            table = self.leaves.tables[leaf.input]
            block = _summed(self.bounds(leaf), mask, f"{table}_bound += tl.sum(contribution, 1)")
            lines += _guarded(f"{table}_bounds", block)
        for leaf in self.leaves.of_tokens(Side.QUERY):
            block = _summed(self.terms(leaf), mask, f"{leaf.text}_sum += tl.sum(contribution, 1)")
            lines += _guarded(f"{leaf.text}_grad", block)
        return lines

    def query_ends(self) -> list[str]:
        lines, normalized = [], " / l_i" if scores_may_be_large(self.leaves.names.plan) else ""
        for target, values in self.query_targets().items():
            store = f"tl.store({target} + query_offset + queries, {values}{normalized}, mask=queries < query_length)"
            lines += _guarded(target, [store])
        return lines

    # In the dK, dV kernel, for one query head

    def key_starts(self) -> list[str]:
        lines = ["real_keys = (keys < key_length)[:, None]"] if self.leaves.tables else []
        sums = [*self.leaves.of_columns(), *self.leaves.of_tokens(Side.KEY)]
        return [*lines, *(f"{leaf.text}_sum = tl.zeros([KEY_BLOCK], dtype=WIDE)" for leaf in sums)]

    def key_contributions(self, mask: str | None) -> list[str]:
        lines, columns = [], set(self.leaves.of_columns())
        for leaf in self.leaves.of_tables():
            table, real = self.leaves.tables[leaf.input], "real_keys" if mask is None else f"{mask} & real_keys"
            values = "contribution" if Side.KEY in leaf.sides else "tl.sum(contribution, 0)[None, :]"
            end = f"add_to_table({table}_sums, {leaf.text}_offset, {values}, {table}_scale)"
            if leaf in columns:
                end = f"{leaf.text}_sum += tl.sum(contribution, 1)"
            lines += _guarded(f"{table}_sums", _summed(self.terms(leaf), real, end))
        for leaf in self.leaves.of_tokens(Side.KEY):
            block = _summed(self.terms(leaf), mask, f"{leaf.text}_sum += tl.sum(contribution, 1)")
            lines += _guarded(f"{leaf.text}_grad", block)
        return lines

    def key_ends(self) -> list[str]:
        lines = []
        for leaf in self.leaves.of_columns():
            table, values = self.leaves.tables[leaf.input], f"{leaf.text}_sum[:, None]"
            values = values if leaf.sides else f"tl.sum({values}, 0)[None, :]"
            call = f"add_to_table({table}_sums, {leaf.text}_offset, {values}, {table}_scale)"
            lines += _guarded(f"{table}_sums", [call])
        for leaf in self.leaves.of_tokens(Side.KEY):
            target = f"{leaf.text}_grad"
            elements = f"elements = {target} + (wide_batch * heads + wide_head) * key_length + keys"
            store = f"tl.store(elements, {leaf.text}_sum, mask=keys < key_length)"
            lines += _guarded(target, [elements, store])
        return lines


def attending(values: str, mask: str | None = "attends") -> str:
    """The values, zero for pairs outside the mask."""
    return values if mask is None else f"tl.where({mask}, {values}, 0.0)"


def _summed(terms: list[str], mask: str | None, end: str) -> list[str]:
    """Statements for `contribution`, the sum of terms, zero for pairs outside the mask, and one that reads it."""
    if len(terms) < 2:
        return [line for term in terms for line in (f"contribution = {attending(term, mask)}", end)]
    first, *rest = terms
    masked = [] if mask is None else [f"contribution = {attending('contribution', mask)}"]
    return [f"contribution = {first}", *(f"contribution += {each}" for each in rest), *masked, end]


def _guarded(name: str, block: list[str]) -> list[str]:
    """Statements that run if an argument is there: it is None where its gradient is not wanted."""
    return [f"if {name} is not None:", *(f"    {line}" for line in block)] if block else []
