"""A pattern's code inside the loops of its backward kernels: scores once more, their slopes, and weights."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from maskdsl.emit.triton_body import Body, Holes, replace_score
from maskdsl.ir.derive import ONE, derivative
from maskdsl.ir.expressions import Constant, Score, Side
from maskdsl.plan import unused


class Sloped(NamedTuple):
    """Statements from products to final scores, and the factors of the slope of the one by the other."""

    lines: list[str]
    factors: list[str]


@dataclass(frozen=True)
class GradientBody(Body):
    """The forward pass and the backward pass."""

    def gradient_holes(self) -> Holes:
        return {**self.query_holes(), **replace(self, transposed=True).key_holes()}

    def query_holes(self) -> Holes:
        """Of the kernel for gradients of queries."""
        everything, key = self.plan.pair_expressions, Side.KEY
        score, factors = self.sloped()
        weight = self.weights()
        slope = f"slopes * {' * '.join(factors)}"
        return {
            "query_coordinates": [*self.table_lines(), *self.coordinate_lines(Side.QUERY, everything)],
            "query_full_score": [*self.coordinate_lines(key, self.changes()), *score],
            "query_full_weight": [*weight, "slopes *= weights"] if weight else [],
            "query_full_slope": [f"slopes = {slope}"] if factors else [],
            "query_partial_score": [*self.coordinate_lines(key, everything), *score],
            "query_predicate": self.relation_lines(),
            "query_partial_weight": [*weight, "slopes = tl.where(attends, slopes * weights, 0.0)"] if weight else [],
            "query_partial_slope": [f"slopes = tl.where(attends, {slope}, 0.0)"] if factors else [],
        }

    def key_holes(self) -> Holes:
        """Of the kernel for gradients of keys and values, whose scores are [keys, queries]."""
        everything, query = self.plan.pair_expressions, Side.QUERY
        score, factors = self.sloped()
        weight = self.weights()
        slope = f"slopes * {' * '.join(factors)}"
        return {
            "key_coordinates": [*self.own_table_lines(), *self.coordinate_lines(Side.KEY, everything, "own_")],
            "key_full_score": [*self.coordinate_lines(query, self.changes(), "own_"), *score],
            "key_full_weight": [*weight, "slopes *= weights", "weighted = p * weights"] if weight else [],
            "key_full_slope": [f"slopes = {slope}"] if factors else [],
            "key_partial_score": [*self.coordinate_lines(query, everything, "own_"), *score],
            "key_predicate": self.relation_lines(),
            "key_partial_weight": [
                *weight,
                "slopes = tl.where(attends, slopes * weights, 0.0)",
                "weighted = tl.where(attends, p * weights, 0.0)",
            ]
            if weight
            else [],
            "key_partial_slope": [f"slopes = tl.where(attends, {slope}, 0.0)"] if factors else [],
        }

    def own_table_lines(self) -> list[str]:
        """Tables of tokens of one head after the other."""
        lines = []
        for table in self.names.tables:
            name = table.text
            lines.append(f"own_{name} = {name} + wide_batch * {name}_batch_stride")
            lines.append(f"own_{name} += wide_head * {name}_head_stride")
        return lines

    def sloped(self) -> Sloped:
        """As `score_lines`, with the slope of each step taken before it. A constant scale is left to the end."""
        mask, printer, factors = self.plan.mask, self.printer(relation=False), list[str]()

        def factor(name: str) -> str:
            factors.append(unused(name, printer.taken))
            return factors[-1]

        if mask.scale is None or isinstance(mask.scale, Constant):
            self.scale_products(printer)
        else:
            printer.assign(factor("own_scale"), mask.scale)
            printer.lines.append(f"s *= {factors[-1]}")
        for expression in mask.scores:
            slope = derivative(expression, Score())
            if slope is None:
                factors.append("0.0")
            elif slope != ONE:
                printer.assign(factor("slope"), slope)
            replace_score(printer, expression)
        return Sloped(printer.lines, factors)

    def weights(self) -> list[str]:
        if self.plan.mask.weight is None:
            return []
        printer = self.printer(relation=False)
        printer.assign("weights", self.plan.mask.weight)
        return printer.lines
