"""What routes selected in one call: groups chosen by queries, the load of keys, what heads have in common.

Made from what `ir/meaning/route_meaning.py` finds. A *choice* is a pair of a query group and of a key group that it
selected; groups without tokens do not count. Of `nearest` and `balanced` each query is a group, and the key groups are
the centroids.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import Given, MaskIR
from maskdsl.ir.meaning.route_meaning import RouteSearch
from maskdsl.ir.routes import Balanced, Nearest, Rank, Route

_STRETCHES = 32
"""Into how many parts a profile divides the key groups, at most."""
PAIRS = 1 << 24
"""Of a head, about as many are compared with other heads: rows evenly spread, where there are more."""
_BATCH = 1 << 20
"""Of a head, about as many at once."""

Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Distribution:
    """Of whole numbers, of which there are some."""

    least: int
    mean: float
    most: int
    variation: float
    """The standard deviation over the mean; 0 where that is 0."""

    @staticmethod
    def of(numbers: Array) -> "Distribution":
        mean = float(numbers.mean())
        return Distribution(int(numbers.min()), mean, int(numbers.max()), float(numbers.std()) / mean if mean else 0.0)


@dataclass(frozen=True)
class HeadSelection:
    """Of one head, over all batch entries."""

    share: float
    """Choices of all pairs of groups."""
    chosen: Distribution
    """Key groups that a query group selected."""
    load: Distribution
    """Query groups that selected a key group."""
    profile: tuple[float, ...]
    """The mean load of neighbouring key groups, first to last."""


@dataclass(frozen=True)
class Selection:
    """Of one route."""

    name: str
    query_groups: int
    """With tokens, in one head of the first batch entry."""
    key_groups: int
    heads: tuple[HeadSelection, ...]
    overlap: tuple[tuple[float, ...], ...]
    """For each two heads how many pairs both selected, of those that either did: 1 for the same, 0 for none."""

    @property
    def mean_overlap(self) -> float | None:
        """Of two different heads; None if there are no two."""
        pairs = [self.overlap[one][other] for other in range(len(self.heads)) for one in range(other)]
        return sum(pairs) / len(pairs) if pairs else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "mean_overlap": self.mean_overlap}


def selections(mask: MaskIR, inputs: Inputs) -> tuple[Selection, ...]:
    """Of each route in declared order, from inputs with what is found."""
    return tuple(_measure(each, mask.heads) for each in _choices(mask, inputs))


@dataclass(frozen=True, eq=False)
class _Choices:
    """What one route found."""

    name: str
    entries: int
    """In the batch."""
    table: Callable[[int, int], Array]
    """Of a batch entry and a head: bool [query groups, key groups], of those that have tokens."""
    size: tuple[int, int]
    """Rows and columns that mean the same in all heads."""
    rows: Callable[[int, int, Array], Array]
    """Of a batch entry, a head and numbers of rows: bool [these rows, columns], which columns each of them selected."""


def _choices(mask: MaskIR, inputs: Inputs) -> Iterator[_Choices]:
    """Of each route that was found: one that nothing reads need not be."""
    for _, parts in groupby((each for each in mask.routed if not isinstance(each, Rank)), lambda each: each.span):
        first, *others = own = list(parts)
        if any(each.name not in inputs for each in own):
            continue
        match first:
            case Route():
                yield _of_table(mask, inputs, first)
            case Nearest():
                yield _of_clusters(mask, inputs, first)
            case Balanced():
                words = [first, *(each for each in others if isinstance(each, Balanced))]
                yield _of_members(mask, inputs, words[::2], words[1::2])


def _of_table(mask: MaskIR, inputs: Inputs, route: Route) -> _Choices:
    tables = inputs[route.name]

    def table(batch: int, head: int) -> Array:
        finding = RouteSearch(mask, inputs, None, None, batch, head)
        queries, keys = finding.exists(Side.QUERY, route.queries), finding.exists(Side.KEY, route.keys)
        return np.asarray(tables[batch, head][queries][:, keys])

    size = route.queries.count, route.keys.count
    return _Choices(route.name, len(tables), table, size, lambda batch, head, rows: tables[batch, head, rows])


def _of_clusters(mask: MaskIR, inputs: Inputs, found: Nearest) -> _Choices:
    name = _coordinate_name(mask, found.name)
    queries, keys = (inputs[f"{name}_{side}"] for side in ("queries", "keys"))
    clusters = np.arange(inputs[found.centroids].shape[1])

    def rows(batch: int, head: int, numbers: Array) -> Array:
        return np.asarray(queries[batch, head, numbers, None] == keys[batch, head])

    size = queries.shape[-1], keys.shape[-1]
    return _Choices(name, len(queries), lambda batch, head: queries[batch, head, :, None] == clusters, size, rows)


def _of_members(mask: MaskIR, inputs: Inputs, queries: list[Balanced], keys: list[Balanced]) -> _Choices:
    """From words of bits, one bit for each centroid."""
    name = _coordinate_name(mask, queries[0].name)
    if len(queries) > 1:
        name = name.removesuffix(f"_{queries[0].first}")
    asked, given = ([inputs[each.name] for each in words] for words in (queries, keys))

    def table(batch: int, head: int) -> Array:
        words = zip(queries, asked, strict=True)
        bits = [one[batch, head][:, None] >> np.arange(each.last - each.first) & 1 for each, one in words]
        return np.asarray(np.concatenate(bits, axis=1) == 1)

    def rows(batch: int, head: int, numbers: Array) -> Array:
        words = zip(asked, given, strict=True)
        common = [one[batch, head, numbers, None] & other[batch, head] for one, other in words]
        return np.asarray(np.any([each != 0 for each in common], axis=0))

    return _Choices(name, len(asked[0]), table, (asked[0].shape[-1], given[0].shape[-1]), rows)


def _coordinate_name(mask: MaskIR, found: str) -> str:
    """Of the coordinate that is found by this name."""
    return next(each.name for each in mask.queries.coordinates for _, source in each.sources if source == Given(found))


def _measure(chosen: _Choices, heads: int) -> Selection:
    tables = [[chosen.table(batch, head) for batch in range(chosen.entries)] for head in range(heads)]
    return Selection(
        name=chosen.name,
        query_groups=len(tables[0][0]),
        key_groups=tables[0][0].shape[1],
        heads=tuple(map(_of_head, tables)),
        overlap=_overlap(chosen, heads),
    )


def _of_head(tables: list[Array]) -> HeadSelection:
    """From the tables of all batch entries."""
    loads = [table.sum(axis=0) for table in tables]
    starts = np.unique(np.linspace(0, len(loads[0]), min(_STRETCHES, len(loads[0])), endpoint=False).astype(int))
    return HeadSelection(
        share=sum(int(load.sum()) for load in loads) / sum(table.size for table in tables),
        chosen=Distribution.of(np.concatenate([table.sum(axis=1) for table in tables])),
        load=Distribution.of(np.concatenate(loads)),
        profile=tuple(float(part.mean()) for part in np.split(loads[0], starts[1:])),
    )


def _overlap(chosen: _Choices, heads: int) -> tuple[tuple[float, ...], ...]:
    """See `Selection.overlap`. Two heads that selected nothing selected the same."""
    rows, columns = chosen.size
    seen = np.unique(np.linspace(0, rows, max(1, min(rows, PAIRS // columns)), endpoint=False).astype(int))
    both = np.zeros((heads, heads))
    for batch in range(chosen.entries):
        for part in np.array_split(seen, -(-len(seen) * columns // _BATCH)):
            taken = [chosen.rows(batch, head, part).reshape(-1).astype(np.float32) for head in range(heads)]
            both += np.stack(taken) @ np.stack(taken).T  # whole numbers below 2**24: exact
    own = np.diagonal(both)
    either = own[:, None] + own - both
    return tuple(map(tuple, np.where(either > 0, both / np.maximum(either, 1), 1.0).tolist()))
