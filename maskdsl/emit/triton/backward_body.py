"""Plan to the code that fills the loops of the backward kernels: scores, derivatives, weights, input gradients."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from maskdsl.analysis.cost.tile_table import KernelName
from maskdsl.base.records import dataclass
from maskdsl.emit.plan import unused
from maskdsl.emit.statement_printer import UNARY
from maskdsl.emit.triton.forward_body import Body, Holes, MaybeHoles, replace_score, scores_may_be_large
from maskdsl.emit.triton.gradients.contributions import Contributions, ScoreDerivatives, ScoreStep, attending
from maskdsl.emit.triton.gradients.input_gradients import Leaf, Leaves
from maskdsl.emit.triton.tile_loops import splits
from maskdsl.emit.triton.token_coordinates import HEAD_TABLE
from maskdsl.emit.triton.triton_printer import TritonPrinter
from maskdsl.emit.triton.unnormalized import backward_holes
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Read, Score, Side, apply
from maskdsl.ir.mask import Normalize
from maskdsl.ir.ops import Op
from maskdsl.ir.rewrites.branches import BOUNDED, derivatives_are_finite
from maskdsl.ir.rewrites.derive import ONE, derivative

_EXACTLY = {
    "kernel_lse": ['dropped = lse_i == float("-inf")'],
    "query_full_probability": ["p = tl.exp2((s - lse_i[:, None]) * UNIT)", "l_i += tl.sum(p, 1)"],
    "query_partial_probability": [
        'p = tl.exp2((tl.where(attends, s, float("-inf")) - lse_i[:, None]) * UNIT)',
        "l_i += tl.sum(p, 1)",
    ],
    "query_normalization": [
        "l_i = tl.where(l_i == 0, 1.0, l_i)",
        "result = scaled(result, 1.0 / l_i[:, None])",
        "tl.store(correction + lse_offset + queries, tl.log2(l_i))",
    ],
    "key_full_probability": [
        "correction_i = tl.load(correction + lse_offset + queries)",
        "p = tl.exp2((s - lse_i[None, :]) * UNIT - correction_i[None, :])",
    ],
    "key_partial_probability": [
        "correction_i = tl.load(correction + lse_offset + queries)",
        'p = tl.exp2((tl.where(attends, s, float("-inf")) - lse_i[None, :]) * UNIT - correction_i[None, :])',
    ],
}
"""Probabilities from scores of any size: the comment at the top of `codegen/backward.py` says how."""
_FACTOR = "factor_i = tl.load(factors + query_offset + query_positions)"
_BY_FACTOR = ("factor_sum += tl.sum(p * ds, 1)", "ds *= factor_i[:, None]")


@dataclass(frozen=True)
class GradientBody(Body):
    """The code of a pattern inside its two backward kernels."""

    @cached_property
    def leaves(self) -> Leaves:
        return Leaves(self.names)

    @property
    def reserved_names(self) -> set[str]:
        return self.leaves.kernel_names

    @cached_property
    def offsets(self) -> Mapping[Expression, str]:
        """The variables of the dK, dV kernel that hold the offsets of table elements that depend on the query."""
        if not self.transposed:
            return {}
        return {leaf.node: f"{leaf.text}_offset" for leaf in self.leaves.of_tables() if Side.QUERY in leaf.sides}

    def of_first_piece(self, score: str) -> list[str]:
        if not splits(self.plan, KernelName.FORWARD):
            return []
        first = "tl.load(slots + 2 * row_index) == 0"
        return ["if slots is not None:", f'    {score} = tl.where({first}, {score}, float("-inf"))']

    def gradient_holes(self) -> Holes:
        return {**self.query_holes(), **replace(self, transposed=True).key_holes()}

    def probability_holes(self) -> MaybeHoles:
        """The holes from scores to probabilities."""
        exactly = scores_may_be_large(self.plan)
        holes: MaybeHoles = {name: lines if exactly else None for name, lines in _EXACTLY.items()}
        plain = backward_holes(self.plan)
        sums = {"query_sum": self.sum_lines()}
        if self.plan.mask.normalize is Normalize.NONE:
            return {**holes, **plain, **sums}
        return {**plain, **holes, **sums}

    def sum_lines(self) -> list[str]:
        """Statements that start the sums of a query: of its probabilities, and of what its factor contributes."""
        lines = []
        if scores_may_be_large(self.plan):
            start = "tl.load(sink_sums + query_offset + query_positions)"
            lines.append(f"l_i = {start if self.plan.mask.sinks else 'tl.zeros([QUERY_BLOCK], dtype=WIDE)'}")
        if self.has_factor:
            lines += [_FACTOR, "factor_sum = tl.zeros([QUERY_BLOCK], dtype=WIDE)"]
        return lines

    @property
    def has_factor(self) -> bool:
        """Whether the output of a query has a factor."""
        return self.plan.mask.factor is not None

    def factor_sums(self) -> list[str]:
        """A statement that stores the gradients of factors."""
        total = "factor_sum / l_i" if scores_may_be_large(self.plan) else "factor_sum"
        store = f"tl.store(factors_grad + query_offset + queries, {total}, mask=queries < query_length)"
        return [store] if self.has_factor else []

    @cached_property
    def masks_derivatives(self) -> bool:
        """Whether derivatives may be infinite or NaN, so that pairs with p = 0 must be masked out."""
        softmax = self.plan.mask.normalize is not Normalize.NONE  # otherwise p = 0 is a probability like any other
        return softmax and not derivatives_are_finite(self.plan.mask, BOUNDED)

    @property
    def full_mask(self) -> str | None:
        """The variable that masks pairs of a full tile; None if all count."""
        return "attends" if self.masks_derivatives else None

    def masked_pairs(self, sign: str) -> list[str]:
        """A statement that masks out pairs with p = 0, if that is needed."""
        return [f"attends {sign} p != 0"] if self.masks_derivatives else []

    def query_holes(self) -> Holes:
        """The holes of the dQ kernel."""
        partial, key = self.of_partial_tiles(), Side.KEY
        derivatives, (weight, terms) = self.derivatives(), self.weights()
        contributions, factors = Contributions(self.leaves, derivatives), derivatives.factors
        chained = f"ds * {' * '.join(factors)}"
        coordinates = [*self.table_lines(), *self.coordinate_lines(Side.QUERY, partial)]
        return {
            "query_coordinates": [*coordinates, *contributions.query_starts()],
            "query_full_score": [*self.coordinate_lines(key, self.changes()), *derivatives.lines],
            "query_full_weight": [
                *self.masked_pairs("="),
                *weight,
                *terms,
                *(["ds *= weights"] if weight else []),
                *(_BY_FACTOR if self.has_factor else ()),
                *contributions.ds_bound(),
            ],
            "query_full_ds": [
                *contributions.query_contributions(self.full_mask),
                *([f"ds = {attending(chained, self.full_mask)}"] if factors else []),
            ],
            "query_partial_score": [*self.coordinate_lines(key, partial), *derivatives.lines],
            "query_predicate": self.relation_lines(),
            "query_partial_weight": [
                *self.masked_pairs("&="),
                *weight,
                *terms,
                *([f"ds = {attending('ds * weights')}"] if weight else []),
                *(_BY_FACTOR if self.has_factor else ()),
                *contributions.ds_bound(),
            ],
            "query_partial_ds": [
                *contributions.query_contributions("attends"),
                *([f"ds = {attending(chained)}"] if factors else []),
            ],
            "query_sums": [*contributions.query_ends(), *self.factor_sums()],
        }

    def key_holes(self) -> Holes:
        """The holes of the dK, dV kernel, whose scores are [keys, queries]."""
        partial, query = self.of_partial_tiles(), Side.QUERY
        derivatives, (weight, terms) = self.derivatives(), self.weights()
        contributions, factors = Contributions(self.leaves, derivatives), derivatives.factors
        chained = f"ds * {' * '.join(factors)}"
        by_factor = self.has_factor
        coordinates = [*self.head_table_lines(), *self.coordinate_lines(Side.KEY, partial, HEAD_TABLE)]
        return {
            "key_coordinates": [*coordinates, *contributions.key_starts(), *self.column_offsets()],
            "key_full_score": [*self.coordinate_lines(query, self.changes(), HEAD_TABLE), *derivatives.lines],
            "key_full_weight": [
                *self.masked_pairs("="),
                *([_FACTOR] if by_factor else []),
                *weight,
                *(["weighted = p * weights"] if weight else []),
                *(["weighted *= factor_i[None, :]"] if by_factor else []),
            ],
            "key_full_weight_gradient": [
                *terms,
                *(["ds *= weights"] if weight else []),
                *(["ds *= factor_i[None, :]"] if by_factor else []),
            ],
            "key_full_ds": [
                *contributions.key_contributions(self.full_mask),
                *([f"ds = {attending(chained, self.full_mask)}"] if factors else []),
            ],
            "key_partial_score": [*self.coordinate_lines(query, partial, HEAD_TABLE), *derivatives.lines],
            "key_predicate": self.relation_lines(),
            "key_partial_weight": [
                *self.masked_pairs("&="),
                *([_FACTOR] if by_factor else []),
                *weight,
                *([f"weighted = {attending('p * weights')}"] if weight else []),
                *(["weighted *= factor_i[None, :]"] if by_factor else []),
            ],
            "key_partial_weight_gradient": [
                *terms,
                *([f"ds = {attending('ds * weights')}"] if weight else []),
                *(["ds *= factor_i[None, :]"] if by_factor else []),
            ],
            "key_partial_ds": [
                *contributions.key_contributions("attends"),
                *([f"ds = {attending(chained)}"] if factors else []),
            ],
            "key_sums": contributions.key_ends(),
        }

    def head_table_lines(self) -> list[str]:
        """Statements that point to the per-token tables of one query head: the kernel loops over several."""
        lines = []
        for table in self.names.tables:
            name = table.text
            lines.append(f"{HEAD_TABLE}{name} = {name} + wide_batch * {name}_batch_stride")
            lines.append(f"{HEAD_TABLE}{name} += wide_head * {name}_head_stride")
        return lines

    def column_offsets(self) -> list[str]:
        """Statements for the offsets of table elements that depend on no query."""
        lines = []
        for leaf in self.leaves.of_columns():
            printer = self.printer(relation=False, offsets={leaf.node: f"{leaf.text}_offset"})
            assert isinstance(leaf.node, Read)
            printer.table_offset(leaf.node)
            lines += printer.lines
        return lines

    def derivatives(self) -> ScoreDerivatives:
        """As `score_lines`, with the derivatives of each step. SCALE holds a constant scale."""
        mask, steps = self.plan.mask, list[ScoreStep]()
        printer = self.score_printer(self.offsets)
        if mask.scale is None or isinstance(mask.scale, Constant):
            self.scale_products(printer)
        else:
            leaves = self.leaf_derivatives(printer, apply(Op.MULTIPLY, Score(), mask.scale))
            factor = _factor_text(printer, "scale", mask.scale)
            printer.lines.append(f"s *= {factor}")
            printer.forget_scores()
            steps.append(ScoreStep(factor, leaves))
        for expression in mask.scores:
            leaves = self.leaf_derivatives(printer, expression)
            by_score = derivative(expression, Score())
            score_factor = None if by_score is None else _factor_text(printer, "derivative", by_score)
            steps.append(ScoreStep(score_factor, leaves))
            replace_score(printer, expression)
        return ScoreDerivatives(printer.lines, steps)

    def leaf_derivatives(self, printer: TritonPrinter, expression: Expression) -> dict[Leaf, str]:
        """The derivatives of an expression by the leaves that it reads, as factors of products."""
        by_leaf = {leaf: derivative(expression, leaf.node) for leaf in self.leaves.every}
        return {
            leaf: _factor_text(printer, f"{leaf.text}_derivative", value)
            for leaf, value in by_leaf.items()
            if value is not None
        }

    def weights(self) -> tuple[list[str], list[str]]:
        """Statements for the weight of probabilities, and for the contributions to inputs that come through it.

        The latter read `ds`, the gradient of weighted probabilities.
        """
        weight = self.plan.mask.weight
        if weight is None:
            return [], []
        printer = self.score_printer(self.offsets)
        if isinstance(weight, Constant):
            return [f"weights = tl.full([1, 1], {weight.value}, s.dtype)"], []
        printer.assign("weights", weight)
        printer.lines.append(self.counted_weights())
        before = len(printer.lines)
        scales = [f"factor_i{self.axes[Side.QUERY]}"] if self.has_factor else []
        for leaf in self.leaves.every:
            by_leaf = derivative(weight, leaf.node)
            if by_leaf is not None:
                factors = ["p", "ds", _factor_text(printer, f"{leaf.text}_weight_derivative", by_leaf), *scales]
                printer.lines.append(f"{leaf.text}_weight_term = {' * '.join(each for each in factors if each)}")
        return printer.lines[:before], printer.lines[before:]

    def counted_weights(self) -> str:
        """The statement that makes weights of pairs of probability 0 finite."""
        if self.plan.mask.normalize is Normalize.NONE:  # its derivative by the probability is the weight
            return 'weights = tl.where((p == 0) & ~(tl.abs(weights) < float("inf")), 0.0, weights)'
        return "weights = tl.where(p == 0, 0.0, weights)"


def _factor_text(printer: TritonPrinter, name: str, expression: Expression) -> str:
    """A factor of a product: empty for 1, else a constant or coordinate as it is, or a new variable.

    Triton would make a float32 of a constant in a variable.
    """
    if expression == ONE:
        return ""
    if isinstance(expression, Constant | Coordinate):
        return printer.operand(expression, UNARY)
    variable = unused(name, printer.taken)
    printer.assign(variable, expression)
    return variable
