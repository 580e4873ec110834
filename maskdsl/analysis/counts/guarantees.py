"""What holds whatever routes select: bounds on the keys of each query, before there are queries and keys.

`ir/facts/route_candidates.py` says which pairs may be attended, and which always are. Between the two selectors decide,
of which more is known: `topk(2, ...)` selects 2 candidates, or all if there are fewer. So a query attends what it
always does, and at most the 2 groups that add the most keys to it; at least the 2 that add the fewest, where scores are
finite.

With one route, and candidates that read no other, some call reaches these bounds. Several routes add up above; below,
the one that adds the most counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from maskdsl.analysis.counts.counted import Counted, GroupSums, SingleKeys
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.ir.expressions import TRUE, Apply, Coordinate, Expression, Side, apply
from maskdsl.ir.facts.reads import elements, reads
from maskdsl.ir.facts.route_candidates import CandidateBounds, least, monotone, most, with_all
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.route_meaning import RouteSearch
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import Above, Balanced, Rank, Route, TopCount, TopMass
from maskdsl.ir.simplify import simplify

_LARGEST = 1 << 25
"""Pairs of a query, or of its group, and a key group that are looked at; of larger routes only candidates are known."""

Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class RouteBounds:
    """How many key groups the query groups of a route select, over all heads."""

    name: str
    query_groups: int
    key_groups: int
    least: int
    most: int
    candidates: int
    """Of any query group, at most."""


@dataclass(frozen=True)
class HeadBounds:
    """Of one head over all batch entries, or of all heads together."""

    pairs: int
    least_attended: int
    most_attended: int
    least_keys: int
    """Of any query."""
    most_keys: int

    @property
    def least_density(self) -> float:
        return self.least_attended / self.pairs

    @property
    def most_density(self) -> float:
        return self.most_attended / self.pairs

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"least_density": self.least_density, "most_density": self.most_density}


@dataclass(frozen=True)
class Guarantee:
    total: HeadBounds
    heads: tuple[HeadBounds, ...]
    routes: tuple[RouteBounds, ...]

    def as_dict(self) -> dict[str, Any]:
        heads = [each.as_dict() for each in self.heads]
        return {"total": self.total.as_dict(), "heads": heads, "routes": [asdict(each) for each in self.routes]}


def guarantee(mask: MaskIR, inputs: Inputs) -> Guarantee:
    """From the inputs that decide which pairs may attend, and those that selectors read."""
    plain = mask.declared
    counting = _Counting.of(plain, inputs)
    entries = range(max(len(each.head_classes) for each in counting.all))
    heads = tuple(_summed([counting.bounds(batch, head) for batch in entries]) for head in range(mask.heads))
    routes = tuple(counting.route_bounds(route, len(entries)) for route in counting.routes)
    return Guarantee(_summed(heads), heads, routes)


def _summed(parts: Sequence[HeadBounds]) -> HeadBounds:
    return HeadBounds(
        pairs=sum(each.pairs for each in parts),
        least_attended=sum(each.least_attended for each in parts),
        most_attended=sum(each.most_attended for each in parts),
        least_keys=min(each.least_keys for each in parts),
        most_keys=max(each.most_keys for each in parts),
    )


@dataclass(frozen=True, eq=False)
class _SelectionLimits:
    """How many key groups each query group of a route selects in one head. All arrays are int64 [query groups]."""

    least: Array
    most: Array
    candidates: Array


@dataclass(frozen=True, eq=False)
class _Counting:
    """One mask, in declared order, and the pairs between its bounds."""

    mask: MaskIR
    inputs: Inputs
    least: Counted
    most: Counted
    free: Counted
    """Pairs that some selection adds."""
    alone: Mapping[str, Counted]
    """Pairs that a route adds for certain when it selects their group, whatever others do."""

    @staticmethod
    def of(mask: MaskIR, inputs: Inputs) -> "_Counting":
        low, high = least(mask), most(mask)
        denied = apply(Op.NOT, low.relation)

        def added(by: MaskIR) -> Counted:
            return Counted.of(replace(by, relation=simplify(apply(Op.AND, by.relation, denied))), inputs)

        free = added(high)
        alone = {}
        for route in (each for each in mask.routed if isinstance(each, Route)):
            own = least(with_all(mask, route))
            alone[route.name] = free if own.relation == high.relation else added(own)
        return _Counting(mask, inputs, Counted.of(low, inputs), Counted.of(high, inputs), free, alone)

    @property
    def all(self) -> list[Counted]:
        return [self.least, self.most, self.free, *self.alone.values()]

    @property
    def routes(self) -> list[Route]:
        return [each for each in self.mask.routed if isinstance(each, Route)]

    def bounds(self, batch: int, head: int) -> HeadBounds:
        """Of one head of one batch entry."""
        always, ever = self.least.keys(batch, head), self.most.keys(batch, head)
        fewest, greatest = always, ever
        if monotone(self.mask):
            only_routes = all(isinstance(each, Route | Rank) for each in self.mask.routed)
            above = always if only_routes else ever
            for route in self.routes:
                limits, chooser = self.limits(route, batch, head), self.group_of_query(route, batch, head)
                taken, fully, candidates = (
                    np.append(each, 0)[chooser] for each in (limits.least, limits.most, limits.candidates)
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
            least_keys=int(fewest.min()),
            most_keys=int(greatest.max()),
        )

    def balanced_pairs(self) -> int:
        """All pairs of the tokens that centroids take, where these alone decide; else all pairs."""
        lengths = self.mask.queries.length, self.mask.keys.length
        parts = [each for each in self.mask.routed if not isinstance(each, Rank)]
        balanced = [each for each in parts if isinstance(each, Balanced)]
        if len(balanced) < len(parts) or not monotone(self.mask):
            return lengths[0] * lengths[1]
        of_queries = (each for each in balanced if each.side is Side.QUERY)
        return sum(
            (each.last - each.first) * min(each.size, lengths[0]) * min(each.size, lengths[1]) for each in of_queries
        )

    def route_bounds(self, route: Route, entries: int) -> RouteBounds:
        found = [
            (self.limits(route, batch, head), self.finding(batch, head).exists(Side.QUERY, route.queries))
            for batch in range(entries)
            for head in range(self.mask.heads)
        ]
        return RouteBounds(
            name=route.name,
            query_groups=max(int(np.count_nonzero(exists)) for _, exists in found),
            key_groups=int(np.count_nonzero(self.finding(0, 0).exists(Side.KEY, route.keys))),
            least=min(int(limits.least[exists].min()) for limits, exists in found),
            most=max(int(limits.most[exists].max()) for limits, exists in found),
            candidates=max(int(limits.candidates[exists].max()) for limits, exists in found),
        )

    def finding(self, batch: int, head: int) -> RouteSearch:
        return RouteSearch(self.mask, self.inputs, None, None, batch, head)

    def limits(self, route: Route, batch: int, head: int) -> _SelectionLimits:
        finding, bounds = self.finding(batch, head), CandidateBounds.of(self.mask)
        exists = finding.exists(Side.KEY, route.keys)
        size, keys = (route.queries.count, route.keys.count), int(np.count_nonzero(exists))

        def counted(candidates: Expression, unknown: int) -> Array:
            if candidates == TRUE:
                return np.full(size[0], keys)
            if size[0] * size[1] > _LARGEST:
                return np.full(size[0], unknown)
            return np.asarray(np.count_nonzero(finding.evaluate(candidates, route) & exists, axis=1))

        fewest = counted(bounds.bound(route.candidates, False), 0)
        candidates = counted(bounds.bound(route.candidates, True), keys)
        match route.selector:
            case TopCount(count=count):
                taken = np.maximum(finding.evaluate(count, route)[:, 0], 0)
                return _SelectionLimits(np.minimum(taken, fewest), np.minimum(taken, candidates), candidates)
            case TopMass(mass=mass, over_head=False):
                some = finding.evaluate(mass, route)[:, 0] > 0
                return _SelectionLimits(np.minimum(some, fewest), candidates * some, candidates)
            case TopMass() | Above():
                return _SelectionLimits(np.zeros_like(fewest), candidates, candidates)

    def group_of_query(self, route: Route, batch: int, head: int) -> Array:
        """int64 [queries]; -1 for none."""
        if route.queries.by is None:
            return np.zeros(self.mask.queries.length, dtype=np.int64)
        found = np.full(self.mask.queries.length, -1)
        groups, tokens = self.finding(batch, head).having(Side.QUERY, route.queries)
        found[tokens] = groups
        return found

    def sums(self, counted: Counted, route: Route, batch: int, head: int) -> GroupSums | None:
        """The pairs of a relation by groups of keys; None where these are too many, or not known."""
        grouping = route.keys
        if grouping.by == "i" or (grouping.by is None and self.tells_keys_apart(route)):
            return SingleKeys(counted.keys(batch, head))
        if grouping.by is None and grouping.count > 1:
            return None
        tokens = np.arange(self.mask.keys.length)
        groups = np.zeros_like(tokens)
        if grouping.by is not None:
            groups, tokens = self.finding(batch, head).having(Side.KEY, grouping)
        different, groups = np.unique(groups, return_inverse=True)
        if self.mask.queries.length * len(different) > _LARGEST:
            return None
        numbers = np.full(self.mask.keys.length, len(different))
        numbers[tokens] = groups
        return counted.by_group(batch, head, numbers, len(different))

    def tells_keys_apart(self, route: Route) -> bool:
        """Whether the number of a group, for one query, is the key's position plus or minus something."""
        return all(_position_once(read.indices[-1]) for read in elements(self.mask.relation, route.name))


def _position_once(expression: Expression) -> bool:
    """Sums and differences with one `k.i` and nothing else of the key."""
    match expression:
        case Coordinate(side=Side.KEY, name="i"):
            return True
        case Apply(op=Op.ADD | Op.SUBTRACT, arguments=(one, other)):
            return any(_position_once(a) and not _reads_key(b) for a, b in ((one, other), (other, one)))
        case _:
            return False


def _reads_key(expression: Expression) -> bool:
    return bool(reads(expression).names(Side.KEY))
