"""Whether later tokens can change what earlier queries select, and what they get. Before a call, or with its inputs.

Certain where it says yes; where it says no, some token may be read that changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from maskdsl.analysis.causal.later_tokens import Later, LaterTokens
from maskdsl.analysis.causal.token_reads import TokenReads
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Expression, Side
from maskdsl.ir.facts.trace import pair_trace, pooling_trace, trace
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.meaning.inputs import batch_entries
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.ops import Array
from maskdsl.ir.routes import (
    Balanced,
    Draw,
    Nearest,
    Pools,
    Rank,
    Route,
    route_expressions,
)


@dataclass(frozen=True)
class Causality:
    """Whether what earlier queries select by a route, or get of a pattern, depends on no later token."""

    name: str
    """Of the route, as it is written; of the pattern, if `whole`."""
    whole: bool
    holds: bool
    reason: str = ""
    """Why it does not hold."""
    certain: bool = True
    """Whether it is certain that it does not hold. Without the inputs of a call, some patterns may be causal or not."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def causality(mask: MaskIR, inputs: Mapping[str, Array] | None = None) -> tuple[Causality, ...]:
    """Of each route that a pattern declares, then of the pattern as a whole. `inputs` are those that are known."""
    plain, known = mask.declared, dict(inputs or {})
    masks = plain.branches or (plain,)
    of_routes: dict[str, Causality] = {}
    for each in masks:
        for name in _route_names(each):
            before = of_routes.get(name)
            if before is None or before.holds:
                of_routes[name] = _of_route(each, name, known)
    return (*of_routes.values(), _of_whole(plain.name, masks, known))


def looks_back(mask: MaskIR) -> bool:
    """Whether no query attends a later token, whatever is selected."""
    plain = mask.declared
    later = (each.attended() for branch in plain.branches or (plain,) for each in _searches(branch, {}))
    return next(chain.from_iterable(later), None) is None


def _route_names(mask: MaskIR) -> tuple[str, ...]:
    """The routes that a pattern declares, as they are written."""
    names: dict[str, None] = {}
    for each in mask.routed:
        match each:
            case Route(name=name):
                names[name] = None
            case Nearest(name=name, side=side):
                names[name.removesuffix(f"_{side.plural}")] = None
            case Balanced(name=name, side=side, first=first):
                name = name.removesuffix(f"_{side.plural}")
                several = any(isinstance(other, Balanced) and other.first for other in mask.routed)
                names[name.removesuffix(f"_{first}") if several else name] = None
            case _:
                pass
    return tuple(names)


def _of_route(mask: MaskIR, name: str, inputs: Mapping[str, Array]) -> Causality:
    route = next((each for each in mask.routed if isinstance(each, Route) and each.name == name), None)
    if route is None:
        clusters = (each for each in mask.routed if isinstance(each, Balanced) and each.name.startswith(f"{name}_"))
        return _causality_of(name, False, [Later("clusters choose among all tokens", True) for _ in clusters])
    later = (each.of_routed(name, each.tokens.positions(Side.QUERY)) for each in _searches(mask, inputs))
    return _causality_of(name, False, chain.from_iterable(later))


def _of_whole(name: str, masks: Sequence[MaskIR], inputs: Mapping[str, Array]) -> Causality:
    return _causality_of(name, True, chain.from_iterable(_of_pattern(each, inputs) for each in masks))


def _of_pattern(mask: MaskIR, inputs: Mapping[str, Array]) -> Iterator[Later]:
    if mask.normalize is Normalize.BY_KEY:
        yield Later("queries share the probability of each key", True)
    for each in _searches(mask, inputs):
        yield from each.of_pattern()


def _causality_of(name: str, whole: bool, later: Iterable[Later]) -> Causality:
    """What is known of a route or pattern, from the first reason against it."""
    first = next(iter(later), None)
    return Causality(name, whole, True) if first is None else Causality(name, whole, False, first.reason, first.certain)


def _searches(mask: MaskIR, inputs: Mapping[str, Array]) -> Iterator[LaterTokens]:
    """A search in each batch entry and head that may differ."""
    names = {each.name for each in mask.inputs}
    given = {name: array for name, array in inputs.items() if name in names}
    known = with_routes(mask, given, wanted=_findable(mask, given))
    traced = pair_trace(mask, [mask.relation, *mask.expressions, *_of_routes(mask)])
    varies = traced.varies(mask)
    batches = batch_entries(mask, given) if DimensionKind.BATCH in varies else 1
    heads = mask.heads if DimensionKind.HEADS in varies else 1
    for batch, head in np.ndindex(batches, heads):
        yield LaterTokens(mask, TokenReads(mask, known, batch, head))


def _findable(mask: MaskIR, inputs: Mapping[str, Array]) -> frozenset[str]:
    """The routes that can be found from the known inputs alone."""
    findable: set[str] = set()
    for each in mask.routed:
        match each:
            case Rank(side=side, keys=keys):
                needed = trace(mask.sequences[side], keys).inputs
            case Pools():
                needed = pooling_trace(mask.groupings).inputs
            case Draw():
                needed = pair_trace(mask, route_expressions(each)).inputs
            case _:
                continue
        if needed <= inputs.keys() | findable:
            findable.add(each.name)
    return frozenset(findable)


def _of_routes(mask: MaskIR) -> Iterator[Expression]:
    for each in mask.routed:
        yield from route_expressions(each)
