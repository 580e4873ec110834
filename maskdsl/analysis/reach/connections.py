"""Connections between all pairs of tokens: which are connected, after how many layers, and which never are.

Computed on rows of bits: of tokens for short sequences, else of blocks of tokens in one memory order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from maskdsl.analysis.reach.arrival import Arrival, complete, follow_readers, islands
from maskdsl.analysis.reach.bit_rows import ConnectedPairs, dense, spread
from maskdsl.analysis.reach.components import (
    Components,
    components_of_bits,
    components_of_graph,
    connected_pairs,
    cover,
    transposed,
)
from maskdsl.analysis.reach.hops import Hop, LayerHops, find_layer, sources
from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.records import dataclass
from maskdsl.ir.stack import StackIR

MOST_CELLS = 1 << 13
"""The most cells of rows of bits: they take 8 MiB then."""
_MOST_WORDS = 1 << 25
"""The most words that one layer reads."""
_MOST_EDGES = 1 << 18
"""The most edges of a graph of tokens."""
TILES = 1 << 10
"""About the number of blocks of longer sequences."""
MOST_WORK = 1 << 27
"""About the most runs and tokens visited by all searches from single tokens."""
_STEPS = 8
"""About the layers that a search through one component is expected to take."""


@dataclass(frozen=True)
class Connections:
    """The connections between tokens after any number of layers: of each two, both draw, one draws, or neither.

    By blocks (`block` > 1) numbers of pairs are lower bounds, and so are numbers of components unless
    `exact_components`; then pairs are exact too if `one_way` is known.
    """

    block: int
    """Tokens of a block; 1 if all numbers are exact."""
    everything: bool | None
    """Whether each token draws from every token after enough layers. None: not known from blocks."""
    layers: int | None
    """The length of the longest shortest path. By blocks: a lower bound on the layers that connect everything."""
    most_layers: int | None
    """The same; by blocks an upper bound, None if none is known."""
    pairs: tuple[int, ...]
    """Ordered pairs after 0, 1, 2, ... layers, tokens with themselves included. Empty by blocks."""
    both_ways: int
    """Unordered pairs of different tokens that draw from each other."""
    one_way: int | None
    """Unordered pairs of which one draws from the other. None: not known from blocks."""
    never: int
    """Unordered pairs of which neither draws from the other."""
    components: Components
    exact_components: bool
    path: tuple[int, ...]
    """The tokens of a longest shortest path, from the drawing token to the one drawn from. Empty by blocks."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        return asdict(self) | {"pairs": list(self.pairs), "path": list(self.path)}


