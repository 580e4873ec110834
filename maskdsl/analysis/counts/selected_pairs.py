"""Statistics of what routes selected in one call: key groups per query group, load of key groups, overlap of heads.

Made from the results of `ir/meaning/route_meaning.py`. Groups without tokens do not count. For `nearest` and `balanced`
each query is a query group, and the key groups are the centroids.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Given
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.route_meaning import RouteSearch
from maskdsl.ir.routes import Balanced, Nearest, OfInputs, Route

_STRETCHES = 32
"""The most entries of a profile."""
PAIRS = 1 << 24
"""About the most pairs of a head that are compared with other heads; if there are more, evenly spaced rows are."""
_BATCH = 1 << 20
"""About the pairs of a head that are compared at once."""

Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Distribution:
    """The distribution of a nonempty sample of integers."""

    least: int
    mean: float
    most: int
    variation: float
    """The standard deviation over the mean; 0 if the mean is 0."""

    @staticmethod
    def of(numbers: Array) -> "Distribution":
        """The distribution of an array of integers."""
        mean = float(numbers.mean())
        return Distribution(int(numbers.min()), mean, int(numbers.max()), float(numbers.std()) / mean if mean else 0.0)


@dataclass(frozen=True)
class HeadSelection:
    """The selection of one head, over all batch entries."""

    share: float
    """The share of pairs of groups that are selected."""
    chosen: Distribution
    """Key groups per query group."""
    load: Distribution
    """Query groups per key group."""
    profile: tuple[float, ...]
    """Mean load of consecutive ranges of key groups, in the first batch entry."""


@dataclass(frozen=True)
class Selection:
    """The selection of one route."""

    name: str
    query_groups: int
    """Query groups with tokens, in the first head and batch entry; `key_groups` likewise."""
    key_groups: int
    heads: tuple[HeadSelection, ...]
    overlap: tuple[tuple[float, ...], ...]
    """For each two heads, pairs that both selected over pairs that either selected (intersection over union)."""

    @property
    def mean_overlap(self) -> float | None:
        """The mean over pairs of different heads; None for one head."""
        pairs = [self.overlap[one][other] for other in range(len(self.heads)) for one in range(other)]
        return sum(pairs) / len(pairs) if pairs else None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        return {**asdict(self), "mean_overlap": self.mean_overlap}


def selections(mask: MaskIR, inputs: Inputs) -> tuple[Selection, ...]:
    """The selection of each route, in declared order. `inputs` has the results of routes."""
    return tuple(_measure(each, mask.heads) for each in _route_tables(mask, inputs))


@dataclass(frozen=True, eq=False)
class _RouteTables:
    """The result of one route, as tables."""

    name: str
    entries: int
    """Batch entries."""
    table: Callable[[int, int], Array]
    """Maps a batch entry and a head to bool [query groups, key groups], of groups with tokens."""
    size: tuple[int, int]
    """Rows and columns of the table that is compared between heads."""
    rows: Callable[[int, int, Array], Array]
    """Maps a batch entry, a head and row numbers to bool [these rows, columns]: which columns each row selected."""


def _route_tables(mask: MaskIR, inputs: Inputs) -> Iterator[_RouteTables]:
    """Yields the tables of each route that was evaluated; a route that nothing reads need not be."""
    selecting = (each for each in mask.routed if not isinstance(each, OfInputs))
    for _, same_line in groupby(selecting, lambda each: each.span):
        first, *others = routed = list(same_line)
        if any(each.name not in inputs for each in routed):
            continue
        match first:
            case Route():
                yield _of_table(mask, inputs, first)
            case Nearest():
                yield _of_clusters(mask, inputs, first)
            case Balanced():
                words = [first, *(each for each in others if isinstance(each, Balanced))]
                yield _of_members(mask, inputs, words[::2], words[1::2])


def _of_table(mask: MaskIR, inputs: Inputs, route: Route) -> _RouteTables:
    tables, declared = inputs[route.name], mask.input(route.name)
    assert declared is not None

    def whole(batch: int, head: int) -> Array:
        return np.asarray(tables[(batch, *declared.entry_of_head(head, mask.heads))])

    def table(batch: int, head: int) -> Array:
        search = RouteSearch(mask, inputs, None, None, batch, head)
        queries, keys = search.exists(Side.QUERY, route.queries), search.exists(Side.KEY, route.keys)
        return np.asarray(whole(batch, head)[queries][:, keys])

    size = route.queries.count, route.keys.count
    return _RouteTables(route.name, len(tables), table, size, lambda batch, head, rows: whole(batch, head)[rows])


def _of_clusters(mask: MaskIR, inputs: Inputs, nearest: Nearest) -> _RouteTables:
    name = _coordinate_name(mask, nearest.name)
    queries, keys = (inputs[f"{name}_{side}"] for side in ("queries", "keys"))
    clusters = np.arange(inputs[nearest.centroids].shape[1])

    def rows(batch: int, head: int, numbers: Array) -> Array:
        return np.asarray(queries[batch, head, numbers, None] == keys[batch, head])

    size = queries.shape[-1], keys.shape[-1]
    return _RouteTables(name, len(queries), lambda batch, head: queries[batch, head, :, None] == clusters, size, rows)


def _of_members(mask: MaskIR, inputs: Inputs, queries: list[Balanced], keys: list[Balanced]) -> _RouteTables:
    """From integers with one bit per centroid, several if there are many centroids."""
    name = _coordinate_name(mask, queries[0].name)
    if len(queries) > 1:
        name = name.removesuffix(f"_{queries[0].first}")
    query_bits, key_bits = ([inputs[each.name] for each in words] for words in (queries, keys))

    def table(batch: int, head: int) -> Array:
        words = zip(queries, query_bits, strict=True)
        bits = [one[batch, head][:, None] >> np.arange(each.last - each.first) & 1 for each, one in words]
        return np.asarray(np.concatenate(bits, axis=1) == 1)

    def rows(batch: int, head: int, numbers: Array) -> Array:
        words = zip(query_bits, key_bits, strict=True)
        common = [one[batch, head, numbers, None] & other[batch, head] for one, other in words]
        return np.asarray(np.any([each != 0 for each in common], axis=0))

    return _RouteTables(name, len(query_bits[0]), table, (query_bits[0].shape[-1], key_bits[0].shape[-1]), rows)


def _coordinate_name(mask: MaskIR, given: str) -> str:
    """The name of the coordinate that the input `given` holds."""
    return next(each.name for each in mask.queries.coordinates for _, source in each.sources if source == Given(given))


def _measure(selected: _RouteTables, heads: int) -> Selection:
    tables = [[selected.table(batch, head) for batch in range(selected.entries)] for head in range(heads)]
    return Selection(
        name=selected.name,
        query_groups=len(tables[0][0]),
        key_groups=tables[0][0].shape[1],
        heads=tuple(map(_of_head, tables)),
        overlap=_overlap(selected, heads),
    )


def _of_head(tables: list[Array]) -> HeadSelection:
    """The selection of a head, from the tables of all batch entries."""
    loads = [table.sum(axis=0) for table in tables]
    starts = np.unique(np.linspace(0, len(loads[0]), min(_STRETCHES, len(loads[0])), endpoint=False).astype(int))
    return HeadSelection(
        share=sum(int(load.sum()) for load in loads) / sum(table.size for table in tables),
        chosen=Distribution.of(np.concatenate([table.sum(axis=1) for table in tables])),
        load=Distribution.of(np.concatenate(loads)),
        profile=tuple(float(each.mean()) for each in np.split(loads[0], starts[1:])),
    )


def _overlap(selected: _RouteTables, heads: int) -> tuple[tuple[float, ...], ...]:
    """As `Selection.overlap`; 1 for two heads that selected nothing."""
    rows, columns = selected.size
    compared = np.unique(np.linspace(0, rows, max(1, min(rows, PAIRS // columns)), endpoint=False).astype(int))
    both = np.zeros((heads, heads))
    for batch in range(selected.entries):
        for chunk in np.array_split(compared, -(-len(compared) * columns // _BATCH)):
            taken = [selected.rows(batch, head, chunk).reshape(-1).astype(np.float32) for head in range(heads)]
            both += np.stack(taken) @ np.stack(taken).T  # integers below 2**24 are exact in float32
    each_head = np.diagonal(both)
    either = each_head[:, None] + each_head - both
    return tuple(map(tuple, np.where(either > 0, both / np.maximum(either, 1), 1.0).tolist()))
