"""What pairs send to float inputs inside the loops of the backward kernels: see `input_gradients.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from maskdsl.emit.triton.forward_body import scores_may_be_large
from maskdsl.emit.triton.input_gradients import Leaf, Leaves
from maskdsl.ir.expressions import Side
from maskdsl.ir.rewrites.derive import derivative


class ScoreStep(NamedTuple):
    """One step from products to final scores."""

    factor: str | None
    """How its result changes with the score before it; None for not at all, empty for as much."""
    leaves: Mapping[Leaf, str]
    """How its result changes with float inputs; empty for as much."""


class ScoreDerivatives(NamedTuple):
    """Statements from products to final scores, and the dS of these steps."""

    lines: list[str]
    stages: list[ScoreStep]

    @property
    def factors(self) -> list[str]:
        """Of the slope of final scores by products."""
        return ["0.0" if stage.factor is None else stage.factor for stage in self.stages if stage.factor != ""]

    def ways(self, leaf: Leaf) -> list[list[str]]:
        """The slope of final scores by a leaf: a sum, over the stages that read it, of products."""
        found, later = list[list[str]](), list[str]()
        for stage in reversed(self.stages):
            if leaf in stage.leaves:
                found.append([each for each in (*later, stage.leaves[leaf]) if each])
            if stage.factor is None:
                break
            later.insert(0, stage.factor)
        return found


@dataclass(frozen=True)
class Contributions:
    """Statements of one of the kernels, whose own tokens are the rows of its tiles."""

    leaves: Leaves
    derivatives: ScoreDerivatives

    @cached_property
    def weighted(self) -> frozenset[Leaf]:
        """Leaves that weights depend on."""
        weight = self.leaves.names.plan.mask.weight
        return frozenset(
            leaf for leaf in self.leaves.every if weight is not None and derivative(weight, leaf.node) is not None
        )

    def terms(self, leaf: Leaf) -> list[str]:
        """What each pair sends to a leaf, as a sum."""
        scored = [" * ".join(["ds", *way]) for way in self.derivatives.ways(leaf)]
        return [*scored, f"{leaf.text}_weighted"] if leaf in self.weighted else scored

    def bounds(self, leaf: Leaf) -> list[str]:
        """How much a pair may send to a leaf, with `most` for its slope."""
        ways = self.derivatives.ways(leaf)
        scored = [f"tl.abs({' * '.join(['most', *way])})" if way else "most" for way in ways]
        return [*scored, f"tl.abs({leaf.text}_weighted)"] if leaf in self.weighted else scored

    # In the kernel of queries

    def most(self) -> list[str]:
        """A bound of dS that holds for what rounding leaves of them too."""
        if any(self.derivatives.ways(leaf) for leaf in self.leaves.of_tables()):
            return ["most = p * (tl.abs(ds) + tl.abs(own_delta)[:, None])"]
        return []

    def query_starts(self) -> list[str]:
        return [f"{name} = tl.zeros([QUERY_BLOCK], dtype=WIDE)" for name in self.query_targets().values()]

    def query_targets(self) -> dict[str, str]:
        """Arguments, and the sums that they get in the end."""
        bounds = {f"{text}_bounds": f"{text}_bound" for text in self.leaves.tables.values()}
        return bounds | {f"{leaf.text}_slopes": f"{leaf.text}_sum" for leaf in self.leaves.of_tokens(Side.QUERY)}

    def query_contributions(self, mask: str | None) -> list[str]:
        lines = []
        for leaf in self.leaves.of_tables():
            table = self.leaves.tables[leaf.input]
            block = _gathered(self.bounds(leaf), mask, f"{table}_bound += tl.sum(contribution, 1)")
            lines += _guarded(f"{table}_bounds", block)
        for leaf in self.leaves.of_tokens(Side.QUERY):
            block = _gathered(self.terms(leaf), mask, f"{leaf.text}_sum += tl.sum(contribution, 1)")
            lines += _guarded(f"{leaf.text}_slopes", block)
        return lines

    def query_ends(self) -> list[str]:
        lines, shares = [], " / l_i" if scores_may_be_large(self.leaves.names.plan) else ""
        for target, values in self.query_targets().items():
            values += shares
            lines += _guarded(target, [f"tl.store({target} + first + queries, {values}, mask=queries < query_length)"])
        return lines

    # In the kernel of keys, for one head

    def key_starts(self) -> list[str]:
        lines = ["real_keys = (keys < key_length)[:, None]"] if self.leaves.tables else []
        sums = [*self.leaves.of_columns(), *self.leaves.of_tokens(Side.KEY)]
        return [*lines, *(f"{leaf.text}_sum = tl.zeros([KEY_BLOCK], dtype=WIDE)" for leaf in sums)]

    def key_contributions(self, mask: str | None) -> list[str]:
        lines, columns = [], set(self.leaves.of_columns())
        for leaf in self.leaves.of_tables():
            table, real = self.leaves.tables[leaf.input], "real_keys" if mask is None else f"{mask} & real_keys"
            values = "contribution" if Side.KEY in leaf.sides else "tl.sum(contribution, 0)[None, :]"
            end = f"add_to_table({table}_sums, {leaf.text}_position, {values}, {table}_scale)"
            if leaf in columns:
                end = f"{leaf.text}_sum += tl.sum(contribution, 1)"
            lines += _guarded(f"{table}_sums", _gathered(self.terms(leaf), real, end))
        for leaf in self.leaves.of_tokens(Side.KEY):
            block = _gathered(self.terms(leaf), mask, f"{leaf.text}_sum += tl.sum(contribution, 1)")
            lines += _guarded(f"{leaf.text}_slopes", block)
        return lines

    def key_ends(self) -> list[str]:
        lines = []
        for leaf in self.leaves.of_columns():
            table, values = self.leaves.tables[leaf.input], f"{leaf.text}_sum[:, None]"
            values = values if leaf.sides else f"tl.sum({values}, 0)[None, :]"
            call = f"add_to_table({table}_sums, {leaf.text}_position, {values}, {table}_scale)"
            lines += _guarded(f"{table}_sums", [call])
        for leaf in self.leaves.of_tokens(Side.KEY):
            target = f"{leaf.text}_slopes"
            elements = f"elements = {target} + (wide_batch * heads + wide_head) * key_length + keys"
            store = f"tl.store(elements, {leaf.text}_sum, mask=keys < key_length)"
            lines += _guarded(target, [elements, store])
        return lines


def attending(values: str, mask: str | None = "attends") -> str:
    """Zero in place of values of pairs that do not count."""
    return values if mask is None else f"tl.where({mask}, {values}, 0.0)"


def _gathered(terms: list[str], mask: str | None, end: str) -> list[str]:
    """`contribution`, the sum of terms, zero for pairs that do not count, and a statement that reads it."""
    if len(terms) < 2:
        return [line for term in terms for line in (f"contribution = {attending(term, mask)}", end)]
    first, *rest = terms
    masked = [] if mask is None else [f"contribution = {attending('contribution', mask)}"]
    return [f"contribution = {first}", *(f"contribution += {each}" for each in rest), *masked, end]


def _guarded(name: str, block: list[str]) -> list[str]:
    """Statements for an argument that is None where nobody asks for a gradient."""
    return [f"if {name} is not None:", *(f"    {line}" for line in block)] if block else []