def find_connections(
    stack: StackIR, given: Sequence[Mapping[str, object]], different: Sequence[LayerHops], block: int
) -> Connections:
    """The connections of a stack. `different` has the hops of its different layers between blocks of `block` tokens."""
    length = stack.length
    hops = [hop for layer in different for hop in layer.all]
    runs = sum(len(hop.runs.start) for hop in hops)
    if block == 1 and length <= MOST_CELLS and runs * (length // 64) <= _MOST_WORDS:
        return _by_tokens([different[number].all for number in stack.index], length)
    connections = _in_common_layout(stack, given, different, block)
    if any(layer.possible for layer in different):
        return connections
    steps = MOST_WORK // (length + runs)
    sizes = islands(tuple(hops), length, steps // _STEPS, steps)
    if sizes is not None:
        return _of_islands(connections, sizes)
    plain = block == 1 and all(hop.members is None for hop in hops)
    if plain and runs <= _MOST_EDGES and sum(len(cover(hop.runs, length)[0]) for hop in hops) <= _MOST_EDGES:
        return replace(connections, components=components_of_graph(hops, length), exact_components=True)
    return connections


def _in_common_layout(
    stack: StackIR, given: Sequence[Mapping[str, object]], different: Sequence[LayerHops], block: int
) -> Connections:
    """The connections between blocks, in the memory order of all layers if it is the same, else in declared order."""
    size = 1 << (stack.length // TILES).bit_length()
    shared = _one_layout([hop for layer in different for hop in layer.all])
    if size != block or not shared:
        masks = zip(stack.different, given, strict=True)
        different = [find_layer(mask, size, inputs, declared=not shared) for mask, inputs in masks]
    return _by_blocks([_between_cells(different[number]) for number in stack.index], size, stack.length)


def _of_islands(connections: Connections, sizes: Sequence[int]) -> Connections:
    """The connections of strongly connected components of these sizes without hops between them."""
    both = sum(size * (size - 1) // 2 for size in sizes)
    all_pairs = sum(sizes) * (sum(sizes) - 1) // 2
    return replace(
        connections,
        everything=len(sizes) == 1,
        layers=connections.layers if len(sizes) == 1 else None,
        both_ways=both,
        one_way=0,
        never=all_pairs - both,
        components=Components.of_sizes(sizes, sizes),
        exact_components=True,
    )


def narrowed(connections: Connections, draws: Arrival, readers: Arrival, period: int) -> Connections:
    """Block-wise connections, narrowed by the arrival from and to one token.

    If the token draws from all tokens and all read it, everything is connected through it, which bounds the layers.
    """
    if connections.everything is False or connections.block == 1:
        return connections
    if not (complete(draws.latest) and complete(readers.latest)):
        known = complete(draws.earliest) and complete(readers.earliest)
        return connections if known else replace(connections, everything=False, layers=None)
    passes = -(-int(draws.latest.max()) // period) * period
    most = passes + int(readers.latest.max())
    least = max(connections.layers or 0, int(draws.earliest.max()), int(readers.earliest.max()))
    if connections.most_layers is not None:
        most = min(most, connections.most_layers)
    length = len(draws.latest)
    whole = _of_islands(connections, [length])
    return replace(whole, layers=least, most_layers=most)


def _by_tokens(layers: Sequence[tuple[Hop, ...]], length: int) -> Connections:
    """The exact connections between tokens."""
    hops = [hop for each in layers for hop in each]
    order = hops[0].order if hops and _one_layout(hops) else None
    in_memory_order = (
        [tuple(replace(hop, order=None) for hop in each) for each in layers] if order is not None else layers
    )
    connected = spread(in_memory_order, length, reflexive=True)
    sizes = np.ones(length, dtype=np.int64)
    back = transposed(connected.ever)
    both, one = connected_pairs(connected.ever, back, sizes)
    return Connections(
        block=1,
        everything=both == length * (length - 1) // 2,
        layers=connected.layers,
        most_layers=connected.layers,
        pairs=connected.pairs,
        both_ways=both,
        one_way=one,
        never=length * (length - 1) // 2 - both - one,
        components=components_of_bits(connected.ever, back, sizes),
        exact_components=True,
        path=_longest_path(layers, connected, order) if connected.layers else (),
    )


def _by_blocks(layers: Sequence[LayerHops], size: int, length: int) -> Connections:
    """Bounds on the connections, between blocks: full tiles connect for certain, empty tiles never."""
    cells = -(-length // size)
    sizes = np.full(cells, size, dtype=np.int64)
    sizes[-1] = length - (cells - 1) * size
    least = spread([layer.certain for layer in layers], cells, reflexive=False)
    most = spread([layer.all for layer in layers], cells, reflexive=True)
    back = transposed(most.ever)
    both, _ = connected_pairs(least.ever, transposed(least.ever), sizes)
    possible, one_way = connected_pairs(most.ever, back, sizes)
    all_pairs = length * (length - 1) // 2
    everything = True if both == all_pairs else None if possible == all_pairs else False
    return Connections(
        block=size,
        everything=everything,
        layers=None if everything is False else most.layers,
        most_layers=least.layers if everything else None,
        pairs=(),
        both_ways=both,
        one_way=None,
        never=all_pairs - possible - one_way,
        components=components_of_bits(most.ever, back, sizes),
        exact_components=False,
        path=(),
    )


def _one_layout(hops: Sequence[Hop]) -> bool:
    """Whether queries and keys of all hops have the same memory order."""
    orders = [hop.order for hop in hops]
    known = [order for order in orders if order is not None]
    alike = not known or (len(known) == len(orders) and all(np.array_equal(order, known[0]) for order in known))
    return alike and all(hop.members is None for hop in hops)


def _between_cells(layer: LayerHops) -> LayerHops:
    """The hops between blocks in the common memory order, in place of tokens."""
    certain = [replace(hop, order=None, members=_cell_members(hop, whole=True)) for hop in layer.certain]
    possible = [replace(hop, order=None, members=_cell_members(hop, whole=False)) for hop in layer.possible]
    pooled = [hop for hop in layer.certain if hop.members is not None]  # pooled keys touch more blocks than they fill
    possible += [replace(hop, order=None, members=_cell_members(hop, whole=False)) for hop in pooled]
    return LayerHops(tuple(certain), tuple(possible))


def _cell_members(hop: Hop, whole: bool) -> Runs | None:
    """For each block of keys, the blocks of tokens that it is pooled from, in part or (`whole`) completely."""
    if hop.members is None:
        return None
    key, token = hop.members.expand()
    pairs = np.unique(np.stack([key // hop.block, token]), axis=1)
    cells, counts = np.unique(np.stack([pairs[0], pairs[1] // hop.block]), axis=1, return_counts=True)
    sizes = np.minimum(hop.block, hop.length - cells[1] * hop.block)
    row, column = cells[:, counts == sizes] if whole else cells
    return Runs.of_segments(-(-hop.members.rows // hop.block), row, column, column + 1)


def _longest_path(layers: Sequence[tuple[Hop, ...]], connected: ConnectedPairs, order: Array | None) -> tuple[int, ...]:
    """The tokens of a path that only the last layer completes. Rows of bits are in memory order, given by `order`."""
    late = connected.ever & ~connected.before
    row = int(np.argmax(late.any(axis=1)))
    column = int(np.argmax(dense(late[row][None], len(late))))
    reader, source = (row, column) if order is None else (int(order[row]), int(order[column]))
    arrival, _ = follow_readers(layers, source, len(late), connected.layers)
    path = [reader]
    for number in range(connected.layers - 1, -1, -1):
        if not 0 <= arrival[path[-1]] <= number:  # not reached yet: it drew from a token that was
            last = np.arange(len(late)) == path[-1]
            near = sources(layers[number % len(layers)], last) & (arrival >= 0) & (arrival <= number)
            path.append(int(np.argmax(near)))
    return tuple(path)
