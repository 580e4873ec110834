"""A pattern's code inside the loops of its backward kernels: scores once more, their dS, weights, and inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from maskdsl.emit.plan import unused
from maskdsl.emit.statement_printer import UNARY
from maskdsl.emit.triton.contributions import Contributions, ScoreDerivatives, ScoreStep, attending
from maskdsl.emit.triton.forward_body import Body, Holes, MaybeHoles, replace_score, scores_may_be_large
from maskdsl.emit.triton.input_gradients import Leaf, Leaves
from maskdsl.emit.triton.triton_printer import TritonPrinter
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Read, Score, Side, apply
from maskdsl.ir.ops import Op
from maskdsl.ir.rewrites.branches import BOUNDED, derivatives_are_finite
from maskdsl.ir.rewrites.derive import ONE, derivative

_EXACTLY = {
    "base": ["base, still = lse, lse == -torch.inf"],
    "query_total": ["l_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)"],
    "query_full_probability": ["p = tl.exp2((s - own_base[:, None]) * UNIT)", "l_i += tl.sum(p, 1)"],
    "query_partial_probability": [
        'p = tl.exp2((tl.where(attends, s, float("-inf")) - own_base[:, None]) * UNIT)',
        "l_i += tl.sum(p, 1)",
    ],
    "query_shares": [
        "l_i = tl.where(l_i == 0, 1.0, l_i)",
        "result /= l_i[:, None]",
        "tl.store(rest + base_first + queries, tl.log2(l_i))",
    ],
    "key_full_probability": [
        "own_rest = tl.load(rest + base_first + queries)",
        "p = tl.exp2((s - own_base[None, :]) * UNIT - own_rest[None, :])",
    ],
    "key_partial_probability": [
        "own_rest = tl.load(rest + base_first + queries)",
        'p = tl.exp2((tl.where(attends, s, float("-inf")) - own_base[None, :]) * UNIT - own_rest[None, :])',
    ],
}
"""Probabilities from scores of any size: the comment at the top of `codegen/backward.py` says how."""


@dataclass(frozen=True)
class GradientBody(Body):
    """The backward pass."""

    @cached_property
    def leaves(self) -> Leaves:
        return Leaves(self.names)

    @property
    def own_names(self) -> set[str]:
        return self.leaves.own_names

    @cached_property
    def positions(self) -> Mapping[Expression, str]:
        """What the kernel of keys calls the places of elements that depend on the query."""
        if not self.transposed:
            return {}
        return {leaf.node: f"{leaf.text}_position" for leaf in self.leaves.of_tables() if Side.QUERY in leaf.sides}

    def gradient_holes(self) -> Holes:
        return {**self.query_holes(), **replace(self, transposed=True).key_holes()}

    def probability_holes(self) -> MaybeHoles:
        """Probabilities from scores."""
        exactly = scores_may_be_large(self.plan)
        return {name: lines if exactly else None for name, lines in _EXACTLY.items()}

    @cached_property
    def leaves_pairs_out(self) -> bool:
        """Whether pairs without probability might send more than nothing."""
        return not derivatives_are_finite(self.plan.mask, BOUNDED)

    @property
    def full_mask(self) -> str | None:
        """What says which pairs of a full tile count."""
        return "attends" if self.leaves_pairs_out else None

    def counted(self, sign: str) -> list[str]:
        """A statement that leaves them out."""
        return [f"attends {sign} p != 0"] if self.leaves_pairs_out else []

    def query_holes(self) -> Holes:
        """Of the kernel for gradients of queries."""
        everything, key = self.plan.pair_expressions, Side.KEY
        derivatives, weight = self.derivatives(), self.weights()
        contribution, factors = Contributions(self.leaves, derivatives), derivatives.factors
        slope = f"ds * {' * '.join(factors)}"
        coordinates = [*self.table_lines(), *self.coordinate_lines(Side.QUERY, everything)]
        return {
            "query_coordinates": [*coordinates, *contribution.query_starts()],
            "query_full_score": [*self.coordinate_lines(key, self.changes()), *derivatives.lines],
            "query_full_weight": [
                *self.counted("="),
                *weight,
                *(["ds *= weights"] if weight else []),
                *contribution.most(),
            ],
            "query_full_slope": [
                *contribution.query_contributions(self.full_mask),
                *([f"ds = {attending(slope, self.full_mask)}"] if factors else []),
            ],
            "query_partial_score": [*self.coordinate_lines(key, everything), *derivatives.lines],
            "query_predicate": self.relation_lines(),
            "query_partial_weight": [
                *self.counted("&="),
                *weight,
                *([f"ds = {attending('ds * weights')}"] if weight else []),
                *contribution.most(),
            ],
            "query_partial_slope": [
                *contribution.query_contributions("attends"),
                *([f"ds = {attending(slope)}"] if factors else []),
            ],
            "query_sums": contribution.query_ends(),
        }

    def key_holes(self) -> Holes:
        """Of the kernel for gradients of keys and values, whose scores are [keys, queries]."""
        everything, query = self.plan.pair_expressions, Side.QUERY
        derivatives, weight = self.derivatives(), self.weights()
        contribution, factors = Contributions(self.leaves, derivatives), derivatives.factors
        slope = f"ds * {' * '.join(factors)}"
        coordinates = [*self.own_table_lines(), *self.coordinate_lines(Side.KEY, everything, "own_")]
        return {
            "key_coordinates": [*coordinates, *contribution.key_starts(), *self.column_positions()],
            "key_full_score": [*self.coordinate_lines(query, self.changes(), "own_"), *derivatives.lines],
            "key_full_weight": [
                *self.counted("="),
                *weight,
                *(["ds *= weights", "weighted = p * weights"] if weight else []),
            ],
            "key_full_slope": [
                *contribution.key_contributions(self.full_mask),
                *([f"ds = {attending(slope, self.full_mask)}"] if factors else []),
            ],
            "key_partial_score": [*self.coordinate_lines(query, everything, "own_"), *derivatives.lines],
            "key_predicate": self.relation_lines(),
            "key_partial_weight": [
                *self.counted("&="),
                *weight,
                *([f"ds = {attending('ds * weights')}"] if weight else []),
                *([f"weighted = {attending('p * weights')}"] if weight else []),
            ],
            "key_partial_slope": [
                *contribution.key_contributions("attends"),
                *([f"ds = {attending(slope)}"] if factors else []),
            ],
            "key_sums": contribution.key_ends(),
        }

    def own_table_lines(self) -> list[str]:
        """Tables of tokens of one head after the other."""
        lines = []
        for table in self.names.tables:
            name = table.text
            lines.append(f"own_{name} = {name} + wide_batch * {name}_batch_stride")
            lines.append(f"own_{name} += wide_head * {name}_head_stride")
        return lines

    def column_positions(self) -> list[str]:
        """The places of elements that depend on no query."""
        lines = []
        for leaf in self.leaves.of_columns():
            printer = self.printer(relation=False, positions={leaf.node: f"{leaf.text}_position"})
            assert isinstance(leaf.node, Read)
            printer.table_position(leaf.node)
            lines += printer.lines
        return lines

    def derivatives(self) -> ScoreDerivatives:
        """As `score_lines`, with the dS of each step taken before it. A constant scale is left to the end."""
        mask, printer, stages = (
            self.plan.mask,
            self.printer(relation=False, positions=self.positions),
            list[ScoreStep](),
        )
        if mask.scale is None or isinstance(mask.scale, Constant):
            self.scale_products(printer)
        else:
            leaves = self.leaf_derivatives(printer, apply(Op.MULTIPLY, Score(), mask.scale))
            factor = _factor_text(printer, "own_scale", mask.scale)
            printer.lines.append(f"s *= {factor}")
            printer.forget_scores()
            stages.append(ScoreStep(factor, leaves))
        for expression in mask.scores:
            leaves = self.leaf_derivatives(printer, expression)
            slope = derivative(expression, Score())
            stages.append(ScoreStep(None if slope is None else _factor_text(printer, "slope", slope), leaves))
            replace_score(printer, expression)
        return ScoreDerivatives(printer.lines, stages)

    def leaf_derivatives(self, printer: TritonPrinter, expression: Expression) -> dict[Leaf, str]:
        """How an expression changes with the leaves that it reads; empty for as much."""
        ds = {leaf: derivative(expression, leaf.node) for leaf in self.leaves.every}
        return {
            leaf: _factor_text(printer, f"{leaf.text}_slope", slope) for leaf, slope in ds.items() if slope is not None
        }

    def weights(self) -> list[str]:
        """What probabilities are multiplied by, and what they send to inputs that it reads."""
        weight = self.plan.mask.weight
        if weight is None:
            return []
        printer = self.printer(relation=False, positions=self.positions)
        if isinstance(weight, Constant):
            printer.lines.append(f"weights = tl.full([1, 1], {weight.value}, s.dtype)")
        else:
            printer.assign("weights", weight)
            printer.lines.append("weights = tl.where(p == 0, 0.0, weights)")
        for leaf in self.leaves.every:
            slope = derivative(weight, leaf.node)
            if slope is not None:
                factors = ["p", "ds", _factor_text(printer, f"{leaf.text}_weight", slope)]
                printer.lines.append(f"{leaf.text}_weighted = {' * '.join(each for each in factors if each)}")
        return printer.lines


def _factor_text(printer: TritonPrinter, name: str, expression: Expression) -> str:
    """A factor of a product, empty for one: as it is, or the name of a statement's result.

    Triton would make a float32 of a constant that has a name.
    """
    if expression == ONE:
        return ""
    if isinstance(expression, Constant | Coordinate):
        return printer.position(expression, UNARY)
    chosen = unused(name, printer.taken)
    printer.assign(chosen, expression)
    return chosen
