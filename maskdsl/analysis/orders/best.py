"""The best order of a mask and the table of all orders compared, for `Mask.best_order` and `maskdsl order`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, field
from typing import Any

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.orders.graph import GRAPH, NAME, reordered
from maskdsl.analysis.orders.layouts import layout_text, spaces_of
from maskdsl.analysis.orders.order_trials import OrderTrials, computed_pairs, full_tiles, partial_tiles
from maskdsl.analysis.orders.search import ROWS, OrderSearch, Outcome
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.head_classes import check_size
from maskdsl.base.display import Displayed
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs


@dataclass(frozen=True)
class Row:
    """One order with one tile size. Counts are over all heads and batch entries."""

    order: str
    """The order in the language, without the word `order`; or `declared`."""
    kind: str
    """`declared`, `written`, `axes`, `coordinates`, `tiles`, `curve`, `heads` or `graph`."""
    block: tuple[int, int]
    density: float
    """The share of tiles that are not empty."""
    full_tiles: int
    partial_tiles: int
    waste: float
    """The share of computed pairs that are masked."""
    seconds: float
    """Predicted seconds of the forward kernel, on a GPU kept busy by other batch entries."""
    exact: bool
    """Whether all rows of tiles were classified; otherwise a sample of them stands for all."""


@dataclass(frozen=True)
class BestOrder(Displayed):
    """The best order with its tile size, and all orders that were compared."""

    order: str
    block: tuple[int, int]
    device: str
    head_dim: int
    rows: tuple[Row, ...]
    """The best order first, the others by predicted time."""
    positions: Array | None = field(compare=False, repr=False)
    """int32 [tokens]: the sort key of the row of kind `graph`; None if there is none. That order is never the best, as
    the pattern would need one more input: `input position: int[tokens]`, `order by position`.
    """

    @property
    def declared(self) -> Row:
        """The declared order with the best tile size."""
        return next(row for row in self.rows if row.order == "declared" and row.block == self.block)

    @property
    def speedup(self) -> float:
        """The predicted speedup over the declared order."""
        return self.declared.seconds / self.rows[0].seconds if self.rows[0].seconds else 1.0

    @property
    def as_graph(self) -> Row | None:
        """The order of tokens as nodes of a graph, with the best tile size; None if there is none."""
        return next((row for row in self.rows if row.kind == GRAPH and row.block == self.block), None)

    def _shown_(self) -> tuple[object, ...]:
        return (self,)

    def __repr__(self) -> str:
        gain = f"predicted {self.speedup:.2f} times as fast as declared on {self.device}"
        return f"BestOrder({self.order!r}, block={self.block}: {gain}, of {len(self.rows)} compared)"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON; without the positions."""
        named = {name: getattr(self, name) for name in ("order", "block", "device", "head_dim", "speedup")}
        return named | {"rows": [asdict(row) for row in self.rows]}


def best_order(
    mask: MaskIR,
    inputs: Mapping[str, object],
    blocks: Sequence[tuple[int, int]],
    device: Device,
    head_dim: int = 64,
) -> BestOrder:
    """Searches the orders of all spaces, with tiles of each of these sizes.

    `inputs` has those that decide the tiles, as at the call. Raises `AttnError` if one is missing or does not fit.
    """
    given = input_arrays(mask, inputs, relation_inputs(mask))
    chosen: list[Row] = []
    others: list[Row] = []
    for block in blocks:
        check_size(mask, block)
        search = OrderSearch(mask, given, block, device, head_dim, tuple(spaces_of(mask)), {})
        best = search.run()
        tried = [each for each in (search.glanced | search.judged).values() if each is not best]
        attended = _attended_pairs(search)
        if not chosen:  # the same for all tile sizes
            graph = reordered(mask, given, attended)
        if graph is not None:
            trials = OrderTrials(graph.mask, {**given, NAME: graph.positions}, block, ROWS)
            tried.append(search.outcome(trials, graph.layout, GRAPH))
        first, *rest = _rows(search, attended, [best, *tried])
        chosen.append(first)
        others += rest
    chosen.sort(key=lambda row: row.seconds)
    ranked = sorted([*chosen[1:], *others], key=lambda row: row.seconds)
    positions = None if graph is None else graph.positions
    return BestOrder(chosen[0].order, chosen[0].block, device.name, head_dim, (chosen[0], *ranked), positions)


def _attended_pairs(search: OrderSearch) -> float:
    """Attended pairs of all heads and batch entries, counted in the order with the fewest computed pairs."""
    least = min(search.judged.values(), key=lambda outcome: computed_pairs(outcome.trial.tiles))
    return search.trials.attended_share(least.layout) * computed_pairs(least.trial.tiles)


def _rows(search: OrderSearch, attended: float, outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """Yields the rows of the table."""
    for outcome in outcomes:
        tiles = outcome.trial.tiles
        computed, full, partial = computed_pairs(tiles), full_tiles(tiles), partial_tiles(tiles)
        every = tiles.query_blocks * tiles.key_blocks * tiles.class_of_head.size
        yield Row(
            order=layout_text(search.mask, outcome.layout),
            kind=outcome.kind,
            block=search.block,
            density=(full + partial) / max(every, 1),
            full_tiles=full,
            partial_tiles=partial,
            waste=max(0.0, 1 - attended / computed) if computed else 0.0,
            seconds=outcome.seconds,
            exact=outcome.trial.exact,
        )
