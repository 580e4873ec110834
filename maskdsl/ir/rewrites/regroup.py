"""Queries that each choose a few groups of keys, regrouped: what one pass over tiles cannot do well, as two.

Where every query chooses for itself, hardly a tile is left that none of its queries needs. So one pass attends what no
choice decides. In the other each query has a copy for each of its choices, and copies of one choice stand side by
side: its tiles are full again. (MoBA's own kernels do the same, arXiv 2502.13189.) Their results are merged by their
log-sum-exps.
"""

from dataclasses import dataclass, replace

from maskdsl.ir.expressions import (
    FALSE,
    TRUE,
    Apply,
    Constant,
    Coordinate,
    Expression,
    Read,
    Side,
    apply,
    rebuild,
)
from maskdsl.ir.facts.reads import elements, reads
from maskdsl.ir.mask import CoordinateDefinition, Dimension, DimensionKind, Given, Input, MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.rewrites.chunk import Gathered, Leaf
from maskdsl.ir.routes import Route, TopCount
from maskdsl.ir.simplify import simplify

CHOICE = "chosen group"
"""That of a copy of a query; -1 for none. No name that a pattern could have."""
_MOST_COPIES = 64
_HEADS, _TOKENS = DimensionKind.HEADS, DimensionKind.TOKENS


@dataclass(frozen=True)
class Regrouping:
    """A mask as two: pairs that attend whatever is chosen, and pairs that a choice adds."""

    mask: MaskIR
    route: Route
    copies: int
    """Of each query: how many groups it chooses at most."""

    @property
    def fixed(self) -> MaskIR | None:
        """Without the route; None if nothing attends then."""
        relation = simplify(self.with_choice(FALSE))
        return None if relation == FALSE else _without_route(self.mask, self.route, relation)

    @property
    def added(self) -> MaskIR:
        """The pairs that one choice adds: it is a coordinate of the query."""
        key = next(elements(self.mask.relation, self.route.name)).indices[-1]
        chosen = apply(Op.EQUAL, Coordinate(Side.QUERY, CHOICE), key)
        relation = apply(Op.AND, chosen, self.with_choice(TRUE), apply(Op.NOT, self.with_choice(FALSE)))
        mask = _without_route(self.mask, self.route, simplify(relation))
        spaces = tuple((space.name, Given(CHOICE)) for space in mask.queries.spaces)
        definition = CoordinateDefinition(CHOICE, Type.INT, spaces)
        queries = replace(mask.queries, coordinates=(*mask.queries.coordinates, definition))
        dimensions = (_HEADS, mask.heads, "heads"), (_TOKENS, mask.queries.length, "queries")
        given = Input(CHOICE, Type.INT, tuple(Dimension(*each) for each in dimensions))
        return replace(mask, queries=queries, inputs=(*mask.inputs, given), self_attention=False)

    def with_choice(self, value: Constant) -> Expression:
        def chosen(node: Expression) -> Expression | None:
            return value if isinstance(node, Read) and node.input == self.route.name else None

        return rebuild(self.mask.relation, chosen)


def _without_route(mask: MaskIR, route: Route, relation: Expression) -> MaskIR:
    """With another relation, which does not read the route; what else is found is given."""
    inputs = tuple(each for each in mask.inputs if each.name != route.name)
    return replace(mask, relation=relation, attend=(), require=(), inputs=inputs, routed=())


def regrouping(mask: MaskIR) -> Regrouping | None:
    """How a mask is regrouped, if one route lets each query choose a known number of groups of keys."""
    routes = [each for each in mask.routed if isinstance(each, Route) and each.name in reads(mask.relation).inputs]
    chosen = [each for each in routes if each.queries.by == "i" and each.keys.by not in (None, "i")]
    if len(chosen) != 1 or mask.keys.is_pooled:
        return None
    (route,) = chosen
    if route.name in reads(*mask.pair_values).inputs:  # a choice decides more than who attends
        return None
    match route.selector:
        case TopCount(count=Constant(value=int(count))) if count >= 1 and _only_adds(mask.relation, route):
            copies = min(count, route.keys.count)
            return Regrouping(mask, route, copies) if copies <= _MOST_COPIES else None
        case _:
            return None


def _only_adds(relation: Expression, route: Route) -> bool:
    """Whether what is selected can only make a pair attend: it stands below `and` and `or` alone."""
    if route.name not in reads(relation).inputs:
        return True
    match relation:
        case Read():
            return True
        case Apply(op=Op.AND | Op.OR, arguments=parts):
            return all(_only_adds(part, route) for part in parts)
        case _:
            return False


@dataclass(frozen=True)
class Copies(Gathered):
    """Copies of queries, other ones in each head of each batch entry, against all keys."""

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
