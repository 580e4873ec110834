"""Bounds on the keys of each query that hold whatever routes select, before there are queries and keys.

`ir/facts/route_candidates.py` gives the pairs that may attend and the pairs that always do. In between, selectors
decide: `topk(2, ...)` selects 2 candidates, or all if there are fewer. So a query attends its certain keys, and at most
the 2 groups that add the most keys; at least the 2 that add the fewest, if scores are finite.

With one route whose candidates read no other route, some call reaches these bounds. For several routes, upper bounds
add up, and the largest of the lower bounds counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from maskdsl.analysis.causal.causality import Causality, causality
from maskdsl.analysis.counts.key_counts import GroupSums, KeyCounts, SingleKeys
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import TRUE, Apply, Constant, Coordinate, Expression, Side, apply
from maskdsl.ir.facts.reads import elements, reads
from maskdsl.ir.facts.route_candidates import CandidateBounds, least, monotone, most, possible, with_all
from maskdsl.ir.facts.trace import pair_trace, trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.route_meaning import RouteSearch
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import Above, Balanced, OfInputs, Route, TopCount, TopMass, selector_argument
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.group_scores import Extent

_LARGEST = 1 << 25
"""The most pairs of queries (or query groups) and key groups that are evaluated; larger routes get looser bounds."""

Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class RouteBounds:
    """The numbers of key groups that query groups of a route select, over all heads."""

    name: str
    query_groups: int
    key_groups: int
    least: int
    most: int
    candidates: int
    """The most candidates of any query group."""


@dataclass(frozen=True)
class HeadBounds:
    """Bounds on attended pairs and keys per query, of one head over all batch entries or of all heads together."""

    pairs: int
    least_attended: int
    most_attended: int
    least_keys: int
    """Bounds on the keys of every query: each attends from `least_keys` to `most_keys`."""
    most_keys: int

    @property
    def least_density(self) -> float:
        """The least share of pairs that attend."""
        return self.least_attended / self.pairs

    @property
    def most_density(self) -> float:
        """The largest share of pairs that attend."""
        return self.most_attended / self.pairs

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self) | {"least_density": self.least_density, "most_density": self.most_density}


@dataclass(frozen=True)
class Guarantee:
    """The bounds of all heads, of each head, and of each route."""

    total: HeadBounds
    heads: tuple[HeadBounds, ...]
    routes: tuple[RouteBounds, ...]
    causality: tuple[Causality, ...]
    """Whether later tokens change what is selected: of each route, and last of the pattern as a whole."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        heads = [each.as_dict() for each in self.heads]
        return {
            "total": self.total.as_dict(),
            "heads": heads,
            "routes": [asdict(each) for each in self.routes],
            "causality": [each.as_dict() for each in self.causality],
        }


def guarantee(mask: MaskIR, inputs: Inputs) -> Guarantee:
    """The bounds of a mask. `inputs` has those that decide which pairs may attend, and those that selectors read."""
    plain = mask.declared
    counting = _Counting.of(plain, inputs)
    entries = range(max(len(each.head_classes) for each in counting.all))
    kinds = {(batch, head): counting.kind(batch, head) for batch in entries for head in range(mask.heads)}
    different = list({kind: pair for pair, kind in kinds.items()}.values())
    bounds = {kinds[pair]: counting.bounds(*pair) for pair in different}
    heads = tuple(_summed([bounds[kinds[batch, head]] for batch in entries]) for head in range(mask.heads))
    routes = tuple(counting.route_bounds(route, different) for route in counting.routes)
    return Guarantee(_summed(heads), heads, routes, causality(mask, inputs))


def _summed(bounds: Sequence[HeadBounds]) -> HeadBounds:
    return HeadBounds(
        pairs=sum(each.pairs for each in bounds),
        least_attended=sum(each.least_attended for each in bounds),
        most_attended=sum(each.most_attended for each in bounds),
        least_keys=min(each.least_keys for each in bounds),
        most_keys=max(each.most_keys for each in bounds),
    )


@dataclass(frozen=True, eq=False)
class _SelectionLimits:
    """Bounds on the key groups that each query group of a route selects in one head: int64 [query groups]."""

    least: Array
    most: Array
    candidates: Array


