"""Searches pairs of tokens, one in each of two spaces, for which conditions hold. Exact, without work on all pairs."""

from collections.abc import Iterable

from maskdsl.analysis.counts.axis_factors import conjuncts
from maskdsl.analysis.indices.axis_expressions import AxisExpressions, variables
from maskdsl.analysis.indices.shifts import shifted, unshifted
from maskdsl.analysis.indices.witness import TooFine, Values, witness
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import FALSE, TRUE, Expression, apply
from maskdsl.ir.facts.route_candidates import bounded
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import simplify

BUDGET = 1 << 16
"""The most boxes of one search when a pattern is bound: some tens of milliseconds."""


@dataclass(frozen=True)
class PairSearch:
    """Searches the pairs for which all guards hold."""

    cells: AxisExpressions
    guards: tuple[Expression, ...]
    """Over axis indices, as `cells.of` makes them."""
    budget: int

    def find(self, wanted: Expression, widest: bool) -> Values | None:
        """Values of the variables for which `wanted` certainly holds, or (`widest`) may hold; None if there are none.

        Unknown inputs are bounded by `bounded`. Raises `TooFine` beyond the budget.
        """
        conditions = [
            condition
            for each in (wanted, *self.guards)
            for condition in conjuncts(simplify(bounded(each, widest, self.cells.unknown)))
            if condition != TRUE
        ]
        if FALSE in conditions:
            return None
        wanted, rest = apply(Op.AND, TRUE, *conditions[:1]), conditions[1:]
        near = [each for each in rest if variables(each) <= variables(wanted)]
        if len(near) < len(rest) and not self.possible(wanted, *near):
            return None
        result: Values = {}
        for component in _components((wanted, *rest)):
            values = self.holds(*component)
            if values is None:
                return None
            result |= values
        return result

    def possible(self, *conditions: Expression) -> bool:
        """Whether all conditions may hold together; true if the search exceeds the budget."""
        try:
            return self.holds(*conditions) is not None
        except TooFine:
            return True

    def holds(self, *conditions: Expression) -> Values | None:
        """Values for which all conditions hold; None if there are none. Raises `TooFine` beyond the budget."""
        condition, ranges, shifts = shifted(simplify(apply(Op.AND, TRUE, *conditions)), self.cells.ranges)
        values = witness(simplify(condition), ranges, self.cells.tables, self.budget)
        return None if values is None else unshifted(values, ranges, shifts)


def _components(conditions: Iterable[Expression]) -> list[list[Expression]]:
    """Groups conditions that share variables, directly or through others."""
    components: list[tuple[frozenset[Expression], list[Expression]]] = []
    for condition in conditions:
        names, members = variables(condition), [condition]
        disjoint = []
        for other_names, others in components:
            if other_names & names:
                names, members = other_names | names, others + members
            else:
                disjoint.append((other_names, others))
        components = [*disjoint, (names, members)]
    return [members for _, members in components]
