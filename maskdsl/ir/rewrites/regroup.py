"""Regrouping for routes in which each query selects its own groups of keys: one mask as two, for two passes.

If each query selects alone, almost every tile has a query that needs it. So one pass attends the pairs that no
selection decides. In the other, each query is copied once per selected group, and copies are sorted by group, so that
tiles are full again. The two results are merged by their log-sum-exp. MoBA's kernels do the same (arXiv 2502.13189).
"""

from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import CoordinateDefinition, Given
from maskdsl.ir.expressions import (
    FALSE,
    TRUE,
    Constant,
    Coordinate,
    Expression,
    Side,
    apply,
)
from maskdsl.ir.facts.reads import elements, reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.rewrites.chosen_pairs import if_chosen, only_adds
from maskdsl.ir.rewrites.chunk import Gathered, Leaf
from maskdsl.ir.routes import Route, TopCount
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.group_scores import Extent

CHOSEN_GROUP = "chosen group"
"""The coordinate of a query copy that holds its selected group, -1 for none. No pattern can declare the name."""
_MOST_COPIES = 64
_HEADS, _TOKENS = DimensionKind.HEADS, DimensionKind.TOKENS


@dataclass(frozen=True)
class Regrouping:
    """A mask as two: the pairs that attend whatever is selected, and the pairs that a selected group adds."""

    mask: MaskIR
    route: Route
    copies: int
    """Copies of each query: the most groups that it selects."""

    @property
    def fixed(self) -> MaskIR | None:
        """The pairs that attend even if nothing is selected; None if there are none."""
        relation = simplify(self.if_selected(FALSE))
        return None if relation == FALSE else _without_route(self.mask, self.route, relation)

    @property
    def added(self) -> MaskIR:
        """The pairs that one selected group adds; the group is a coordinate of the query."""
        key = next(elements(self.mask.relation, self.route.name)).indices[-1]
        in_group = apply(Op.EQUAL, Coordinate(Side.QUERY, CHOSEN_GROUP), key)
        relation = apply(Op.AND, in_group, self.if_selected(TRUE), apply(Op.NOT, self.if_selected(FALSE)))
        mask = _without_route(self.mask, self.route, simplify(relation))
        spaces = tuple((space.name, Given(CHOSEN_GROUP)) for space in mask.queries.spaces)
        definition = CoordinateDefinition(CHOSEN_GROUP, Type.INT, spaces)
        queries = replace(mask.queries, coordinates=(*mask.queries.coordinates, definition))
        dimensions = (_HEADS, mask.heads, "heads"), (_TOKENS, mask.queries.length, "queries")
        given = Input(CHOSEN_GROUP, Type.INT, tuple(Dimension(*each) for each in dimensions))
        # The fixed pairs have the sinks.
        return replace(mask, queries=queries, inputs=(*mask.inputs, given), self_attention=False, sinks=())

    def if_selected(self, value: Constant) -> Expression:
        """The relation if every group is selected (TRUE) or none is (FALSE)."""
        return if_chosen(self.mask.relation, self.route.name, value)


def _without_route(mask: MaskIR, route: Route, relation: Expression) -> MaskIR:
    """The mask with a relation that does not read `route`; the results of other routes become given inputs."""
    inputs = tuple(each for each in mask.inputs if each.name != route.name)
    plain = replace(mask, factor=None)  # of the sum of both passes
    return replace(plain, relation=relation, attend=(), require=(), inputs=inputs, routed=())


def regrouping(mask: MaskIR) -> Regrouping | None:
    """The regrouping of a mask; None unless exactly one route selects a constant number of key groups per query."""
    routes = [each for each in mask.routed if isinstance(each, Route) and each.name in reads(mask.relation).inputs]
    per_query = [each for each in routes if each.queries.by == "i" and each.keys.by not in (None, "i")]
    pooled = mask.queries.is_pooled or mask.keys.is_pooled
    if len(per_query) != 1 or pooled or not mask.has_sums:
        return None
    (route,) = per_query
    if route.name in reads(*mask.pair_values).inputs:  # the selection also decides scores or weights
        return None
    match route.selector:
        case TopCount(count=Constant(value=int(count)), per=Extent.QUERY) if (
            count >= 1 and route.always == FALSE and only_adds(mask.relation, route.name)
        ):
            copies = min(count, route.keys.count)
            made = Regrouping(mask, route, copies)
            return None if copies > _MOST_COPIES or (mask.sinks and made.fixed is None) else made
        case _:
            return None


@dataclass(frozen=True)
class Copies(Gathered):
    """Copies of queries, different ones in each head and batch entry, against all keys."""

    @property
    def condition(self) -> Expression:
        return TRUE

    @property
    def conditions(self) -> tuple[Input, ...]:
        return ()

    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        if node.side is Side.QUERY:
            return frozenset({DimensionKind.BATCH, DimensionKind.HEADS})
        return self.varying(node)