@dataclass(frozen=True, eq=False)
class _Counting:
    """The key counts of a mask in declared order: of its bounds, and of the pairs between them."""

    mask: MaskIR
    inputs: Inputs
    least: KeyCounts
    most: KeyCounts
    free: KeyCounts
    """Pairs of `most` without those of `least`: some selection adds them."""
    alone: Mapping[str, KeyCounts]
    """By route, the pairs that it adds for certain if it selects their group, whatever other routes select."""
    known: dict[tuple[str, int, int], _SelectionLimits] = field(default_factory=dict)
    """By route, batch entry and head."""

    @staticmethod
    def of(mask: MaskIR, inputs: Inputs) -> "_Counting":
        low, high = least(mask), most(mask)
        denied = apply(Op.NOT, low.relation)

        def added(by: MaskIR) -> KeyCounts:
            return KeyCounts.of(replace(by, relation=simplify(apply(Op.AND, by.relation, denied))), inputs)

        free = added(high)
        alone = {}
        for route in (each for each in mask.routed if isinstance(each, Route)):
            certain = least(with_all(mask, route))
            alone[route.name] = free if certain.relation == high.relation else added(certain)
        return _Counting(mask, inputs, KeyCounts.of(low, inputs), KeyCounts.of(high, inputs), free, alone)

    @property
    def all(self) -> list[KeyCounts]:
        """All key counts."""
        return [self.least, self.most, self.free, *self.alone.values()]

    @property
    def routes(self) -> list[Route]:
        return [each for each in self.mask.routed if isinstance(each, Route)]

    @cached_property
    def _varies(self) -> frozenset[DimensionKind]:
        """Which of BATCH and HEADS the groups of routes, and the limits of what they select, depend on."""
        bounds, mask = CandidateBounds.of(self.mask), self.mask
        pairs = (expression for each in self.routes for expression in (each.candidates, each.always))
        known = [bounds.bound(each, widest) for each in pairs for widest in (False, True)]
        over_groups = pair_trace(mask, [*known, *(selector_argument(each.selector) for each in self.routes)])
        over_tokens = [
            trace(sequence, [*sequence.counted, *(read for each in self.routes for read in each.over_token(side))])
            for side, sequence in mask.sequences.items()
        ]
        return frozenset().union(*(each.varies(mask) for each in (over_groups, *over_tokens)))

    def kind(self, batch: int, head: int) -> tuple[int | None, ...]:
        """What decides the bounds of a head and batch entry: those that have it in common have the same bounds."""
        numbers = {DimensionKind.BATCH: batch, DimensionKind.HEADS: head}
        classes = (each.head_class(batch, head) for each in self.all)
        return (*classes, *(number if kind in self._varies else None for kind, number in numbers.items()))

    def bounds(self, batch: int, head: int) -> HeadBounds:
        """The bounds of one head and batch entry."""
        always, ever = self.least.keys(batch, head), self.most.keys(batch, head)
        fewest, greatest = always, ever
        if monotone(self.mask):
            only_routes = all(isinstance(each, Route | OfInputs) for each in self.mask.routed)
            above = always if only_routes else ever
            for route in self.routes:
                limits, group = self.limits(route, batch, head), self.group_of_query(route, batch, head)
                taken, fully, candidates = (
                    np.append(each, 0)[group] for each in (limits.least, limits.most, limits.candidates)
                )
                sums = self.sums(self.free, route, batch, head)
                above = ever if sums is None else above + sums.largest(fully)
                sums = self.sums(self.alone[route.name], route, batch, head)
                if sums is not None:
                    fewest = np.maximum(fewest, always + sums.smallest(taken, candidates))
            greatest = np.minimum(above, ever)
        return HeadBounds(
            pairs=len(always) * self.mask.keys.length,
            least_attended=int(fewest.sum()),
            most_attended=min(int(greatest.sum()), int(always.sum()) + self.balanced_pairs()),
            least_keys=int(fewest.min()) if len(fewest) else 0,
            most_keys=int(greatest.max(initial=0)),
        )

    def balanced_pairs(self) -> int:
        """An upper bound on the pairs that balanced clusters add: each cluster has a fixed number of tokens."""
        lengths = self.mask.queries.length, self.mask.keys.length
        selecting = [each for each in self.mask.routed if not isinstance(each, OfInputs)]
        balanced = [each for each in selecting if isinstance(each, Balanced)]
        if len(balanced) < len(selecting) or not monotone(self.mask):
            return lengths[0] * lengths[1]
        of_queries = (each for each in balanced if each.side is Side.QUERY)
        return sum(
            (each.last - each.first) * min(each.size, lengths[0]) * min(each.size, lengths[1]) for each in of_queries
        )

    def route_bounds(self, route: Route, entries: Sequence[tuple[int, int]]) -> RouteBounds:
        """The bounds of one route over these batch entries and heads, one for each kind."""
        each_head = [
            (self.limits(route, batch, head), self.search(batch, head).exists(Side.QUERY, route.queries))
            for batch, head in entries
        ]
        return RouteBounds(
            name=route.name,
            query_groups=max(int(np.count_nonzero(exists)) for _, exists in each_head),
            key_groups=int(np.count_nonzero(self.search(0, 0).exists(Side.KEY, route.keys))),
            least=min(int(limits.least[exists].min()) for limits, exists in each_head),
            most=max(int(limits.most[exists].max()) for limits, exists in each_head),
            candidates=max(int(limits.candidates[exists].max()) for limits, exists in each_head),
        )

    def search(self, batch: int, head: int) -> RouteSearch:
        """Evaluates what needs no vectors of queries and keys."""
        return RouteSearch(self.mask, self.inputs, None, None, batch, head)

    def limits(self, route: Route, batch: int, head: int) -> _SelectionLimits:
        """Bounds on the key groups that each query group selects."""
        key = route.name, batch, head
        if key not in self.known:
            self.known[key] = self._limits(route, batch, head)
        return self.known[key]

    def _limits(self, route: Route, batch: int, head: int) -> _SelectionLimits:
        search, bounds = self.search(batch, head), CandidateBounds.of(self.mask)
        exists, level = search.exists(Side.KEY, route.keys), (route.queries, route.keys)
        size, keys = (route.queries.count, route.keys.count), int(np.count_nonzero(exists))

        def counted(pairs: Expression, widest: bool) -> Array:
            known = simplify(bounds.bound(pairs, widest))
            if isinstance(known, Constant):
                return np.full(size[0], keys if known == TRUE else 0)
            if size[0] * size[1] > _LARGEST:
                return np.full(size[0], keys if widest else 0)
            return np.asarray(np.count_nonzero(search.evaluate(known, level) & exists, axis=1))

        fewest, forced, most_forced = (
            counted(pairs, widest)
            for pairs, widest in ((route.candidates, False), (route.always, False), (route.always, True))
        )
        candidates = counted(possible(route), True)
        match route.selector:
            case TopCount(count=count, per=Extent.QUERY):
                taken = np.maximum(search.evaluate(count, level)[:, 0], 0)
                low, high = np.minimum(taken, fewest), np.minimum(taken, candidates)
            case TopMass(mass=mass, per=Extent.QUERY):
                some = search.evaluate(mass, level)[:, 0] > 0
                low, high = np.minimum(some, fewest), candidates * some
            case TopCount() | TopMass() | Above():
                low, high = np.zeros_like(fewest), candidates
        return _SelectionLimits(np.maximum(low, forced), np.maximum(high, most_forced), candidates)

    def group_of_query(self, route: Route, batch: int, head: int) -> Array:
        """int64 [queries]: the group of each query, -1 for none."""
        if route.queries.by is None:
            return np.zeros(self.mask.queries.length, dtype=np.int64)
        result = np.full(self.mask.queries.length, -1)
        groups, tokens = self.search(batch, head).having(Side.QUERY, route.queries)
        result[tokens] = groups
        return result

    def sums(self, counted: KeyCounts, route: Route, batch: int, head: int) -> GroupSums | None:
        """Sums over the key groups of the counted pairs; None if there are too many groups, or they are not known."""
        grouping = route.keys
        if grouping.by == "i" or (grouping.by is None and self.tells_keys_apart(route)):
            return SingleKeys(counted.keys(batch, head))
        if grouping.by is None and grouping.count > 1:
            return None
        tokens = np.arange(self.mask.keys.length)
        groups = np.zeros_like(tokens)
        if grouping.by is not None:
            groups, tokens = self.search(batch, head).having(Side.KEY, grouping)
        different, groups = np.unique(groups, return_inverse=True)
        if self.mask.queries.length * len(different) > _LARGEST:
            return None
        numbers = np.full(self.mask.keys.length, len(different))
        numbers[tokens] = groups
        return counted.by_group(batch, head, numbers, len(different))

    def tells_keys_apart(self, route: Route) -> bool:
        """Whether, for one query, each group has one key: its number is the key's position plus or minus a constant."""
        return all(_position_once(read.indices[-1]) for read in elements(self.mask.relation, route.name))


def _position_once(expression: Expression) -> bool:
    """Whether the expression is a sum or difference with `k.i` once and no other coordinate of the key."""
    match expression:
        case Coordinate(side=Side.KEY, name="i"):
            return True
        case Apply(op=Op.ADD | Op.SUBTRACT, arguments=(one, other)):
            return any(_position_once(a) and not _reads_key(b) for a, b in ((one, other), (other, one)))
        case _:
            return False


def _reads_key(expression: Expression) -> bool:
    return bool(reads(expression).names(Side.KEY))
